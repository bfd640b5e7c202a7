"""What counts as a bad loss or gradient, and whether its batch is left out: one rule, the same on every rank.

The decision follows from the loss and the gradient norm of the whole batch, over all ranks, and from those of the
steps before, which a checkpoint keeps: so ranks agree without asking one another, and a resumed run decides as the
run without the break.
"""

from __future__ import annotations

import math
from statistics import median

from assay.spec.training import BadLossAction, BadLossSpec

__all__ = ["FLOOR", "Policy", "robust_deviations"]

NORMAL = 1.4826
"""1 / the 75% point of the normal distribution: the median absolute deviation times this is sigma of normal values."""
FLOOR = 0.01
"""The least deviation, as a share of the median: values that hardly differ make no spike of a small rise."""


class Policy:
    """The rule of a run.

    Args:
        spec: `TrainSpec.on_bad_loss`.
        recent: [loss, gradient norm] of the last applied steps; `note` adds to it and keeps `spec.window` of them.
    """

    def __init__(self, spec: BadLossSpec, recent: list[list[float]]) -> None:
        """See the class."""
        self.spec, self.recent = spec, recent

    def reason(self, loss: float, norm: float) -> str:
        """Why a step must not be applied, empty where it may.

        Args:
            loss: of the whole batch, nats per target.
            norm: global gradient norm before clipping.
        """
        named = (("loss", loss, self.spec.spike, 0), ("gradient norm", norm, self.spec.norm_spike, 1))
        for what, value, _, _ in named:
            if not math.isfinite(value):
                return f"the {what} is {value}"
        for what, value, most, column in named:
            if not most or len(self.recent) < self.spec.window:
                continue
            before = [row[column] for row in self.recent]
            away = robust_deviations(value, before)
            if away > most:
                return (
                    f"the {what} is {value:.6g}, {away:.3g} robust deviations above the median {median(before):.6g} "
                    f"of {len(before)} steps (more than {most:g})"
                )
        return ""

    def allows(self, loss: float, norm: float) -> bool:
        """Whether a step may be applied."""
        return not self.reason(loss, norm)

    def note(self, loss: float, norm: float) -> None:
        """Remember an applied step, where spikes are looked for."""
        if self.spec.spike or self.spec.norm_spike:
            self.recent.append([loss, norm])
            del self.recent[: -self.spec.window]

    def skips(self, skipped: int) -> bool:
        """Whether a bad batch is left out when so many have been; else the run ends."""
        return self.spec.action is BadLossAction.skip and skipped < self.spec.most


def robust_deviations(value: float, before: list[float]) -> float:
    """How far a value lies above the median of others, in units of 1.4826 x their median absolute deviation.

    The unit is no smaller than FLOOR x |median|; below the median the result is negative.
    """
    middle = median(before)
    unit = max(NORMAL * median(abs(x - middle) for x in before), FLOOR * abs(middle))
    if unit == 0:
        return math.inf if value > middle else 0.0
    return (value - middle) / unit
