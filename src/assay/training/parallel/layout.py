"""Who holds what: the ranks of a run and how they are arranged. Arithmetic alone, without torch.

    ranks = replicas x shard

`shard` ranks together hold one copy of weights, gradients and moments, each every tensor's rows of its own; `replicas`
such groups hold copies of one another. Whatever the arrangement, rank r takes rows r, r + ranks, r + 2 ranks ... of
every batch, so batch k is the same batch on any number of ranks.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, NamedTuple

from assay.errors import UserError
from assay.spec.training import ParallelKind, TrainSpec

__all__ = ["Launch", "Layout", "launched", "plan_layout"]


class Launch(NamedTuple):
    """What a launcher such as torchrun says to each process that it starts."""

    rank: int = 0
    """This process among all."""
    size: int = 1
    """All processes."""
    local_rank: int = 0
    """This process among those of its machine."""
    local_size: int = 1
    """Processes on this machine."""
    attempt: int = 0
    """How often the launcher has started all processes anew, after some were lost."""


def launched() -> Launch:
    """This process's place by the environment (RANK, WORLD_SIZE ...); alone where nothing is said.

    Raises:
        UserError: the variables are there and say no numbers.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return Launch()
    said = dict(zip(names, (os.environ.get(name, "") for name in names), strict=True))
    try:
        rank, size = int(said["RANK"]), int(said["WORLD_SIZE"])
        local = int(said["LOCAL_RANK"] or rank), int(said["LOCAL_WORLD_SIZE"] or size)
        return Launch(rank, size, *local, int(os.environ.get("TORCHELASTIC_RESTART_COUNT") or 0))
    except ValueError:
        shown = ", ".join(f"{name}={value}" for name, value in said.items())
        raise UserError(f"{shown}: no numbers of processes.", "Start it with torchrun, or unset them.") from None


@dataclass(frozen=True)
class Layout:
    """How the ranks of a run are arranged."""

    kind: ParallelKind
    """`none` for a single process, whatever was asked for."""
    ranks: int = 1
    """All processes."""
    shard: int = 1
    """Ranks over which one copy is cut; 1: every rank holds all."""

    @property
    def replicas(self) -> int:
        """Copies of the weights."""
        return self.ranks // self.shard

    @property
    def sharded(self) -> bool:
        """Whether a rank holds rows of each tensor only."""
        return self.shard > 1

    def plain(self) -> dict[str, Any]:
        """As data, for the record."""
        return {"parallel": self.kind.value, "ranks": self.ranks, "shard": self.shard}

    def rows(self, batch_size: int) -> int:
        """Rows of a batch that each rank takes."""
        return batch_size // self.ranks

    def held_rows(self, rows: int, place: int) -> range:
        """The rows of a tensor of so many that place `place` (0 to shard - 1) of a group holds: FSDP2's cut.

        Equal parts, rounded up; the last ones may be shorter, or empty.
        """
        size = -(-rows // self.shard)
        return range(min(place * size, rows), min((place + 1) * size, rows))


def plan_layout(train: TrainSpec, launch: Launch) -> Layout:
    """The arrangement that a description asks for, on the processes that there are.

    hsdp over groups of all ranks is fsdp, over groups of one ddp.

    Args:
        train: whose `parallel`, `batch_size` and `accumulation` are read.
        launch: the processes.

    Raises:
        UserError: several processes and `kind = none`, groups that do not come out even, or rows that do not.
    """
    say, ranks = train.parallel, launch.size
    if ranks == 1:
        return Layout(ParallelKind.none)
    kind = say.kind or ParallelKind.fsdp
    if kind is ParallelKind.none:
        raise UserError(
            f"parallel = none: {ranks} processes were launched for one run.",
            "Give ddp, fsdp or hsdp, or start a single process.",
        )
    shard = {ParallelKind.ddp: 1, ParallelKind.fsdp: ranks}.get(kind, say.shard or launch.local_size)
    if ranks % shard:
        raise UserError(
            f"parallel.shard = {shard}: does not divide the {ranks} processes that were launched.",
            f"Give a divisor of {ranks}.",
        )
    _check_rows(train, ranks)
    by_size = {1: ParallelKind.ddp, ranks: ParallelKind.fsdp}
    layout = Layout(by_size.get(shard, ParallelKind.hsdp), ranks, shard)
    if layout.sharded and train.optimizer.equal_layers:
        raise UserError(
            f"optimizer.equal_layers = true: needs whole gradients on every rank, and {layout.kind.value} cuts them.",
            "Give parallel = ddp.",
        )
    return layout


def _check_rows(train: TrainSpec, ranks: int) -> None:
    rows, parts = train.batch_size, train.accumulation
    if rows % (ranks * parts):
        each = f"{ranks} processes" if parts == 1 else f"{ranks} processes x {parts} parts (accumulation)"
        step = ranks * parts
        near = max(step, round(rows / step) * step)
        raise UserError(
            f"batch_size = {rows}: its rows cannot be shared evenly by {each}.",
            f"Give a multiple of {step}, such as {near}, or another number of processes.",
        )
