"""Intervals from formulas: of a mean, a difference, a slope, a proportion."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assay.errors import UserError
from assay.stats.distributions import normal_quantile, t_quantile

__all__ = [
    "Interval",
    "mean_band",
    "mean_interval",
    "paired_difference",
    "slope",
    "welch_difference",
    "wilson_interval",
]


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval, in the unit of what was measured.

    Attributes:
        estimate: the value itself.
        low: lower bound, -inf where the repeats are too few to say.
        high: upper bound, inf where the repeats are too few to say.
        confidence: how often intervals so made hold the true value, such as 0.95.
        n: independent repeats behind it (seeds, documents, trials); None for an exact value.
        method: how it was made, for the report.
    """

    estimate: float
    low: float
    high: float
    confidence: float
    n: int | None
    method: str

    @classmethod
    def exact(cls, value: float) -> Self:
        """A value without uncertainty: counted or computed, not sampled."""
        return cls(float(value), float(value), float(value), 1.0, None, "exact")

    @property
    def width(self) -> float:
        """High minus low."""
        return self.high - self.low

    def __contains__(self, value: float) -> bool:
        """Whether a value lies within the bounds, both included."""
        return self.low <= value <= self.high

    def __str__(self) -> str:
        """The estimate and bounds, as a report shows them."""
        if self.n is None:
            return f"{self.estimate:.4g}"
        return f"{self.estimate:.4g} [{self.low:.4g}, {self.high:.4g}]"


def mean_interval(x: ArrayLike, confidence: float = 0.95) -> Interval:
    """Mean with its Student t interval: right for normal values at any number of them, even 2 or 3.

    Args:
        x: values `[n]`, one per independent repeat.
        confidence: 0 to 1, both excluded.

    Returns:
        The interval; of a single value it is infinitely wide, since one repeat says nothing of the spread.

    Raises:
        UserError: no values, a value that is not finite, or an impossible confidence.
    """
    values = _values(x, "x")
    mean, low, high = mean_band(values[:, None], confidence)
    return Interval(
        float(mean[0]),
        float(low[0]),
        float(high[0]),
        confidence,
        len(values),
        f"Student t, n = {len(values)}",
    )


def mean_band(
    x: ArrayLike, confidence: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean and Student t interval at every point of a curve.

    Args:
        x: values `[n, ...]`: one row per independent repeat, such as the loss curve of one seed.
        confidence: 0 to 1, both excluded; it holds for each point alone, not for the whole curve at once.

    Returns:
        mean, low and high, each `[...]`.

    Raises:
        UserError: no rows, a value that is not finite, or an impossible confidence.
    """
    values = _finite(np.asarray(x, dtype=np.float64), "x")
    n = len(values)
    t = _t(confidence, n - 1)
    # Shifted by the first row: equal values give exactly zero spread, and large offsets lose no digits.
    shifted = values - values[0]
    mean = shifted.mean(axis=0)
    spread = shifted.std(axis=0, ddof=1) if n > 1 else np.ones_like(mean)
    half = np.full_like(mean, np.inf) if n == 1 else t * spread / math.sqrt(n)
    mean = mean + values[0]
    return mean, mean - half, mean + half


def paired_difference(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> Interval:
    """Mean of a - b over pairs that share what varies (seed, data), with its Student t interval.

    Pairing takes out what both share: use it wherever runs were made in pairs.

    Args:
        a: values `[n]`.
        b: values `[n]`, `b[i]` got under the same seed as `a[i]`.
        confidence: 0 to 1, both excluded.

    Raises:
        UserError: different lengths, no values, or a value that is not finite.
    """
    first, second = _values(a, "a"), _values(b, "b")
    if len(first) != len(second):
        raise UserError(
            f"a has {len(first)} values and b has {len(second)}: they are no pairs.",
            "Give one value per shared seed, or use welch_difference for unpaired runs.",
        )
    found = mean_interval(first - second, confidence)
    method = f"paired Student t, n = {len(first)}"
    return Interval(found.estimate, found.low, found.high, confidence, found.n, method)


def welch_difference(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> Interval:
    """mean(a) - mean(b) of unpaired values with possibly different spreads.

    Args:
        a: values `[n]`.
        b: values `[m]`.
        confidence: 0 to 1, both excluded.

    Returns:
        The interval; infinitely wide where a side has a single value. Its `n` is the smaller of both.

    Raises:
        UserError: no values, or a value that is not finite.

    Source: Welch 1947, degrees of freedom after Satterthwaite.
    """
    first, second = _values(a, "a"), _values(b, "b")
    n, m = len(first), len(second)
    estimate = float(first.mean() - second.mean())
    method = f"Welch t, n = {n}, {m}"
    if min(n, m) < 2:
        _t(confidence, 1)
        return Interval(estimate, -math.inf, math.inf, confidence, min(n, m), method)
    u, v = float(first.var(ddof=1)) / n, float(second.var(ddof=1)) / m
    half = 0.0
    if u + v > 0:
        df = (u + v) ** 2 / (u**2 / (n - 1) + v**2 / (m - 1))
        half = _t(confidence, df) * math.sqrt(u + v)
    return Interval(estimate, estimate - half, estimate + half, confidence, min(n, m), method)


def slope(x: ArrayLike, y: ArrayLike, confidence: float = 0.95) -> Interval:
    """Slope of the least-squares line y = c + slope * x, with its Student t interval.

    The interval supposes independent errors of equal spread around a straight line.

    Args:
        x: values `[n]`, not all equal.
        y: values `[n]`.
        confidence: 0 to 1, both excluded.

    Returns:
        The interval in units of y per unit of x; infinitely wide for 2 points.

    Raises:
        UserError: different lengths, fewer than 2 points, all x equal, or a value that is not finite.
    """
    first, second = _values(x, "x"), _values(y, "y")
    n = len(first)
    if n != len(second):
        raise UserError(f"x has {n} values and y has {len(second)}.", "Give one y for each x.")
    centred = first - first.mean()
    square = float(centred @ centred)
    if n < 2 or square == 0:
        raise UserError(f"x holds {n} values, all equal: no slope can be told.", "Give two different x or more.")
    value = float(centred @ (second - second.mean())) / square
    residual = second - second.mean() - value * centred
    half = math.inf
    if n > 2:
        half = _t(confidence, n - 2) * math.sqrt(float(residual @ residual) / (n - 2) / square)
    else:
        _t(confidence, 1)
    return Interval(value, value - half, value + half, confidence, n, f"least squares, Student t, n = {n}")


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """A proportion with Wilson's score interval, which stays sensible at 0%, 100% and few trials.

    Args:
        successes: 0 to `trials`.
        trials: 1 or more independent trials.
        confidence: 0 to 1, both excluded.

    Raises:
        UserError: counts that cannot be.

    Source: Wilson 1927, without continuity correction.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise UserError(
            f"{successes} successes in {trials} trials cannot be.",
            "Give 1 trial or more, and 0 to that many successes.",
        )
    _t(confidence, 1)
    z = normal_quantile(0.5 + confidence / 2)
    p = successes / trials
    centre = (p + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials**2))
    # At the ends the formula gives 0 and 1 up to rounding; the bounds hold the estimate always.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == trials else centre + half
    return Interval(p, low, high, confidence, trials, f"Wilson, n = {trials}")


def _t(confidence: float, df: float) -> float:
    """Two-sided t factor; checks the confidence; infinite without degrees of freedom."""
    if not 0 < confidence < 1:
        raise UserError(f"confidence = {confidence} is not between 0 and 1.", "Give 0.95 for 95%.")
    return t_quantile(0.5 + confidence / 2, df) if df > 0 else math.inf


def _values(x: ArrayLike | Sequence[float], name: str) -> NDArray[np.float64]:
    values = np.asarray(x, dtype=np.float64)
    if values.ndim != 1:
        raise UserError(f"{name} has shape {values.shape}.", "Give a flat list of numbers, one per repeat.")
    return _finite(values, name)


def _finite(values: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    if values.ndim == 0 or len(values) == 0:
        raise UserError(f"{name} holds no values.", "Give one value or more; finish the runs first (--resume).")
    wrong = int(np.count_nonzero(~np.isfinite(values)))
    if wrong:
        raise UserError(
            f"{name} holds {wrong} of {values.size} values that are not finite.",
            "Leave out the runs that diverged, and report how many they were.",
        )
    return values
