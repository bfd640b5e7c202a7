"""Loss spikes, counted by one stated rule.

A loss is high where it is not finite or lies above

    median + max(k * 1.4826 * MAD, least)

of the last `window` losses that were not high themselves; MAD is the median absolute deviation from that median, and
1.4826 times it is the standard deviation of a normal distribution. High losses up to `apart` steps from one another
are one spike. The first `window` losses are taken as they are, and where the loss falls fast within a window the
median stands high and the spread is wide: at the very start of training small spikes go uncounted.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

__all__ = ["Spike", "SpikeRule", "spikes"]


@dataclass(frozen=True)
class SpikeRule:
    """The rule as data; its numbers go wherever its counts go."""

    k: float = 6.0
    """Standard deviations above the running median."""
    least: float = 0.1
    """Nats above the median at the least: a smooth curve's ripples are no spikes."""
    window: int = 20
    """Losses that the median is of."""
    apart: int = 3
    """High losses this close are one spike."""

    def __str__(self) -> str:
        """The rule in words."""
        return (
            f"loss above the median of the last {self.window} losses by {self.k:g} x 1.4826 x their median absolute "
            f"deviation, and by {self.least:g} nats at the least; high losses up to {self.apart} steps apart are one"
        )


@dataclass(frozen=True)
class Spike:
    """One excursion."""

    start: int
    """Index of its first high loss."""
    end: int
    """Index of its last."""
    height: float
    """Nats above the running median at the peak; inf where a loss was not finite."""


def spikes(losses: Sequence[float], rule: SpikeRule | None = None) -> list[Spike]:
    """The spikes of a loss curve, in order.

    Args:
        losses: one a step, nats.
        rule: None: the default numbers.
    """
    rule = rule or SpikeRule()
    recent: deque[float] = deque(maxlen=rule.window)
    found: list[Spike] = []
    for index, loss in enumerate(losses):
        if len(recent) < rule.window:
            if math.isfinite(loss):
                recent.append(loss)
            else:
                _add(found, index, math.inf, rule)
            continue
        middle = median(recent)
        spread = 1.4826 * median(abs(value - middle) for value in recent)
        if math.isfinite(loss) and loss <= middle + max(rule.k * spread, rule.least):
            recent.append(loss)
        else:
            _add(found, index, loss - middle if math.isfinite(loss) else math.inf, rule)
    return found


def _add(found: list[Spike], index: int, height: float, rule: SpikeRule) -> None:
    if found and index - found[-1].end <= rule.apart:
        last = found.pop()
        found.append(Spike(last.start, index, max(last.height, height)))
    else:
        found.append(Spike(index, index, height))
