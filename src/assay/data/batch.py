"""A batch: several rows, each of one or more documents, with the masks that keep documents apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.objectives.base import Example, Ints, Lengths, Vocabulary
from assay.objectives.draws import halves, offsets, within
from assay.objectives.ragged import Examples
from assay.spec.masks import Bidirectional, Causal, Mask, MaskFacts, Padding, Prefix, Rule, SameDocument

__all__ = ["Batch", "assemble", "decoder_mask", "lay", "lay_several", "reading_mask"]


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
    """[B, S] int64, from 0 in each document; [B, 2, S] for two rows of positions (GLM)."""
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
    counted: bool = True
    """Positions only count: 0, 1, 2 ... in each document. False: they say more (GLM's), whatever the rows hold."""
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
    """Rows of one stack, filled."""

    def __init__(self, lengths: Ints, counts: Ints, room: int) -> None:
        """Args: lengths: of each example; counts: examples of each row; room: positions of a row."""
        taken = np.diff(offsets(lengths)[offsets(counts)])
        assert not len(taken) or taken.max() <= room, "the examples of a row are longer than the row"
        even = len(taken) > 0 and bool((taken == taken[0]).all())
        self.shape, self.even = (len(taken), room), int(taken[0]) if even else None
        self.filled = None if even else np.arange(room) < taken[:, None]
        self.counting = within(lengths)
        self.documents = self.put(np.repeat(within(counts) + 1, lengths), 0)

    def put(self, values: NDArray, fill: int) -> NDArray:
        """[rows, room] the examples' values, `fill` where there are none."""
        if self.even == self.shape[1]:  # whole rows, as long documents give: nothing to copy
            return values.reshape(self.shape)
        table = np.full(self.shape, fill, dtype=values.dtype)
        if self.even is None:
            table[self.filled] = values
        else:
            table[:, : self.even] = values.reshape(-1, self.even)
        return table

    def positions(self, given: Ints | None) -> Ints:
        """[rows, room] positions, or [rows, axes, room] where several rows of them are given."""
        if given is None or given.ndim == 1:
            return self.put(self.counting if given is None else given, 0)
        return np.stack([self.put(axis, 0) for axis in given], axis=1)


def assemble(
    rows: Sequence[Sequence[Example]],
    lengths: Lengths,
    family: str,
    vocabulary: Vocabulary,
    *,
    epoch: int = 0,
    step: int = 0,
) -> Batch:
    """`lay` for single examples, given row by row."""
    examples = Examples.of([example for row in rows for example in row])
    counts = np.array([len(row) for row in rows], dtype=np.int64)
    return lay(examples, counts, lengths, family, vocabulary, epoch=epoch, step=step)


def lay(
    examples: Examples,
    counts: Ints,
    lengths: Lengths,
    family: str,
    vocabulary: Vocabulary,
    *,
    epoch: int = 0,
    step: int = 0,
) -> Batch:
    """Lay examples side by side, row by row, and compose the masks.

    Args:
        examples: in the order of the rows; they have to fit.
        counts: [rows] how many examples each row has, at least 1.
        lengths: positions of a row (decoder positions for an encoder-decoder).
        family: whose examples they are.
        vocabulary: knows the pad token.
        epoch, step: kept in the batch.
    """
    return lay_several(examples, counts[None], lengths, family, vocabulary, epoch=epoch, step=step)[0]


def lay_several(
    examples: Examples,
    counts: Ints,
    lengths: Lengths,
    family: str,
    vocabulary: Vocabulary,
    *,
    epoch: int = 0,
    step: int = 0,
) -> list[Batch]:
    """`lay` for consecutive batches at once, `counts` [batches, rows]: less time for each; arrays are shared."""
    rows = counts.shape[1]
    flat = counts.reshape(-1)
    main = _Side(examples.input_lengths, flat, lengths.inputs)
    inputs, positions = main.put(examples.inputs, vocabulary.pad), main.positions(examples.positions)
    decoder, decoder_inputs, decoder_positions = None, None, None
    if family == "encoder_decoder":
        assert examples.target_lengths is not None and examples.decoder_inputs is not None
        decoder = _Side(examples.target_lengths, flat, lengths.decoder or 0)
        decoder_inputs = decoder.put(examples.decoder_inputs, vocabulary.pad)
        decoder_positions = decoder.positions(None)
    predicting = decoder or main
    targets, weights = predicting.put(examples.targets, vocabulary.pad), predicting.put(examples.weights, 0)
    prefix = None
    if examples.prefix.any():
        prefix = main.put(halves(examples.prefix, examples.input_lengths, np.array([True, False])), False)
    batches = []
    for number in range(len(counts)):
        here = slice(number * rows, (number + 1) * rows)
        single = bool((counts[number] == 1).all())
        documents = main.documents[here]
        shared: dict[str, Any] = {
            "input_ids": inputs[here],
            "position_ids": positions[here],
            "document_ids": documents,
            "targets": targets[here],
            "weights": weights[here],
            "single_document": single,
            "counted": examples.positions is None,
            "epoch": epoch,
            "step": step + number,
        }
        if decoder is not None:
            assert decoder_inputs is not None and decoder_positions is not None
            others = decoder.documents[here]
            shared |= {
                "mask": reading_mask(documents, None, single),
                "decoder_input_ids": decoder_inputs[here],
                "decoder_position_ids": decoder_positions[here],
                "decoder_document_ids": others,
                "decoder_mask": decoder_mask(others, None, single),
                "cross_mask": reading_mask(documents, others, single),
            }
        elif family == "encoder":
            shared["mask"] = reading_mask(documents, None, single)
        else:
            shown = None if prefix is None else prefix[here]
            shared["mask"] = decoder_mask(documents, shown if shown is not None and shown.any() else None, single)
        batches.append(Batch(**shared))
    return batches


def decoder_mask(documents: Ints, prefix: NDArray[np.bool_] | None, single: bool) -> Mask:
    """Causal, with prefixes where there are any, within documents."""
    rule: Rule = Causal() if prefix is None else Causal() | Prefix()
    if single:  # nothing to keep apart; padding comes last and is no prefix, so real tokens do not see it
        return Mask(rule, MaskFacts(prefix=prefix))
    return Mask(SameDocument() & rule, MaskFacts(prefix=prefix, document_ids=documents))


def reading_mask(documents: Ints, queries: Ints | None, single: bool) -> Mask:
    """Everything of one's own document: an encoder, or a decoder that reads it."""
    if not single:
        return Mask(SameDocument(), MaskFacts(document_ids=documents, query_document_ids=queries))
    real = documents > 0
    if real.all():
        return Mask(Bidirectional())
    return Mask(Padding(), MaskFacts(key_mask=real))
