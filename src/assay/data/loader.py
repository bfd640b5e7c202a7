"""Batches, each a pure function of (documents, objective, sizes, seed, epoch, step).

An epoch visits every piece once, but for the rows that do not fill a last batch (others each epoch). Any
batch can be made without those before it: a resumed run goes on at `start`, and ranks make their own rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from assay.data.batch import Batch, assemble
from assay.data.packing import Pieces, Rows, cut, pack
from assay.data.shards import TokenDocuments
from assay.errors import UserError
from assay.objectives.base import Example, Ints, Key, Lengths, Objective, Sizes
from assay.objectives.registry import check_lengths

__all__ = ["Loader", "batches"]

_PERMUTATION = (1 << 64) - 1
"""The 'document' of the key that shuffles an epoch: no piece has that number."""


@dataclass(frozen=True, eq=False)
class _Plan:
    """An epoch: which row holds which pieces, which batch which rows."""

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
            decoder_length: positions of the decoder; None: what goes with `length` for this objective.
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
        full, last = (objective.raw_length(self.lengths, ends=ends) for ends in (False, True))
        self.pieces: Pieces = cut(documents.lengths, full=full, last=last, shortest=objective.shortest)
        if not len(self.pieces):
            raise UserError(
                f"none of the {len(documents)} documents has the {objective.shortest} tokens of an example.",
                "Give more text.",
            )
        self._plans: dict[int, _Plan] = {}

    def steps(self, epoch: int) -> int:
        """Batches of an epoch, at least 1. It may differ between epochs where lengths are drawn."""
        return len(self._plan(epoch).batches)

    def padding(self, epoch: int) -> float:
        """Share of an epoch's positions that are padding."""
        rows = self._plan(epoch).rows
        sizes = self._sizes(epoch)
        taken = sizes.inputs.sum() + (0 if sizes.decoder is None else sizes.decoder.sum())
        return float(1 - taken / (len(rows) * (self.lengths.inputs + (self.lengths.decoder or 0))))

    def place(self, epoch: int, step: int) -> tuple[int, int]:
        """(epoch, step) with the step inside its epoch: (0, k) counts k batches from the very beginning."""
        while step >= (steps := self.steps(epoch)):
            epoch, step = epoch + 1, step - steps
        return epoch, step

    def batch(self, epoch: int, step: int) -> Batch:
        """The batch at a place; see `place` for steps beyond the epoch's end."""
        epoch, step = self.place(epoch, step)
        plan = self._plan(epoch)
        rows = plan.batches[step][self.rank :: self.ranks]
        examples = [[self._example(int(piece), epoch) for piece in plan.rows[int(row)]] for row in rows]
        objective = self.objective
        return assemble(examples, self.lengths, objective.family, objective.vocabulary, epoch=epoch, step=step)

    def iterate(self, start: tuple[int, int] = (0, 0)) -> Iterator[Batch]:
        """All batches from a place on, without end."""
        epoch, step = start
        while True:
            batch = self.batch(epoch, step)
            yield batch
            epoch, step = batch.epoch, batch.step + 1

    def _example(self, piece: int, epoch: int) -> Example:
        pieces = self.pieces
        start = int(pieces.start[piece])
        tokens = self.documents[int(pieces.document[piece])][start : start + int(pieces.length[piece])]
        return self.objective.example(tokens, Key(self.seed, epoch, piece), ends=bool(pieces.ends[piece]))

    def _sizes(self, epoch: int) -> Sizes:
        pieces = self.pieces
        numbers = np.arange(len(pieces))
        return self.objective.sizes(pieces.length, pieces.ends, numbers, seed=self.seed, epoch=epoch)

    def _plan(self, epoch: int) -> _Plan:
        if epoch not in self._plans:
            while len(self._plans) >= 2:
                del self._plans[next(iter(self._plans))]
            self._plans[epoch] = self._make_plan(epoch)
        return self._plans[epoch]

    def _make_plan(self, epoch: int) -> _Plan:
        generator = Key(self.seed, epoch, _PERMUTATION).generator()
        rows = pack(self._sizes(epoch), self.lengths, generator.permutation(len(self.pieces)))
        order = generator.permutation(len(rows))
        if len(order) < self.batch_size:  # too few rows for one batch: some come twice
            return _Plan(rows, np.resize(order, (1, self.batch_size)))
        order = order[: len(order) - len(order) % self.batch_size]
        # Rows of one document share batches, so that most batches need no mask beyond the causal one.
        order = order[np.argsort(~rows.single[order], kind="stable")]
        grouped = order.reshape(-1, self.batch_size)
        return _Plan(rows, grouped[generator.permutation(len(grouped))])


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
