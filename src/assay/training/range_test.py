"""The learning-rate range test: one short run while the rate rises, and the rate just under divergence (Smith 2017).

The rate of step i is lowest x (highest / lowest)^(i / (steps - 1)), without warmup or decay. The loss is smoothed by
the median of the last few steps, which a single hard batch cannot move. The rule, fixed before any run:

    diverged    the first step from which on the smoothed loss has risen above its lowest value so far by a fifth of all
                that it had fallen, and by 0.1 nats at the least; or a loss or gradient that is not finite
    largest     the rate at which the smoothed loss was lowest before that: the last rate that still helped
    suggestion  a third of the smallest of the seeds' largest: a run of full length spends most of its steps near its
                peak, where the test passes in a moment

The test costs one short run, a sweep as many runs as it has rates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from assay.errors import UserError
from assay.spec.study import RunSpec
from assay.training.text import Text

__all__ = ["RULE", "Found", "RangeRule", "Reading", "range_test", "read", "suggest"]


@dataclass(frozen=True)
class RangeRule:
    """The numbers of the rule."""

    smooth: int = 5
    """Steps whose median is the smoothed loss."""
    share: float = 0.2
    """Of the fall so far: a rise by more is divergence."""
    least: float = 0.1
    """Nats that the rise has at the least."""
    margin: float = 3.0
    """The suggestion is the largest usable rate over this."""

    def __str__(self) -> str:
        """The rule in words."""
        return (
            f"Diverged: the median loss of the last {self.smooth} steps has risen above its lowest by "
            f"{self.share:.0%} of its fall so far, and by {self.least:g} nats at the least, or a loss or gradient is "
            "not finite. Largest usable rate: where that median was lowest before, just under divergence. "
            f"Suggestion: 1/{self.margin:g} of it, since a full run stays at its peak where the test only passes."
        )


RULE = RangeRule()


@dataclass(frozen=True)
class Reading:
    """One run's range test as the rule reads it."""

    seed: int
    rates: tuple[float, ...]
    """Of every step."""
    losses: tuple[float, ...]
    """Nats per target, before the step at that rate; the last may be not finite."""
    smoothed: tuple[float, ...]
    """The median of the last steps."""
    lowest_at: int
    """Step at which the smoothed loss was lowest."""
    diverged_at: int | None
    """Step from which on it counts as diverged; None: it never did."""

    @property
    def largest(self) -> float:
        """The largest usable rate."""
        return self.rates[self.lowest_at]

    @property
    def learned(self) -> bool:
        """Whether the loss fell at all, beyond what the rule takes for noise."""
        return self.smoothed[0] - self.smoothed[self.lowest_at] > 0


@dataclass(frozen=True)
class Found:
    """What the range test says over all seeds."""

    largest: float
    """The smallest of the seeds' largest usable rates."""
    suggestion: float
    reason: str
    """Why, in a sentence."""
    bounded: bool
    """Whether every seed diverged within the range: else the largest usable rate may lie beyond it."""


def read(seed: int, rates: Sequence[float], losses: Sequence[float], rule: RangeRule = RULE) -> Reading:
    """Apply the rule to a curve.

    Args:
        seed: whose.
        rates: of each step, rising.
        losses: at each step, measured before it is taken.
        rule: its numbers.
    """
    assert len(rates) == len(losses) > 0
    smoothed, lowest_at, diverged = [], 0, None
    for step, loss in enumerate(losses):
        if not math.isfinite(loss):
            diverged = step
            break
        smoothed.append(median(losses[max(0, step - rule.smooth + 1) : step + 1]))
        if smoothed[step] < smoothed[lowest_at]:
            lowest_at = step
        rise = smoothed[step] - smoothed[lowest_at]
        if rise > max(rule.share * (smoothed[0] - smoothed[lowest_at]), rule.least):
            diverged = step
            break
    if not smoothed:
        raise UserError(
            f"seed {seed}: the loss is not finite before the first step.", "Check the model: no rate can mend that."
        )
    return Reading(seed, tuple(rates), tuple(losses), tuple(smoothed), lowest_at, diverged)


def suggest(readings: Sequence[Reading], rule: RangeRule = RULE) -> Found:
    """One rate from all seeds' readings.

    Raises:
        UserError: no seed's loss fell: the range begins above what the model bears, or ends below what it needs.
    """
    assert readings
    if not all(reading.learned for reading in readings):
        first = readings[0]
        raise UserError(
            f"the loss never fell between the rates {first.rates[0]:g} and {first.rates[len(first.smoothed) - 1]:g}.",
            "Give a lower --lowest where it diverged at once, a higher --highest or more --steps where nothing moved.",
        )
    least = min(readings, key=lambda reading: reading.largest)
    bounded = all(reading.diverged_at is not None for reading in readings)
    largest = least.largest
    if bounded:
        assert least.diverged_at is not None
        ended = least.rates[least.diverged_at]
        reason = (
            f"the loss fell up to a rate of {largest:.2g} and had diverged at {ended:.2g}"
            + (f" (the lowest of {len(readings)} seeds)" if len(readings) > 1 else "")
            + f"; 1/{rule.margin:g} of the largest usable rate leaves room for a run that stays at its peak"
        )
    else:
        reason = (
            f"no divergence up to a rate of {max(r.rates[len(r.smoothed) - 1] for r in readings):.2g}, so the largest "
            f"usable rate is {largest:.2g} or more; give a higher --highest to find it"
        )
    return Found(largest, largest / rule.margin, reason, bounded)


def range_test(
    run: RunSpec,
    text: Text,
    *,
    lowest: float = 1e-5,
    highest: float = 1.0,
    steps: int = 100,
    rule: RangeRule = RULE,
    device: str | None = None,
    progress: Callable[[dict[str, Any]], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Reading:
    """Train for some steps while the rate rises from `lowest` to `highest`, and read the curve. Nothing is kept.

    Batches, optimizer, clipping and dropout are the run's own; its rate and schedule are not used.

    Args:
        run: the run whose rate is sought (`training.text.resolve`d or not).
        text: its data.
        lowest, highest: the range.
        steps: how many; the curve ends earlier where it diverges.
        rule: what counts as diverged.
        device: "cpu", "cuda"; None: an accelerator where there is one.
        progress: called with {"step", "steps", "lr", "loss"} after every step.
        stop: asked after every step; True ends the test with what there is.

    Raises:
        UserError: an empty range, fewer than 10 steps, or what `training.loop` would refuse.
    """
    import torch

    from assay.nn import build
    from assay.training.optimizer import adamw
    from assay.training.setup import default_dtype, make_loader, pick_device
    from assay.training.step import seed_dropout, take_step
    from assay.training.text import resolve

    if not 0 < lowest < highest:
        raise UserError(f"the range from {lowest:g} to {highest:g} is empty.", "Give 0 < lowest < highest.")
    if steps < 10:
        raise UserError(f"steps = {steps}: too few to see a curve.", "Give 10 or more; 100 is usual.")
    run = resolve(run)
    where = device or pick_device()
    loader, train = make_loader(run, text), run.train
    rates, losses = [], []
    with torch.random.fork_rng(devices=[]):
        model = build(run.model, seed=run.seed, device=where).train()
        optimizer = adamw(model, train.optimizer)
        for step in range(steps):
            rate = lowest * (highest / lowest) ** (step / (steps - 1))
            batch = loader.batch(0, step)
            seed_dropout(run.seed, step)
            found = take_step(
                model, optimizer, batch, weight=float(batch.weights.sum()), parts=train.accumulation,
                learning_rate=rate, most=train.optimizer.clip, z_loss=train.z_loss,
                dtype=train.dtype or default_dtype(where),
            )  # fmt: skip
            finite = math.isfinite(found.loss) and math.isfinite(found.grad_norm)
            rates.append(rate)
            losses.append(found.loss if finite else math.nan)
            if progress is not None:
                progress({"step": step + 1, "steps": steps, "lr": rate, "loss": found.loss})
            if read(run.seed, rates, losses, rule).diverged_at is not None or (stop is not None and stop()):
                break
    return read(run.seed, rates, losses, rule)
