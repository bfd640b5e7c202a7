"""What is made of answers: accuracy, F1, exact match, edit similarity, with standard errors and intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assay.stats import Interval, bootstrap_interval, wilson_interval

__all__ = ["accuracy", "edit_similarity", "f1", "f1_by_class", "mean", "plain", "standard_error"]

RESAMPLES = 2000


def standard_error(values: ArrayLike) -> float:
    """Of the mean over items: sample standard deviation / sqrt(n), as lm-evaluation-harness reports; NaN for one."""
    found = np.asarray(values, dtype=np.float64)
    return float(found.std(ddof=1) / math.sqrt(len(found))) if len(found) > 1 else math.nan


def accuracy(right: ArrayLike) -> Interval:
    """Share of items answered rightly, with Wilson's interval.

    Args:
        right: [n] whether each is.
    """
    found = np.asarray(right, dtype=bool)
    return wilson_interval(int(found.sum()), len(found))


def mean(values: ArrayLike) -> Interval:
    """Mean over items, with a bootstrap interval."""
    return bootstrap_interval(np.asarray(values, dtype=np.float64), np.mean, RESAMPLES)


def f1_by_class(gold: ArrayLike, said: ArrayLike, classes: int) -> NDArray[np.float64]:
    """2 TP / (2 TP + FP + FN) of each class, 0 where the class is neither there nor said.

    Args:
        gold: [..., n] the right class of each item, 0 ... classes - 1.
        said: [..., n] the class that was said.
        classes: how many there are.

    Returns:
        [..., classes].
    """
    right, told = np.asarray(gold), np.asarray(said)
    columns = []
    for number in range(classes):
        is_it, says_it = right == number, told == number
        hit = (is_it & says_it).sum(-1)
        both = is_it.sum(-1) + says_it.sum(-1)
        columns.append(np.where(both > 0, 2 * hit / np.maximum(both, 1), 0.0))
    return np.stack(columns, axis=-1)


def f1(gold: ArrayLike, said: ArrayLike, classes: int) -> Interval:
    """Macro F1, the mean over classes, with a bootstrap interval over items."""
    table = np.stack([np.asarray(gold), np.asarray(said)], axis=1).astype(np.float64)

    def macro(samples: Any, axis: int = 1) -> Any:
        return f1_by_class(samples[..., 0], samples[..., 1], classes).mean(-1)

    return bootstrap_interval(table, macro, RESAMPLES, method="percentile")


def edit_similarity(a: str, b: str) -> float:
    """1 - (insertions, deletions, substitutions) / length of the longer text (Levenshtein 1966); 1 for two empty."""
    if not a and not b:
        return 1.0
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return 1 - row[-1] / max(len(a), len(b))


def plain(found: Interval, values: Sequence[float] | ArrayLike | None = None) -> dict[str, Any]:
    """An interval as plain data: value, low, high, n, method, and the standard error over `values`."""
    bounds = [None if not math.isfinite(bound) else bound for bound in (found.low, found.high)]
    data = {"value": found.estimate, "low": bounds[0], "high": bounds[1], "n": found.n, "method": found.method}
    if values is not None:
        error = standard_error(values)
        data["standard_error"] = None if math.isnan(error) else error
    return data
