"""One layout's estimate: memory by part, time by part, tokens a second, utilisation."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from assay.spec.plan.fabric import Assumed
from assay.spec.plan.layout import Layout
from assay.spec.plan.memory import RankMemory, rank_memory
from assay.spec.plan.step import StepTime, step_time
from assay.spec.plan.traffic import Collective, collectives
from assay.spec.plan.work import Workload

__all__ = ["Estimate", "estimate", "held"]


@dataclass(frozen=True)
class Estimate:
    """What a layout needs and reaches."""

    layout: Layout
    memory: RankMemory
    """Of the fullest rank."""
    fits: bool
    time: StepTime
    tokens_per_second: float
    """Of all ranks."""
    mfu: float
    """The model's own FLOPs over the peak (Chowdhery et al. 2022, appendix B)."""
    hfu: float
    """With recomputed FLOPs too."""

    @property
    def seconds(self) -> float:
        """Of a step."""
        return self.time.total

    def to_dict(self) -> dict[str, Any]:
        """Plain data, sums included."""
        return {
            **asdict(self), "kind": self.layout.kind, "gpus": self.layout.gpus, "trainable": self.layout.trainable,
            "memory": {**asdict(self.memory), "total": self.memory.total},
            "time": {**asdict(self.time), "total": self.seconds},
        }  # fmt: skip


def held(work: Workload, layout: Layout, sequences: int) -> RankMemory:
    """Memory of the fullest rank; `sequences` of a step on all ranks."""
    return rank_memory(work, work.units(layout.tensor), layout, sequences // layout.data)


def estimate(
    work: Workload, layout: Layout, sequences: int, assumed: Assumed, memory: RankMemory | None = None
) -> Estimate:
    """Estimate one layout.

    Args:
        work: what is computed.
        layout: by whom.
        sequences: of a step, on all ranks; a multiple of data-parallel ranks times micro-batch.
        assumed: of the machine.
        memory: as `held` found it already.
    """
    each, left = divmod(sequences, layout.data)
    assert not left and not each % layout.micro, (sequences, layout)
    memory = memory or held(work, layout, sequences)
    time = step_time(work, work.units(layout.tensor), layout, each, assumed)
    flops = sequences * work.training_flops
    again = sequences * work.depth * (work.block_flops + work.pair_flops) * layout.checkpointing
    peak = layout.gpus * assumed("peak") * time.total
    return Estimate(
        layout, memory, memory.total <= assumed("memory") * assumed("memory_share"), time,
        sequences * work.tokens / time.total, flops / peak, (flops + again) / peak,
    )  # fmt: skip


def messages(work: Workload, layout: Layout, sequences: int, assumed: Assumed) -> list[Collective]:
    """The collectives of a step."""
    micros = sequences // layout.data // layout.micro
    return collectives(work, work.units(layout.tensor), layout, micros, assumed)
