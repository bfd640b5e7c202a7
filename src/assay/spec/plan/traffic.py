"""Messages between ranks: which, how many, how long, and how much time one takes.

A ring of n ranks moves (n - 1) / n of a gathered tensor through each link (Patarasuk & Yuan 2009), twice that for an
all-reduce, in n - 1 steps with their latency. Where a group spans nodes, those of its ranks that share a node share
that node's network, and the slower of the two kinds of links sets the time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from assay.spec.plan.fabric import Assumed
from assay.spec.plan.layout import Layout
from assay.spec.plan.units import Model, Unit
from assay.spec.plan.work import Workload

__all__ = ["Collective", "Group", "collectives", "group"]

BUCKET = 25 * 2**20
"""Bytes of gradients that DDP adds up at once (`bucket_cap_mb` of `DistributedDataParallel`)."""


@dataclass(frozen=True)
class Group:
    """Ranks that talk to each other."""

    ranks: int
    near: int
    """How many of them share a node."""

    def seconds(self, kind: str, size: float, assumed: Assumed) -> float:
        """Time of one collective.

        Args:
            kind: 'all-gather', 'reduce-scatter' or 'all-reduce'.
            size: bytes of the whole tensor (an all-gather's output, a reduce-scatter's input).
            assumed: of the machine.
        """
        if self.ranks == 1:
            return 0.0
        near = min(self.near, self.ranks)
        nodes = -(-self.ranks // near)
        turns, share = 2 if kind == "all-reduce" else 1, assumed("network_share")
        inside = size * (self.ranks - 1) / self.ranks / (assumed("inside") * share) if near > 1 else 0.0
        outside = size * (nodes - 1) / nodes / (near * assumed("outside") * share)
        latency = (self.ranks - nodes) * assumed("inside_latency") + (nodes - 1) * assumed("outside_latency")
        return turns * (max(inside, outside) + latency)


def group(layout: Layout, over: str, node: int) -> Group:
    """The group of a dimension: 'tensor', 'shard' or 'replicate'. Neighbours in a node are filled in that order."""
    if over == "tensor":
        return Group(layout.tensor, node)
    if over == "shard":
        return Group(layout.shard, max(node // layout.tensor, 1))
    return Group(layout.replicate, max(node // (layout.tensor * layout.shard), 1))


@dataclass(frozen=True)
class Collective:
    """Messages of one kind in one step, as one rank sees them."""

    kind: str
    of: str
    over: str
    ranks: int
    size: float
    """Bytes of the whole tensor of one message."""
    count: int
    """In one step."""
    seconds: float
    """Of one."""


def collectives(work: Workload, model: Model, layout: Layout, micros: int, assumed: Assumed) -> list[Collective]:
    """Every kind of message of a training step, its loss and clipping (a few numbers) left out.

    Under FSDP each micro-batch gathers the root once, each block twice (it is let go after the forward pass), and
    reduces every gradient; with copies the reduced shards are then added up over them. Under DDP gradients are added
    up once a step, in buckets.
    """
    made: list[Collective] = []

    def add(kind: str, of: str, over: str, size: float, count: int) -> None:
        members = group(layout, over, int(assumed("node")))
        if members.ranks > 1 and count:
            seconds = members.seconds(kind, size, assumed)
            made.append(Collective(kind, of, over, members.ranks, size, count, seconds))

    for of, unit, number in _units(model, layout):
        shards, piece = unit.gathered(layout.shard), unit.piece(layout.shard)
        rested = work.rest if of == "root" and layout.full else work.size
        if layout.copies:
            buckets = -(-work.rest * unit.elements * number // BUCKET)
            add("all-reduce", "gradients", "replicate", work.rest * unit.elements * number / buckets, buckets)
            continue
        again = micros if layout.full else 1
        gathers = (2 if of == "block" else 1) * micros if layout.full else 1
        add("all-gather", of, "shard", rested * shards, number * gathers)
        add("reduce-scatter", of, "shard", work.reduced * shards, number * again)
        add("all-reduce", of, "replicate", work.reduced * piece, number * again)
    sums = work.sums * (3 if layout.checkpointing else 2) * -(-work.depth // layout.pipeline)
    add("all-reduce", "activations", "tensor", layout.micro * work.stream, sums * micros)
    return made


def _units(model: Model, layout: Layout) -> Iterator[tuple[str, Unit, int]]:
    """Root and blocks of a rank's stage (an average one)."""
    yield "root", model.root, 1
    for unit, number in model.blocks:
        yield "block", unit, -(-number // layout.pipeline)
