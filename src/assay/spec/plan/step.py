"""Time of one training step of a layout: a roofline of products, of moved bytes, and of messages.

    products       FLOPs / (peak x matmul share), forward once, backward twice, once more under checkpointing;
                   of queries with keys and of their mixes, FLOPs of visible pairs / (peak x attention share)
    elements       saved bytes x passes / (bandwidth x element share): norms, activations, residual sums
    data traffic   gathers, scatters and sums of the weights' gradients, beyond what compute hides
    tensor traffic sums of activations, which nothing hides
    idle           (stages - 1) / interleave micro-batches of a pipeline (Narayanan et al. 2021, section 2.2)
    optimizer      each float32 weight, gradient and moment read, weight and moments written

Of traffic a that runs beside compute c, overlap x min(a, c) is hidden.
"""

from __future__ import annotations

from dataclasses import dataclass

from assay.spec.plan.fabric import Assumed
from assay.spec.plan.layout import Layout
from assay.spec.plan.memory import Stage, stages
from assay.spec.plan.traffic import Group, group
from assay.spec.plan.units import Model, Unit
from assay.spec.plan.work import Workload

__all__ = ["StepTime", "step_time"]

UPDATED = 7
"""Float32 numbers that an optimizer step reads or writes for each weight: 4 read, 3 written."""
LOGIT_PASSES = 6
"""Times that logits are moved: written, read for the sum, for the gradient, written, and read by two products."""


@dataclass(frozen=True)
class StepTime:
    """Seconds of one step, by what they are spent on; they add up."""

    products: float
    recomputation: float
    elements: float
    data_traffic: float
    tensor_traffic: float
    idle: float
    optimizer: float

    @property
    def total(self) -> float:
        """Their sum."""
        return sum(vars(self).values())


@dataclass(frozen=True)
class _Pass:
    """One micro-batch on the slowest stage."""

    products: float
    recomputation: float
    elements: float
    tensor: float
    data: float

    @property
    def total(self) -> float:
        return self.products + self.recomputation + self.elements + self.tensor + self.data


def step_time(work: Workload, model: Model, layout: Layout, sequences: int, assumed: Assumed) -> StepTime:
    """Seconds of one step.

    Args:
        work: what is computed.
        model: its units on one tensor-parallel rank.
        layout: who computes what.
        sequences: of the step, on a data-parallel rank.
        assumed: of the machine.
    """
    micros = sequences // layout.micro
    passes = [_micro(work, model, layout, stage, assumed) for stage in dict.fromkeys(stages(work, layout.pipeline))]
    slow = max(passes, key=lambda one: one.total)
    once = 0.0 if layout.gathers else _once(work, model, layout, slow, assumed)
    idle = (layout.pipeline - 1) / layout.interleave * slow.total
    idle += _handing_on(work, layout, assumed) * micros
    elements = sum(unit.piece(layout.shard) * number for unit, number in model.blocks) / layout.pipeline
    elements += model.root.piece(layout.shard)
    moved = UPDATED * work.rest * elements / (assumed("bandwidth") * assumed("element_share"))
    return StepTime(
        products=micros * slow.products,
        recomputation=micros * slow.recomputation,
        elements=micros * slow.elements,
        data_traffic=micros * slow.data + once,
        tensor_traffic=micros * slow.tensor,
        idle=idle,
        optimizer=moved,
    )


def _micro(work: Workload, model: Model, layout: Layout, stage: Stage, assumed: Assumed) -> _Pass:
    rate = layout.tensor * assumed("peak") * assumed("matmul_share") / layout.micro
    moving = layout.tensor * assumed("bandwidth") * assumed("element_share") / layout.micro
    product = (work.block_flops + work.pair_flops * assumed("matmul_share") / assumed("attention_share")) / rate
    third = work.block_saved * assumed("element_passes") / 3 / moving
    one = Group(layout.tensor, int(assumed("node"))).seconds("all-reduce", layout.micro * work.stream, assumed)
    forward = product + third + work.sums * one
    backward = 2 * (product + third) + work.sums * one + forward * layout.checkpointing
    blocks, again = stage.blocks, int(layout.checkpointing)
    head = stage.head
    return _Pass(
        products=3 * (blocks * product + head * work.head_flops / rate),
        recomputation=again * blocks * (product + third),
        elements=3 * blocks * third + head * LOGIT_PASSES * work.logits / moving,
        tensor=blocks * work.sums * (2 + again) * one + (2 * one if layout.tensor > 1 else 0.0),
        data=_data(work, model, layout, stage, forward, backward, assumed) if layout.gathers else 0.0,
    )


def _data(
    work: Workload, model: Model, layout: Layout, stage: Stage, forward: float, backward: float, assumed: Assumed
) -> float:
    """Data-parallel traffic of a micro-batch that compute does not hide."""
    overlap, shown = assumed("overlap"), 0.0
    for unit, number in model.blocks:
        gather, reduce = _moves(work, layout, unit, assumed)
        both = gather + reduce
        share = number * stage.blocks / model.depth
        shown += share * (gather - overlap * min(gather, forward) + both - overlap * min(both, backward))
    gather, reduce = _moves(work, layout, model.root, assumed, work.rest)
    return shown + stage.root * (gather + reduce)


def _moves(
    work: Workload, layout: Layout, unit: Unit, assumed: Assumed, size: int | None = None
) -> tuple[float, float]:
    """Seconds of gathering a unit's weights, `size` bytes each, and of reducing its gradients."""
    node = int(assumed("node"))
    shards, copies = group(layout, "shard", node), group(layout, "replicate", node)
    gathered, piece = unit.gathered(layout.shard), unit.piece(layout.shard)
    reduce = shards.seconds("reduce-scatter", work.reduced * gathered, assumed)
    reduce += copies.seconds("all-reduce", (work.rest if layout.copies else work.reduced) * piece, assumed)
    return shards.seconds("all-gather", (size or work.size) * gathered, assumed), reduce


def _once(work: Workload, model: Model, layout: Layout, slow: _Pass, assumed: Assumed) -> float:
    """Traffic of a step whose weights are whole: gradients beside the last backward pass, then new weights, if cut."""
    gathers = reduces = 0.0
    for unit, number in (*model.blocks, (model.root, 1)):
        gather, reduce = _moves(work, layout, unit, assumed)
        share = number / layout.pipeline if unit is not model.root else 1.0
        gathers, reduces = gathers + share * gather, reduces + share * reduce
    return gathers + reduces - assumed("overlap") * min(reduces, 2 / 3 * slow.total)


def _handing_on(work: Workload, layout: Layout, assumed: Assumed) -> float:
    """Seconds in which a stage waits for its neighbours' messages in a micro-batch, forward and backward."""
    if layout.pipeline == 1:
        return 0.0
    near = layout.gpus // layout.pipeline < assumed("node")
    where = "inside" if near else "outside"
    size = layout.micro * work.stream / layout.tensor
    one = size / (assumed(where) * assumed("network_share")) + assumed(f"{where}_latency")
    return 2 * layout.interleave * one * (1 - assumed("overlap"))
