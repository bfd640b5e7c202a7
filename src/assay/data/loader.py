"""Batches, each a pure function of (documents, objective, sizes, seed, epoch, step).

An epoch visits every piece once, but for the rows that do not fill a last batch (others each epoch). Any
batch can be made without those before it: a resumed run goes on at `start`, and ranks make their own rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from assay.data.batch import Batch, lay_several
from assay.data.boundaries import BITS
from assay.data.packing import Pieces, Rows, cut, cut_to_fit, pack
from assay.data.shards import TokenDocuments
from assay.errors import UserError
from assay.objectives.base import Ints, Key, Lengths, Objective, Sizes
from assay.objectives.ragged import Texts, gather
from assay.objectives.registry import check_lengths, least_length

__all__ = ["Loader", "batches"]

_PERMUTATION = (1 << 64) - 1
"""The 'document' of the key that shuffles an epoch: no piece has that number."""
_TOGETHER = 1 << 16
"""Positions that are made at a time: calls of NumPy cost as much as the work on a few thousand."""
_SAMPLE = 4096
"""Pieces that the decoder's length is tried on."""


@dataclass(frozen=True, eq=False)
class _Plan:
    """An epoch: which row holds which pieces, which batch which rows."""

    pieces: Pieces
    sizes: Sizes
    rows: Rows
    batches: Ints
    """[steps, batch_size] indices of rows."""


class Loader:
    """Batches of documents for an objective, by (epoch, step)."""

    def __init__(
        self,
        documents: TokenDocuments,
        objective: Objective,
        *,
        batch_size: int,
        length: int,
        decoder_length: int | None = None,
        seed: int = 0,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        """Cut documents into pieces; nothing is drawn yet.

        Args:
            documents: raw tokens.
            objective: makes an example of each piece.
            batch_size: rows of a batch, over all ranks together.
            length: positions of a row (of the encoder, where there are two stacks).
            decoder_length: positions of the decoder; None: what goes with `length` for this objective and documents.
            seed: with epoch and step, decides every batch.
            rank, ranks: this process's share: rows rank, rank + ranks ... of each batch.

        Raises:
            UserError: no example fits the lengths, no document is long enough, or batch_size does not divide.
        """
        if batch_size < 1 or batch_size % ranks:
            raise UserError(
                f"batch_size = {batch_size}: not a positive multiple of the {ranks} processes that share it.",
                f"Give a multiple of {ranks}.",
            )
        assert 0 <= rank < ranks
        self.documents, self.objective = documents, objective
        self.batch_size, self.seed, self.rank, self.ranks = batch_size, seed, rank, ranks
        self.lengths = check_lengths(objective, Lengths(length, decoder_length))
        self._check_flags()
        shape = Lengths(length, decoder_length)
        self._capacity = self.lengths  # what pieces are cut for
        self._cut: Pieces | None = None
        if not len(self.pieces(0)):
            raise UserError(
                f"none of the {len(documents)} documents has the {objective.shortest} tokens of an example.",
                "Give more text.",
            )
        if shape.decoder is None and self.lengths.decoder is not None:
            self.lengths = self._fitted()
        self._plans: dict[int, _Plan] = {}
        self._group = max(1, _TOGETHER // (batch_size // ranks * length))
        self._made: tuple[tuple[int, int], list[Batch]] | None = None

    def _check_flags(self) -> None:
        lacking = sorted(self.objective.needs - self.documents.boundaries)
        if lacking:
            raise UserError(
                f"{type(self.objective).__name__} needs to know where {' and '.join(lacking)} begin, and these "
                "documents come as bare tokens.",
                f"Tokenise text with assay, give {' and '.join(lacking)} to TokenDocuments.from_arrays, or change the "
                "objective's settings (permutation = 0, whole_word = false).",
            )

    def pieces(self, epoch: int) -> Pieces:
        """The pieces that an epoch visits: the same in all, unless what fits into a row depends on chance."""
        objective, lengths = self.objective, self.documents.lengths
        if objective.varies:
            return cut_to_fit(
                lengths,
                least=least_length(objective, self._capacity),
                shortest=objective.shortest,
                fitting=lambda numbers: objective.fitting(self._capacity, numbers, seed=self.seed, epoch=epoch),
            )
        if self._cut is None:
            middle, last = (objective.raw_length(self._capacity, ends=ends) for ends in (False, True))
            self._cut = cut(lengths, full=middle, last=last, shortest=objective.shortest)
        return self._cut

    def _fitted(self) -> Lengths:
        """The decoder length that leaves the least padding with these documents.

        What goes with full pieces is kept where it leaves under 3%; short documents have more to predict for each
        token that they show. Decided by the first epoch's pieces, some thousands of them.
        """
        pieces = self.pieces(0)
        sizes = self._sizes(pieces, 0)
        assert sizes.decoder is not None and self.lengths.decoder is not None
        chosen = Key(self.seed, 0, _PERMUTATION).generator().permutation(len(pieces))[:_SAMPLE]
        some = Sizes(sizes.inputs[chosen], sizes.decoder[chosen])
        ratio = sizes.decoder.sum() / sizes.inputs.sum()
        least = int(sizes.decoder.max())

        def padding(decoder: int) -> float:
            lengths = Lengths(self.lengths.inputs, decoder)
            rows = len(pack(some, lengths, np.arange(len(chosen))))
            return float(1 - (some.inputs.sum() + some.decoder.sum()) / (rows * sum(lengths)))  # type: ignore[union-attr, arg-type]

        best, share = self.lengths.decoder, padding(self.lengths.decoder)
        if share < 0.03:
            return self.lengths
        for stretch in (0.97, 1.0, 1.03, 1.06, 1.1, 1.15):
            decoder = max(least, round(self.lengths.inputs * ratio * stretch))
            if (found := padding(decoder)) < share:
                best, share = decoder, found
        return Lengths(self.lengths.inputs, best)

    def steps(self, epoch: int) -> int:
        """Batches of an epoch, at least 1. It may differ between epochs where lengths are drawn."""
        return len(self._plan(epoch).batches)

    def padding(self, epoch: int) -> float:
        """Share of an epoch's positions that are padding."""
        plan = self._plan(epoch)
        sizes = plan.sizes
        taken = sizes.inputs.sum() + (0 if sizes.decoder is None else sizes.decoder.sum())
        return float(1 - taken / (len(plan.rows) * (self.lengths.inputs + (self.lengths.decoder or 0))))

    def place(self, epoch: int, step: int) -> tuple[int, int]:
        """(epoch, step) with the step inside its epoch: (0, k) counts k batches from the very beginning."""
        while step >= (steps := self.steps(epoch)):
            epoch, step = epoch + 1, step - steps
        return epoch, step

    def batch(self, epoch: int, step: int) -> Batch:
        """The batch at a place; see `place` for steps beyond the epoch's end."""
        epoch, step = self.place(epoch, step)
        group, place = divmod(step, self._group)
        if self._made is None or self._made[0] != (epoch, group):
            self._made = (epoch, group), self._make_batches(epoch, group * self._group)
        return self._made[1][place]

    def pieces_of(self, epoch: int, step: int) -> list[list[tuple[int, int, int]]]:
        """What each row of a batch holds: (document, its first token there, raw tokens), in order."""
        epoch, step = self.place(epoch, step)
        plan = self._plan(epoch)
        pieces = plan.pieces
        return [
            [(int(pieces.document[i]), int(pieces.start[i]), int(pieces.length[i])) for i in plan.rows[row]]
            for row in plan.batches[step, self.rank :: self.ranks].tolist()
        ]

    def _make_batches(self, epoch: int, step: int) -> list[Batch]:
        """A group of consecutive batches: examples are made for all at once, which takes less time for each."""
        plan, objective = self._plan(epoch), self.objective
        chosen = plan.batches[step : step + self._group, self.rank :: self.ranks]
        held = [plan.rows[row] for row in chosen.reshape(-1).tolist()]
        counts = np.array([len(row) for row in held], dtype=np.int64).reshape(chosen.shape)
        examples = objective.examples(self._texts(plan.pieces, np.concatenate(held), epoch))
        return lay_several(
            examples, counts, self.lengths, objective.family, objective.vocabulary, epoch=epoch, step=step
        )  # fmt: skip

    def iterate(self, start: tuple[int, int] = (0, 0)) -> Iterator[Batch]:
        """All batches from a place on, without end."""
        epoch, step = start
        while True:
            batch = self.batch(epoch, step)
            yield batch
            epoch, step = batch.epoch, batch.step + 1

    def _texts(self, pieces: Pieces, chosen: Ints, epoch: int) -> Texts:
        documents, lengths = self.documents, pieces.length[chosen]
        starts = documents.offsets[pieces.document[chosen]] + pieces.start[chosen]
        flags = {}
        if needs := self.objective.needs:
            assert documents.flags is not None
            marks = gather(np.asarray(documents.flags), starts, lengths)
            flags = {name: (marks & BITS[name]) > 0 for name in needs}
        return Texts(
            gather(np.asarray(documents.tokens), starts, lengths), lengths, pieces.number[chosen], pieces.ends[chosen],
            self.seed, epoch, **flags,
        )  # fmt: skip

    def _sizes(self, pieces: Pieces, epoch: int) -> Sizes:
        return self.objective.sizes(pieces.length, pieces.ends, pieces.number, seed=self.seed, epoch=epoch)

    def _plan(self, epoch: int) -> _Plan:
        if epoch not in self._plans:
            while len(self._plans) >= 2:
                del self._plans[next(iter(self._plans))]
            self._plans[epoch] = self._make_plan(epoch)
        return self._plans[epoch]

    def _make_plan(self, epoch: int) -> _Plan:
        generator = Key(self.seed, epoch, _PERMUTATION).generator()
        pieces = self.pieces(epoch)
        sizes = self._sizes(pieces, epoch)
        rows = pack(sizes, self.lengths, generator.permutation(len(pieces)))
        order = generator.permutation(len(rows))
        if len(order) < self.batch_size:  # too few rows for one batch: some come twice
            return _Plan(pieces, sizes, rows, np.resize(order, (1, self.batch_size)))
        order = order[: len(order) - len(order) % self.batch_size]
        # Rows of one document share batches, so that most batches need no mask beyond the causal one.
        order = order[np.argsort(~rows.single[order], kind="stable")]
        grouped = order.reshape(-1, self.batch_size)
        return _Plan(pieces, sizes, rows, grouped[generator.permutation(len(grouped))])


def batches(
    documents: TokenDocuments,
    objective: Objective,
    *,
    batch_size: int,
    length: int,
    decoder_length: int | None = None,
    seed: int = 0,
    start: tuple[int, int] = (0, 0),
    rank: int = 0,
    ranks: int = 1,
) -> Iterator[Batch]:
    """Batches without end from `start` = (epoch, step) on; see `Loader`.

    Raises:
        UserError: as `Loader`.
    """
    loader = Loader(
        documents,
        objective,
        batch_size=batch_size,
        length=length,
        decoder_length=decoder_length,
        seed=seed,
        rank=rank,
        ranks=ranks,
    )
    return loader.iterate(start)
