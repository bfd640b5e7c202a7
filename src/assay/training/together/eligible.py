"""Which runs can be trained together, and where it pays: from their descriptions alone, without torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from assay.spec.axes import Axis, PositionKind
from assay.spec.study import RunSpec
from assay.training.setup import COMPILE_FROM, wants_compiling
from assay.training.text import resolve

__all__ = ["MOST", "When", "kin", "pays", "step_flops", "why_alone"]

MOST = 8
"""Members of one batched model; more gain no more (`docs/log.md`)."""

LARGEST = 2e9
"""Training FLOPs of a step up to which it is faster (`benchmarks/together.py`): then calls outweigh arithmetic."""

SHARED = ("batch_size", "length", "decoder_length", "accumulation", "z_loss", "dtype", "compile", "checkpointing")
"""Fields of a run's training in which members are alike. In all others, and in the seed, each is its own."""


class When(Axis):
    """When runs of one model are trained together."""

    auto = "auto"
    """Where it was measured to be faster."""
    never = "never"
    """Each in a process of its own."""
    always = "always"
    """Wherever it can be done."""


def _drops(run: RunSpec) -> bool:
    say = run.model
    return any((say.dropout, say.attention.dropout, say.feedforward.dropout, say.embedding.dropout))


def _compiles(run: RunSpec) -> bool:
    total = run.train.budget or step_flops(run) * (run.train.steps or 1)
    # What a run decides by is counted from its first batch: near the edge it is not known here.
    return wants_compiling(run, 2 * total, "cpu") is True


OBSTACLES: Sequence[tuple[Callable[[RunSpec], bool], str]] = (
    (_drops, "dropout draws from one stream of random numbers a process"),
    (lambda run: run.model.feedforward.experts is not None, "experts take as many rows as the router sends them"),
    (
        lambda run: run.model.positions.kind is PositionKind.relative,
        "relative positions are a table of each member's own within attention",
    ),
    (
        lambda run: run.model.norm.max_scale is not None or run.model.query_norm.max_scale is not None,
        "norm.max_scale looks for the largest value of a whole batch",
    ),
    (lambda run: run.train.dtype == "bfloat16", "bfloat16 was not measured"),
    (_compiles, f"it is compiled (compile = true, or near {COMPILE_FROM:.0g} FLOPs)"),
)
"""What keeps a run by itself, and why."""


def why_alone(run: RunSpec) -> str:
    """Why a run cannot be a member of a batched model; empty where it can."""
    return next((why for stands, why in OBSTACLES if stands(run)), "")


def kin(run: RunSpec) -> str:
    """A text that is equal for runs that one batched model can hold: of one model, objective, text, and batch shape."""
    train = run.train.model_dump(mode="json")
    parts = (run.objective, run.data, run.init)
    said = [None if part is None else part.model_dump(mode="json") for part in parts]
    return json.dumps([run.model.hash, *said, {name: train[name] for name in SHARED}], sort_keys=True)


def step_flops(run: RunSpec) -> float:
    """Training FLOPs of a step with a target at every position, nearly."""
    model, train = resolve(run).model, run.train
    length = train.length
    return train.batch_size * float(
        model.flops(length, decoder_length=train.decoder_length or length, targets=length, prefix=0, training=True)
    )


def pays(run: RunSpec) -> bool:
    """Whether members of this size take less time together, on one thread."""
    return step_flops(run) <= LARGEST
