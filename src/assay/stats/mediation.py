"""Mediation: how much of a treatment's effect on an outcome goes by way of a mediator.

    m = a x + e,   y = c' x + b m + e,   total = c' + a b

a b is the indirect effect, c' the direct one. It is a statement on the regression, not on causes: the mediator was not
set by anyone, and what drives both mediator and outcome counts as mediation (Baron & Kenny 1986; MacKinnon 2008).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assay.errors import UserError
from assay.stats.intervals import Interval

__all__ = ["Mediation", "mediation"]


@dataclass(frozen=True)
class Mediation:
    """Effects in units of the outcome."""

    total: Interval
    direct: Interval
    indirect: Interval


def mediation(
    treatment: ArrayLike,
    mediator: ArrayLike,
    outcome: ArrayLike,
    blocks: Sequence[object] | None = None,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Mediation:
    """Effects with percentile bootstrap intervals; runs are drawn again within each block and treatment.

    Args:
        treatment: [n] 0 or 1.
        mediator: [n].
        outcome: [n].
        blocks: [n] what a run's conditions share (such as depth); all values are taken from their block's mean.
        confidence: of the intervals.
        resamples: of the bootstrap.
        seed: of the draws.

    Raises:
        UserError: different lengths, fewer than 3 runs of a treatment, or a value that is not finite.
    """
    x, m, y = (np.asarray(values, dtype=np.float64) for values in (treatment, mediator, outcome))
    names = list(blocks) if blocks is not None else [None] * len(x)
    if not len(x) == len(m) == len(y) == len(names) or not set(np.unique(x)) == {0.0, 1.0}:
        raise UserError("treatment, mediator, outcome: not one value a run, or the treatment is not 0 and 1.")
    if min((x == 0).sum(), (x == 1).sum()) < 3:
        raise UserError("treatment: fewer than 3 runs on one side.", "Give 3 runs of each or more.")
    if not (np.isfinite(m).all() and np.isfinite(y).all()):
        raise UserError("mediator, outcome: a value is not finite.", "Leave out the runs that diverged.")
    cells: dict[tuple[object, float], list[int]] = {}
    for index, name in enumerate(names):
        cells.setdefault((name, float(x[index])), []).append(index)
    # Two copies of one run have no spread about each other, which would make b infinite: such draws are left out.
    rng = np.random.default_rng([seed, 34])
    found = _effects(x, m, y, names)
    drawn = []
    for _ in range(resamples):
        chosen = np.concatenate([rng.choice(group, len(group)) for group in cells.values()])
        again = _effects(x[chosen], m[chosen], y[chosen], [names[i] for i in chosen])
        if np.isfinite(again).all():
            drawn.append(again)
    if len(drawn) < resamples // 2:
        raise UserError("mediator: has no spread within a treatment.", "Give runs that differ.")
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    smallest = int(min((x == 0).sum(), (x == 1).sum()))
    return Mediation(
        *(
            Interval(float(found[i]), float(low[i]), float(high[i]), confidence, smallest, f"bootstrap, n = {len(x)}")
            for i in range(3)
        )
    )


def _effects(
    x: NDArray[np.float64], m: NDArray[np.float64], y: NDArray[np.float64], names: Sequence[object]
) -> NDArray[np.float64]:
    """Total, direct, indirect; NaN where the mediator says nothing beyond the treatment."""
    groups: dict[object, list[int]] = {}
    for index, name in enumerate(names):
        groups.setdefault(name, []).append(index)
    x, m, y = x.copy(), m.copy(), y.copy()
    for rows in groups.values():
        for values in (x, m, y):
            values[rows] -= values[rows].mean()
    xx = float(x @ x)
    a, total = float(x @ m) / xx, float(x @ y) / xx
    rest = m - a * x
    left = float(rest @ rest)
    if left <= 1e-18 * max(float(m @ m), 1e-300):
        return np.full(3, np.nan)
    b = float(rest @ y) / left
    return np.array([total, total - a * b, a * b])
