"""How a model is tuned, as a value."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from assay.spec.base import Described
from assay.spec.parts import Count, Positive
from assay.spec.training import OptimizerSpec, ScheduleKind, ScheduleSpec

__all__ = ["TuneSpec"]


class TuneSpec(Described):
    """Tuning on prompts and answers, but for the model, the tasks and the seed."""

    steps: Count = 300
    """Optimizer steps at most."""
    batch_size: Count = 16
    """Examples a step, drawn from the tasks at their rates."""
    length: Count = 256
    """Tokens of a window: prompt and answer together (each by itself, in an encoder-decoder); longer prompts lose
    their beginning."""
    optimizer: OptimizerSpec = OptimizerSpec(learning_rate=5e-4, weight_decay=0.01)
    """The optimizer."""
    schedule: ScheduleSpec = ScheduleSpec(kind=ScheduleKind.linear, warmup=0.1, final=0.0)
    """The learning rate over the steps."""
    evaluations: Count = 10
    """Times that the loss on held-out answers is measured, evenly, the end included."""
    patience: Annotated[int, Field(ge=0)] = 3
    """Stop after so many evaluations in a row without improvement; 0: never. The best weights are kept either way."""
    heldout: Count = 256
    """Held-out examples of a task that an evaluation takes at most."""
    rank: Annotated[int, Field(ge=0)] = 0
    """LoRA's rank (Hu et al. 2022); 0: all weights are tuned."""
    alpha: Positive = 16.0
    """LoRA: what is learned is multiplied by alpha / rank."""
    targets: tuple[str, ...] = ("q", "v")
    """LoRA: modules that get adapters, by the end of their names (q, k, v, o, gate, up, down)."""

    @model_validator(mode="after")
    def _check(self) -> TuneSpec:
        if self.schedule.kind is ScheduleKind.plateau:
            raise ValueError("schedule.kind: tuning stops by held-out loss itself; take linear, cosine or constant")
        return self
