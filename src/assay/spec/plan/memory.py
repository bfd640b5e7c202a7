"""Bytes on the fullest rank, by part: what `cost` counts for a whole model, shared out by a layout.

As assay trains, weights, gradients and Adam's two moments are float32, cut up (FSDP) or whole on every rank (DDP), and
so is the residual stream under autocast.
Where the optimizer alone is sharded (ZeRO-1, Rajbhandari et al. 2020), weights and gradients are whole, in the type of
the products and of the reduction, and float32 weights count to the optimizer.
"""

from __future__ import annotations

from dataclasses import dataclass

from assay.spec.plan.layout import Layout
from assay.spec.plan.units import Model
from assay.spec.plan.work import Workload

__all__ = ["RankMemory", "Stage", "rank_memory", "stages"]


@dataclass(frozen=True)
class RankMemory:
    """Bytes of one rank."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    buffers: float
    """Gathered weights, gradients on their way, and what collectives read and write."""

    @property
    def total(self) -> float:
        """Their sum."""
        return sum(vars(self).values())

    @property
    def state(self) -> float:
        """What stays between steps."""
        return self.weights + self.gradients + self.optimizer


@dataclass(frozen=True)
class Stage:
    """A pipeline's stage: how many blocks, and which part of the rest of the model."""

    blocks: int
    head: bool
    root: float
    """Share of the tensors outside blocks."""


def stages(work: Workload, pipeline: int) -> tuple[Stage, Stage]:
    """The first and the last stage, blocks shared out so that the slowest stage is as fast as can be.

    The last stage has the head; a tied embedding is on both ends. With one stage both are that one.
    """
    if pipeline == 1:
        only = Stage(work.depth, True, 1.0)
        return only, only
    if ("stages", pipeline) not in work.known:
        work.known["stages", pipeline] = _shared_out(work, pipeline)
    found: tuple[Stage, Stage] = work.known["stages", pipeline]
    return found


def _shared_out(work: Workload, pipeline: int) -> tuple[Stage, Stage]:
    heavy = work.head_flops / (work.block_flops + work.pair_flops)
    best: tuple[float, int, int] | None = None
    for blocks in range(-(-work.depth // pipeline), work.depth + 1):
        last = max(work.depth - blocks * (pipeline - 1), 0)
        slowest = max(float(blocks), last + heavy)
        if best is None or slowest < best[0]:
            best = (slowest, blocks, last)
        if last == 0:
            break
    assert best is not None
    root = 1.0 if work.spec.head.tied else 0.5
    return Stage(best[1], False, root), Stage(best[2], True, root)


def rank_memory(work: Workload, model: Model, layout: Layout, sequences: int) -> RankMemory:
    """Bytes of the fullest rank.

    Args:
        work: what is computed.
        model: its units on one tensor-parallel rank.
        layout: who holds what.
        sequences: of one step on a data-parallel rank.
    """
    ends = stages(work, layout.pipeline)
    flights = _in_flight(layout, max(sequences // layout.micro, 1))
    found = [_stage(work, model, layout, end, in_flight) for end, in_flight in zip(ends, flights, strict=True)]
    return max(found, key=lambda memory: memory.total)


def _in_flight(layout: Layout, micros: int) -> tuple[float, float]:
    """Micro-batches whose activations the first and the last stage hold at once (Korthikanti et al. 2022, 4.3)."""
    if layout.pipeline == 1:
        return 1.0, 1.0
    first = min(layout.pipeline, micros)
    more = 1 + (layout.pipeline - 1) / (layout.pipeline * layout.interleave) if layout.interleave > 1 else 1.0
    return first * more, 1.0


def _stage(work: Workload, model: Model, layout: Layout, stage: Stage, in_flight: float) -> RankMemory:
    whole, piece = (
        stage.root * measure(model.root)
        + sum(number * measure(unit) for unit, number in model.blocks) * stage.blocks / model.depth
        for measure in (lambda unit: unit.elements + unit.scalars, lambda unit: unit.kept(layout.shard))
    )
    if layout.full:
        weights, gradients, optimizer = work.rest * piece, work.rest * piece, 2 * work.rest * piece
        buffers = _gathered(work, model, layout) if layout.gathers else _copied(work, layout, whole)
    else:
        weights, gradients = work.size * whole, work.reduced * whole
        optimizer = (8 + 4 * (work.size < 4)) * piece
        buffers = 0.0
    kept = work.block_input if layout.checkpointing else work.block_saved
    if layout.full:  # as assay trains: in float32 where autocast leaves it
        kept = kept * work.rest / work.size if layout.checkpointing else kept + work.widened
    activations = stage.blocks * layout.micro * in_flight * kept / layout.tensor
    if stage.head or layout.checkpointing:
        activations += work.beside_blocks(layout.micro, layout.checkpointing) / layout.tensor
    return RankMemory(weights, gradients, optimizer, activations, buffers)


def _gathered(work: Workload, model: Model, layout: Layout) -> float:
    """The root's gathered weights, the output matrix's gradient, and the larger of what two moments need besides.

    Within the backward pass: two blocks' weights (one is fetched ahead), and one block's gradients on their way. At
    its end: the root's other gradients, and theirs on their way. The root is gathered as it rests, blocks in the type
    of products. A gather's flat output lives beside the weights that are copied out of it, a reduction's flat input
    beside the gradients that are copied in. The loss makes the output matrix's gradient in the forward pass. This is
    an upper estimate: what is let go at once (on a CPU, all of it) does not lie beside what comes next.
    """
    root, block = model.root, model.largest
    flat = block.gathered(layout.shard)
    head = work.head_elements / layout.tensor
    within = work.size * (2 * block.elements + flat) + work.size * block.elements + work.reduced * flat
    others = root.elements if work.spec.head.tied else root.elements - head  # a tied embedding has two at first
    ending = work.rest * others + work.reduced * root.gathered(layout.shard)
    return work.rest * (root.elements + head) + max(within, ending)


def _copied(work: Workload, layout: Layout, whole: float) -> float:
    """Under DDP the buckets in which gradients travel; weights cast to the type of products, which autocast keeps."""
    return work.rest * whole * (layout.replicate > 1) + work.size * whole * (work.size < work.rest)
