"""A batch: several rows, each of one or more documents, with the masks that keep documents apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from assay.objectives.base import Example, Ints, Lengths, Vocabulary
from assay.spec.masks import Bidirectional, Causal, Mask, MaskFacts, Padding, Prefix, Rule, SameDocument

__all__ = ["Batch", "assemble"]


@dataclass(frozen=True, eq=False)
class Batch:
    """NumPy arrays for one step: B rows of S positions (and T decoder positions).

    Padding has document 0, position 0, the pad token and weight 0.
    """

    input_ids: Ints
    """[B, S] int64: tokens of the only stack, or of the encoder."""
    targets: Ints
    """[B, S], with a decoder [B, T], int64: what each position predicts, where its weight is not 0."""
    weights: NDArray[np.float32]
    """As `targets`: 1 where there is a target."""
    mask: Mask
    """Who sees whom among `input_ids`."""
    position_ids: Ints
    """[B, S] int64, from 0 in each document."""
    document_ids: Ints
    """[B, S] int64: 1, 2 ... along the row; 0 is padding."""
    decoder_input_ids: Ints | None = None
    """[B, T] int64."""
    decoder_mask: Mask | None = None
    """Who sees whom among `decoder_input_ids`."""
    cross_mask: Mask | None = None
    """Which of `input_ids` (keys) each of `decoder_input_ids` (queries) sees."""
    decoder_position_ids: Ints | None = None
    """[B, T] int64, from 0 in each document."""
    decoder_document_ids: Ints | None = None
    """[B, T] int64: the same documents as on the encoder's side of the row."""
    single_document: bool = False
    """Each row holds one document: masks then say no more than they must (plain `Causal` where there is no
    prefix: padding lies behind every real token, so no real token sees it)."""
    epoch: int = 0
    """The pass over the data that it belongs to."""
    step: int = 0
    """Its number in the epoch; the next batch is (epoch, step + 1)."""

    @property
    def target_positions(self) -> Ints:
        """[targets] int64: indices of all targets in the flattened [B * S] (or [B * T])."""
        return np.flatnonzero(self.weights)

    @property
    def target_count(self) -> int:
        """How many targets there are: what a loss is averaged over, across micro-batches and ranks."""
        return int(np.count_nonzero(self.weights))

    @property
    def token_count(self) -> int:
        """Positions that are not padding, on both sides."""
        decoder = 0 if self.decoder_document_ids is None else np.count_nonzero(self.decoder_document_ids)
        return int(np.count_nonzero(self.document_ids) + decoder)

    @property
    def padding(self) -> float:
        """Share of positions that are padding, on both sides together."""
        positions = self.document_ids.size
        if self.decoder_document_ids is not None:
            positions += self.decoder_document_ids.size
        return 1 - self.token_count / positions


class _Side:
    """Rows of one stack while they are filled."""

    def __init__(self, rows: int, length: int, pad: int) -> None:
        self.ids = np.full((rows, length), pad, dtype=np.int64)
        self.positions = np.zeros((rows, length), dtype=np.int64)
        self.documents = np.zeros((rows, length), dtype=np.int64)
        self.filled = [0] * rows

    def put(self, row: int, document: int, ids: Ints, positions: Ints | None) -> slice:
        begin = self.filled[row]
        where = slice(begin, begin + len(ids))
        assert where.stop <= self.ids.shape[1], "the examples of a row are longer than the row"
        self.ids[row, where] = ids
        self.positions[row, where] = np.arange(len(ids)) if positions is None else positions
        self.documents[row, where] = document
        self.filled[row] = where.stop
        return where


def assemble(
    rows: Sequence[Sequence[Example]],
    lengths: Lengths,
    family: str,
    vocabulary: Vocabulary,
    *,
    epoch: int = 0,
    step: int = 0,
) -> Batch:
    """Lay examples side by side, row by row, and compose the masks.

    Args:
        rows: the examples of each row, in order; they have to fit.
        lengths: positions of a row (decoder positions for an encoder-decoder).
        family: whose examples they are.
        vocabulary: knows the pad token.
        epoch, step: kept in the batch.
    """
    main = _Side(len(rows), lengths.inputs, vocabulary.pad)
    prefix = np.zeros_like(main.ids, dtype=bool)
    two = family == "encoder_decoder"
    decoder = _Side(len(rows), lengths.decoder or 0, vocabulary.pad) if two else None
    predicting = decoder or main
    targets = np.full_like(predicting.ids, vocabulary.pad)
    weights = np.zeros(targets.shape, dtype=np.float32)
    for row, examples in enumerate(rows):
        for document, example in enumerate(examples, start=1):
            where = main.put(row, document, example.inputs, example.positions)
            prefix[row, where.start : where.start + example.prefix] = True
            if decoder is not None:
                assert example.decoder_inputs is not None
                where = decoder.put(row, document, example.decoder_inputs, None)
            targets[row, where] = example.targets
            weights[row, where] = example.weights
    single = all(len(examples) == 1 for examples in rows)
    batch = Batch(
        input_ids=main.ids,
        targets=targets,
        weights=weights,
        mask=_decoder_mask(main.documents, prefix, single),
        position_ids=main.positions,
        document_ids=main.documents,
        single_document=single,
        epoch=epoch,
        step=step,
    )
    if decoder is None:
        return batch
    return replace(
        batch,
        mask=_reading_mask(main.documents, None, single),
        decoder_input_ids=decoder.ids,
        decoder_position_ids=decoder.positions,
        decoder_document_ids=decoder.documents,
        decoder_mask=_decoder_mask(decoder.documents, None, single),
        cross_mask=_reading_mask(main.documents, decoder.documents, single),
    )


def _decoder_mask(documents: Ints, prefix: NDArray[np.bool_] | None, single: bool) -> Mask:
    """Causal, with prefixes where there are any, within documents."""
    prefix = prefix if prefix is not None and prefix.any() else None
    rule: Rule = Causal() if prefix is None else Causal() | Prefix()
    if single:  # nothing to keep apart; padding comes last and is no prefix, so real tokens do not see it
        return Mask(rule, MaskFacts(prefix=prefix))
    return Mask(SameDocument() & rule, MaskFacts(prefix=prefix, document_ids=documents))


def _reading_mask(documents: Ints, queries: Ints | None, single: bool) -> Mask:
    """Everything of one's own document: an encoder, or a decoder that reads it."""
    if not single:
        return Mask(SameDocument(), MaskFacts(document_ids=documents, query_document_ids=queries))
    real = documents > 0
    if real.all():
        return Mask(Bidirectional())
    return Mask(Padding(), MaskFacts(key_mask=real))
