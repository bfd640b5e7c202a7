"""From a model, a number of GPUs and a batch to a layout, with what else was possible and why it was not chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import Any

from assay.errors import UserError
from assay.spec.cost import Assumption
from assay.spec.model import ModelSpec
from assay.spec.plan.checks import batch, check, does_not_fit
from assay.spec.plan.estimate import Estimate, estimate, held, messages
from assay.spec.plan.fabric import Assumed
from assay.spec.plan.layout import Fixed, Layout, layouts
from assay.spec.plan.limits import Reliability, critical_batch, reliability
from assay.spec.plan.reasons import notes, reasons
from assay.spec.plan.traffic import Collective
from assay.spec.plan.work import Workload, workload

__all__ = ["Option", "Plan", "plan", "sweep"]

NEAR = 0.02
"""Layouts this close in time count as equally fast: the simpler one is chosen."""
ENOUGH = 8192
"""Tokens of a pass that keep a GPU's products large (assumed): of equally fast micro-batches the first to have them."""


@dataclass(frozen=True)
class Option:
    """The best layout of one kind."""

    kind: str
    best: Estimate
    """Of those that fit the fastest; where none fits, the one with the least memory."""


@dataclass(frozen=True)
class Plan:
    """What to do with so many GPUs."""

    model: str
    family: str
    parameters: int
    hardware: str
    gpus: int
    length: int
    decoder_length: int | None
    sequences: int
    """Of a step, on all ranks."""
    batch_tokens: int
    dtype: str
    reduce_dtype: str
    room: float
    """Bytes of a GPU that may be filled."""
    chosen: Estimate
    options: list[Option]
    collectives: list[Collective]
    reasons: list[str]
    reliability: Reliability
    critical_batch: float
    tokens: float | None
    """Of the whole training; None: not said."""
    assumptions: list[Assumption]
    notes: list[str]

    @property
    def seconds(self) -> float | None:
        """Of the whole training, without interruptions."""
        return None if self.tokens is None else self.tokens / self.chosen.tokens_per_second

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        plain = {name: value for name, value in vars(self).items() if name not in ("chosen", "options")}
        plain |= {name: asdict(plain[name]) for name in ("reliability",)}
        plain |= {name: [asdict(one) for one in plain[name]] for name in ("collectives", "assumptions")}
        options = [{"kind": option.kind, **option.best.to_dict()} for option in self.options]
        return {**plain, "seconds": self.seconds, "chosen": self.chosen.to_dict(), "options": options}


def plan(
    spec: ModelSpec,
    gpus: int,
    *,
    machine: str = "a100-80gb",
    batch_tokens: int | None = None,
    length: int | None = None,
    decoder_length: int | None = None,
    dtype: str = "bfloat16",
    reduce_dtype: str = "float32",
    fixed: Fixed | None = None,
    tokens: float | None = None,
    **given: float | None,
) -> Plan:
    """Plan a training run.

    Args:
        spec: the model.
        gpus: how many accelerators.
        machine: a name of `hardware.HARDWARE`.
        batch_tokens: tokens of a step, a multiple of a sequence's; None: about 4 million, fitted to the GPUs.
        length, decoder_length: tokens of a sequence; None: the model's context, and a quarter of it for a decoder.
        dtype: of products, activations and gathered weights.
        reduce_dtype: of gradients on the wire.
        fixed: parts of the layout that are decided.
        tokens: of the whole training, for its time.
        given: any of `fabric.Assumed`'s numbers.

    Raises:
        UserError: a number that cannot be, or nothing fits; it says what would.
    """
    fixed = fixed or Fixed()
    work = workload(spec, length=length, decoder_length=decoder_length, dtype=dtype, reduce_dtype=reduce_dtype)
    assumed = Assumed(machine, given)
    check(spec, gpus, fixed, int(assumed("node")))
    sequences, said = batch(work, gpus, batch_tokens, fixed)
    options = _options(work, gpus, sequences, assumed, fixed)
    fitting = [option.best for option in options if option.best.fits]
    room = assumed("memory") * assumed("memory_share")
    if not fitting:
        least = min((option.best for option in options), key=lambda one: one.memory.total)
        more = _enough(work, gpus, batch_tokens, assumed, fixed)
        raise does_not_fit(work, least, room, more, assumed.machine.title)
    chosen = _choose([one for one in fitting if one.layout.trainable] or fitting)
    state = work.size * int(spec.parameters()) + 12.0 * int(spec.parameters())
    outside = int(spec.parameters()) - spec.parameters().parts.get("embedding", 0)
    critical, _ = critical_batch(outside)
    return Plan(
        model=spec.name or "the model",
        family=str(spec.family),
        parameters=int(spec.parameters()),
        hardware=assumed.machine.title,
        gpus=gpus,
        length=work.length,
        decoder_length=work.decoder_length,
        sequences=sequences,
        batch_tokens=sequences * work.tokens,
        dtype=dtype,
        reduce_dtype=reduce_dtype,
        room=room,
        chosen=chosen,
        options=sorted(options, key=lambda option: (not option.best.fits, option.best.seconds)),
        collectives=messages(work, chosen.layout, sequences, assumed),
        reasons=reasons(work, chosen, [option.best for option in options], room, sequences),
        reliability=reliability(gpus, state, assumed),
        critical_batch=critical,
        tokens=tokens,
        assumptions=[said, *assumed.list],
        notes=notes(work, chosen, sequences * work.tokens, critical),
    )


def sweep(spec: ModelSpec, counts: Sequence[int], **settings: Any) -> list[Plan | UserError]:
    """A plan for each number of GPUs, or what stands in its way; settings as for `plan`."""
    found: list[Plan | UserError] = []
    for gpus in counts:
        try:
            found.append(plan(spec, gpus, **settings))
        except UserError as error:
            found.append(error)
    if all(isinstance(one, UserError) for one in found) and found:
        raise found[0]  # type: ignore[misc]
    return found


def _options(work: Workload, gpus: int, sequences: int, assumed: Assumed, fixed: Fixed) -> list[Option]:
    """The best layout of every kind."""
    room = assumed("memory") * assumed("memory_share")
    found: dict[str, list[Estimate]] = {}
    every = layouts(work.spec, gpus, sequences, int(assumed("node")), fixed)
    for _, alike in groupby(every, key=lambda layout: replace(layout, micro=1)):
        sized = [(layout, held(work, layout, sequences)) for layout in alike]
        fitting = [pair for pair in sized if pair[1].total <= room]
        tried = fitting or [min(sized, key=lambda pair: pair[1].total)]
        made = [estimate(work, layout, sequences, assumed, memory) for layout, memory in tried]
        best = min(one.seconds for one in made)
        near = [one for one in made if one.seconds <= best * (1 + NEAR / 2)]
        found.setdefault(near[0].layout.kind, []).append(_sized(near, work.tokens))
    if not found:
        raise UserError(
            f"--gpus {gpus}: no layout cuts {sequences} sequences and this model evenly.",
            "Give another --batch-tokens or --gpus, or leave out what fixes the layout.",
        )
    return [Option(kind, _best(made)) for kind, made in found.items()]


def _sized(near: Sequence[Estimate], tokens: int) -> Estimate:
    """Of layouts that differ in micro-batch alone, the smallest that is large enough, or else the largest."""
    large = [one for one in near if one.layout.micro * tokens >= ENOUGH]
    return min(large, key=lambda one: one.layout.micro) if large else max(near, key=lambda one: one.layout.micro)


def _best(made: Sequence[Estimate]) -> Estimate:
    fitting = [one for one in made if one.fits]
    return _choose(fitting) if fitting else min(made, key=lambda one: one.memory.total)


def _choose(fitting: Sequence[Estimate]) -> Estimate:
    """The simplest of the fastest."""
    fastest = min(one.seconds for one in fitting)
    near = [one for one in fitting if one.seconds <= fastest * (1 + NEAR)]
    return min(near, key=lambda one: (_parts(one.layout), one.layout.checkpointing, one.memory.total))


def _parts(layout: Layout) -> int:
    """How many things a layout does at once."""
    return sum(n > 1 for n in (layout.replicate, layout.shard, layout.tensor, layout.pipeline))


def _enough(work: Workload, gpus: int, batch_tokens: int | None, assumed: Assumed, fixed: Fixed) -> int | None:
    """The fewest GPUs, by doubling, on which something fits; None: not even on a hundred thousand."""
    while gpus < 2**17:
        gpus *= 2
        try:
            check(work.spec, gpus, fixed, int(assumed("node")))
            sequences, _ = batch(work, gpus, batch_tokens, fixed)
            if any(option.best.fits for option in _options(work, gpus, sequences, assumed, fixed)):
                return gpus
        except UserError:
            continue
    return None
