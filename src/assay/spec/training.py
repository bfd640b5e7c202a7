"""How a model is trained, as a value."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from assay.spec.axes import Axis
from assay.spec.base import Described, Part
from assay.spec.parts import Count, Positive, Share


class ScheduleKind(Axis):
    """How the learning rate moves after warmup (N7)."""

    constant = "constant"
    linear = "linear"
    """Straight down to `final` x peak at the last step."""
    cosine = "cosine"
    """Half a cosine down to `final` x peak at the last step (Loshchilov & Hutter 2017)."""
    inverse_sqrt = "inverse_sqrt"
    """peak x sqrt(warmup / step) (Vaswani et al. 2017)."""
    wsd = "wsd"
    """Warmup, stable, decay: constant, then linear over the last `decay` share (Hu et al. 2024)."""
    plateau = "plateau"
    """Follows held-out loss: times `reduction` whenever `patience` evaluations in a row brought no improvement."""
    reversed = "reversed"
    """The cosine from its end to its beginning, warmup last: small first and large later, the same rates. A control."""


class ScheduleSpec(Part):
    """The learning rate over time."""

    shorthand: ClassVar[str | None] = "kind"

    kind: ScheduleKind = ScheduleKind.cosine
    """The shape after warmup."""
    warmup: Annotated[float, Field(ge=0)] = 0.05
    """Below 1: share of all steps; from 1 on: number of steps. Linear from 0."""
    final: Annotated[float, Field(ge=0, le=1)] = 0.1
    """cosine, linear and wsd end at this share of the peak; plateau goes no lower."""
    decay: Annotated[float, Field(gt=0, le=1)] = 0.1
    """wsd: the share of all steps that decays."""
    patience: Count = 2
    """plateau: evaluations in a row without improvement until the rate falls, counted from the end of the warmup."""
    reduction: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """plateau: what the rate is multiplied by."""
    improvement: Annotated[float, Field(ge=0, lt=1)] = 1e-3
    """plateau: the share by which held-out loss must fall below its best to count as better."""


class OptimizerSpec(Part):
    """AdamW (Loshchilov & Hutter 2019); decay on matrices only, not on norms, biases and scalars."""

    shorthand: ClassVar[str | None] = "learning_rate"
    later: ClassVar[frozenset[str]] = frozenset({"equal_layers"})

    learning_rate: Positive = 3e-3
    """Peak."""
    beta1: Share = 0.9
    """Decay of the first moment."""
    beta2: Share = 0.95
    """Decay of the second moment."""
    eps: Positive = 1e-8
    """Added to the root of the second moment."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """Decoupled decay, times the learning rate."""
    clip: Annotated[float, Field(ge=0)] = 1.0
    """Largest global gradient norm; 0: no clipping."""
    equal_layers: bool = False
    """Before clipping, scale the gradient of every layer to the same norm (their sum of squares kept): for experiments
    on what gradients do that grow from layer to layer."""


class BadLossAction(Axis):
    """What is done about a step whose loss or gradient is bad; the update is not made in either case."""

    stop = "stop"
    """The run ends as diverged."""
    skip = "skip"
    """The batch is left out, and the run goes on with the next."""


class BadLossSpec(Part):
    """When a step's loss or gradient norm is bad, and what is done then.

    Bad is what is not finite and, where asked for, a spike: a value that lies above the median of the last `window`
    applied steps by more than so many robust deviations (1.4826 x the median absolute deviation, and no less than 1% of
    the median). Whoever decides has the loss and the norm of the whole batch, so every rank decides alike.
    """

    shorthand: ClassVar[str | None] = "action"

    action: BadLossAction = BadLossAction.stop
    """Stop, or skip the batch."""
    spike: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Robust deviations above its median from which on a loss is a spike; 0: none is."""
    norm_spike: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """The same of the gradient norm before clipping."""
    window: Annotated[int, Field(ge=8)] = 64
    """Applied steps that a spike is measured against; before there are so many, nothing is a spike."""
    most: Count = 10
    """skip: batches that may be left out in a run; one more ends it as diverged."""


class ParallelKind(Axis):
    """How the processes (ranks) of one run share its work; each takes its rows of every batch."""

    none = "none"
    """One process alone."""
    ddp = "ddp"
    """Every rank holds all weights; gradients are summed (distributed data parallel)."""
    fsdp = "fsdp"
    """Weights, gradients and moments are cut over all ranks, and gathered block by block (Zhao et al. 2023)."""
    hsdp = "hsdp"
    """Cut over groups of `shard` ranks, which hold copies of one another: fsdp within a group, ddp between groups."""


class ParallelSpec(Part):
    """How a run is spread over the processes that it is launched with: how it is done, and no part of what it is."""

    shorthand: ClassVar[str | None] = "kind"

    kind: ParallelKind | None = None
    """None: fsdp where several processes were launched. In a single process all kinds are the same."""
    shard: Count | None = None
    """hsdp: the ranks that hold one copy of the weights together; None: those of one machine."""


class TrainSpec(Described):
    """One training run, but for the model, the data and the seed."""

    neutral: ClassVar[frozenset[str]] = frozenset({"parallel"})
    later: ClassVar[frozenset[str]] = frozenset({"on_bad_loss"})

    budget: Positive | None = None
    """Training FLOPs; the run ends with the step that reaches it. Give this or `steps`."""
    steps: Count | None = None
    """Optimizer steps. Give this or `budget`."""
    batch_size: Count = 16
    """Rows a step."""
    length: Count = 128
    """Tokens a row (of the encoder, in an encoder-decoder)."""
    decoder_length: Count | None = None
    """Tokens a row of the decoder; None: as `length`."""
    accumulation: Count = 1
    """Parts that a step's batch is computed in; losses are weighted by tokens, so the number changes nothing else."""
    optimizer: OptimizerSpec = OptimizerSpec()
    """The optimizer."""
    schedule: ScheduleSpec = ScheduleSpec()
    """The learning rate over time."""
    z_loss: Annotated[float, Field(ge=0)] = 0.0
    """Weight of log^2 Z (PaLM: 1e-4)."""
    evaluations: Annotated[int, Field(ge=1)] = 8
    """Times that held-out loss is measured, evenly over the budget, the end included."""
    checkpoints: Annotated[int, Field(ge=1)] = 2
    """Times that a checkpoint is written, evenly, the end included; the newest is kept."""
    dtype: Annotated[str, Field(pattern="^(float32|bfloat16)$")] | None = None
    """Arithmetic; None: bfloat16 on an accelerator, float32 on a CPU. Weights stay float32."""
    compile: bool | None = None
    """Compile by block; None: where a compiler is found and it pays: on a CPU in long runs of narrow models."""
    checkpointing: bool = False
    """Keep only what enters each block and compute the rest again in the backward pass (Chen et al. 2016)."""
    on_bad_loss: BadLossSpec = BadLossSpec()
    """What is done about a loss or gradient that is not finite, or spikes."""
    parallel: ParallelSpec = ParallelSpec()
    """How the run is spread over processes: the same run, whatever it says."""

    @model_validator(mode="after")
    def _check(self) -> TrainSpec:
        if self.budget is None and self.steps is None:
            raise ValueError("steps: give steps, or budget in FLOPs")
        if self.budget is not None and self.steps is not None:
            raise ValueError(f"steps: {self.steps} and budget {self.budget:g} are both given; give one of them")
        if self.batch_size % self.accumulation:
            raise ValueError(f"accumulation: {self.accumulation} does not divide batch_size {self.batch_size}")
        if self.parallel.shard is not None and self.parallel.kind is not ParallelKind.hsdp:
            raise ValueError(f"parallel.shard: {self.parallel.shard} says something to parallel.kind = hsdp alone")
        return self
