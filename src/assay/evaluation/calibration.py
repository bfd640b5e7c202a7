"""Calibration: whether answers given with confidence p are right p of the time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assay.stats import Interval, bootstrap_interval

__all__ = ["BINS", "Bin", "brier", "confidences", "ece", "reliability"]

BINS = 15
"""Bins of equal width, as published."""
RESAMPLES = 2000


@dataclass(frozen=True)
class Bin:
    """Items whose confidence lies in (low, high]."""

    low: float
    high: float
    count: int
    confidence: float
    """Mean over its items."""
    accuracy: float
    """Share of its items that are right."""


def confidences(nats: ArrayLike) -> NDArray[np.float64]:
    """Probabilities over choices, [n, choices], from -ln p of each: a softmax over the choices given."""
    logits = -np.asarray(nats, dtype=np.float64)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def ece(confidence: ArrayLike, right: ArrayLike, bins: int = BINS, *, resamples: int = RESAMPLES) -> Interval:
    """Expected calibration error: sum over bins of (items / n) |accuracy - mean confidence| (Guo et al. 2017, eq. 3).

    Bins are (0, 1/m], (1/m, 2/m] ...; a confidence of 0 falls into the first. The interval resamples items. ECE of
    finite samples is biased upward, the more so the fewer items a bin has, and so is the interval.

    Args:
        confidence: [n] of the answer given, in [0, 1].
        right: [n] whether it is right.
        bins: how many.
        resamples: of the interval.
    """
    table = np.stack([np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=np.float64)], axis=1)

    def error(samples: Any, axis: int = 1) -> Any:
        where = _bin(samples[..., 0], bins)
        gap = samples[..., 1] - samples[..., 0]
        rows = np.arange(len(samples))[:, None] * bins + where
        sums = np.bincount(rows.ravel(), weights=gap.ravel(), minlength=len(samples) * bins)
        return np.abs(sums.reshape(-1, bins)).sum(-1) / samples.shape[1]

    return bootstrap_interval(table, error, resamples, method="percentile")


def brier(probabilities: ArrayLike, gold: ArrayLike) -> float:
    """Mean over items of the squared distance to the right answer's one-hot vector (Brier 1950); 0 is best, 2 worst."""
    table = np.array(probabilities, dtype=np.float64)
    table[np.arange(len(table)), np.asarray(gold)] -= 1
    return float((table**2).sum(-1).mean())


def reliability(confidence: ArrayLike, right: ArrayLike, bins: int = BINS) -> list[Bin]:
    """The bins that hold items: what a reliability diagram draws."""
    given, hit = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=np.float64)
    where = _bin(given, bins)
    found = []
    for number in np.unique(where):
        inside = where == number
        mean, share = float(given[inside].mean()), float(hit[inside].mean())
        found.append(Bin(number / bins, (number + 1) / bins, int(inside.sum()), mean, share))
    return found


def _bin(confidence: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
