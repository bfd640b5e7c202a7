"""Intervals by resampling, for statistics without a formula. The same seed gives the same interval."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assay.errors import UserError
from assay.stats.distributions import normal_cdf, normal_quantile
from assay.stats.intervals import Interval, _finite

__all__ = ["Statistic", "bootstrap_difference", "bootstrap_interval"]

#: statistic(samples [r, units, ...], axis=1) -> [r], as np.mean and np.median do.
Statistic = Callable[..., Any]
Method = Literal["bca", "percentile"]

_CHUNK = 4_000_000  # elements resampled at once: 32 MB


def bootstrap_interval(
    x: ArrayLike,
    statistic: Statistic = np.mean,
    n: int = 10_000,
    seed: int = 0,
    *,
    confidence: float = 0.95,
    method: Method = "bca",
) -> Interval:
    """Interval of any statistic by resampling the units with replacement.

    With few units (under about 10) bootstrap intervals are too narrow; for a mean use `mean_interval` there.

    Args:
        x: `[units]` or `[units, ...]`; the units are what is independent (documents, seeds), and rows stay
            together, so a ratio is `lambda s, axis: s[..., 0].sum(axis) / s[..., 1].sum(axis)`.
        statistic: called as `statistic(samples, axis=1)` on `[r, units, ...]`, gives `[r]`.
        n: resamples, 100 or more.
        seed: of the resampling.
        confidence: 0 to 1, both excluded.
        method: "percentile", or "bca" (bias-corrected and accelerated), which mends bias and skewness.

    Returns:
        The interval; infinitely wide for a single unit.

    Raises:
        UserError: no values, a value that is not finite, too few resamples, or an impossible confidence.

    Source: Efron 1987.
    """
    values = _finite(np.asarray(x, dtype=np.float64), "x")
    _check(n, confidence, method)
    estimate = float(_apply(statistic, values[None])[0])
    units = len(values)
    text = f"bootstrap {method}, n = {units}, {n} resamples"
    if units == 1:
        return Interval(estimate, -np.inf, np.inf, confidence, 1, text)
    rng = np.random.default_rng(seed)
    replicates = np.concatenate([_apply(statistic, values[i]) for i in _indices(rng, n, values)])
    jackknife = [_jackknife(statistic, values)] if method == "bca" else []
    low, high = _bounds(estimate, replicates, jackknife, confidence)
    return Interval(estimate, low, high, confidence, units, text)


def bootstrap_difference(
    a: ArrayLike,
    b: ArrayLike,
    statistic: Statistic = np.mean,
    n: int = 10_000,
    seed: int = 0,
    *,
    paired: bool = False,
    confidence: float = 0.95,
    method: Method = "bca",
) -> Interval:
    """Interval of statistic(a) - statistic(b) by resampling.

    Args:
        a: `[units, ...]`, as in `bootstrap_interval`.
        b: `[units, ...]`; the same units in the same order where `paired`.
        statistic: as in `bootstrap_interval`.
        n: resamples, 100 or more.
        seed: of the resampling.
        paired: draw the same units for both, which takes out what they share (the same documents).
        confidence: 0 to 1, both excluded.
        method: "bca" or "percentile".

    Returns:
        The interval; its `n` is the smaller number of units.

    Raises:
        UserError: as `bootstrap_interval`, or paired units of different number.
    """
    first = _finite(np.asarray(a, dtype=np.float64), "a")
    second = _finite(np.asarray(b, dtype=np.float64), "b")
    _check(n, confidence, method)
    if paired and len(first) != len(second):
        raise UserError(
            f"a has {len(first)} units and b has {len(second)}: they are no pairs.",
            "Give the same units in the same order, or paired=False.",
        )
    estimate = float(_apply(statistic, first[None])[0] - _apply(statistic, second[None])[0])
    units = min(len(first), len(second))
    text = f"bootstrap {'paired ' if paired else ''}{method}, n = {len(first)}, {len(second)}, {n} resamples"
    if units == 1:
        return Interval(estimate, -np.inf, np.inf, confidence, 1, text)
    rng = np.random.default_rng(seed)
    if paired:
        parts = [_apply(statistic, first[i]) - _apply(statistic, second[i]) for i in _indices(rng, n, first)]
        replicates = np.concatenate(parts)
    else:
        replicates = np.concatenate([_apply(statistic, first[i]) for i in _indices(rng, n, first)])
        replicates -= np.concatenate([_apply(statistic, second[i]) for i in _indices(rng, n, second)])
    jackknife: list[NDArray[np.float64]] = []
    if method == "bca":
        jackknife = [_jackknife(statistic, first), -_jackknife(statistic, second)]
        if paired:
            jackknife = [jackknife[0] + jackknife[1]]
    low, high = _bounds(estimate, replicates, jackknife, confidence)
    return Interval(estimate, low, high, confidence, units, text)


def _check(n: int, confidence: float, method: str) -> None:
    if n < 100:
        raise UserError(f"n = {n} resamples are too few for an interval.", "Give 100 or more; 10,000 is usual.")
    if not 0 < confidence < 1:
        raise UserError(f"confidence = {confidence} is not between 0 and 1.", "Give 0.95 for 95%.")
    if method not in ("bca", "percentile"):
        raise UserError(f"method = {method!r} is not known.", "Give 'bca' or 'percentile'.")


def _indices(rng: np.random.Generator, n: int, values: NDArray[np.float64]) -> list[NDArray[np.int64]]:
    """Drawn unit numbers [n, units], in pieces whose samples fit in memory."""
    rows = max(1, _CHUNK // values.size)
    units = len(values)
    return [rng.integers(0, units, (min(rows, n - start), units)) for start in range(0, n, rows)]


def _apply(statistic: Statistic, samples: NDArray[np.float64]) -> NDArray[np.float64]:
    result = np.asarray(statistic(samples, axis=1), dtype=np.float64)
    assert result.shape == samples.shape[:1], f"statistic gave shape {result.shape} for {len(samples)} samples"
    return result


def _jackknife(statistic: Statistic, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The statistic without each unit in turn [units]."""
    units = len(values)
    rows = max(1, _CHUNK // values.size)
    found = []
    for start in range(0, units, rows):
        left_out = np.arange(start, min(start + rows, units))
        kept = np.arange(units - 1)[None, :] + (np.arange(units - 1)[None, :] >= left_out[:, None])
        found.append(_apply(statistic, values[kept]))
    return np.concatenate(found)


def _bounds(
    estimate: float, replicates: NDArray[np.float64], jackknife: list[NDArray[np.float64]], confidence: float
) -> tuple[float, float]:
    """Percentile bounds, moved by bias and acceleration where jackknife values are given."""
    levels = np.array([0.5 - confidence / 2, 0.5 + confidence / 2])
    influence = [(len(j) - 1) * (j.mean() - j) for j in jackknife]
    square = sum(float((u**2).sum()) / len(u) ** 2 for u in influence)
    if square > 0:
        # Ties count half, so that a statistic with few values has no bias by construction.
        below = np.mean(replicates < estimate) + 0.5 * np.mean(replicates == estimate)
        n = len(replicates)
        bias = normal_quantile(float(np.clip(below, 0.5 / n, 1 - 0.5 / n)))
        acceleration = sum(float((u**3).sum()) / len(u) ** 3 for u in influence) / (6 * square**1.5)
        moved = []
        for level in levels:
            z = bias + normal_quantile(float(level))
            scale = 1 - acceleration * z
            # Beyond its pole the correction means nothing; the outermost resample is the bound then.
            moved.append(normal_cdf(bias + z / scale) if scale > 0 else float(z > 0))
        levels = np.array(moved)
    low, high = np.quantile(replicates, levels)
    return float(low), float(high)
