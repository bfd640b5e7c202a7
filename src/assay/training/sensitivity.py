"""Learning-rate sensitivity: how much is lost by missing the best rate (Wortsman et al. 2023, section 2.2).

    E over eta in [a, b] of  min(loss(eta), loss at init) - best loss

with eta uniform in log space over the sweep's range. A run that diverged counts as one that learned nothing. 0: every
rate does equally well; the loss at init minus the best: all but none fail.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from assay.errors import UserError

__all__ = ["sensitivity"]


def sensitivity(rates: Sequence[float], losses: Sequence[float], at_start: float) -> float:
    """The expected loss over the best, by the trapezoid rule in log rate between the rates of a sweep.

    Args:
        rates: of the sweep, two or more, each once, in any order; the first and last are a and b.
        losses: final losses, one a rate; NaN or infinity where the run diverged.
        at_start: the loss before training.

    Returns:
        In the losses' own unit, at least 0.

    Raises:
        UserError: fewer than two rates, a rate twice or not positive, or numbers that do not go together.
    """
    if len(rates) != len(losses):
        raise UserError(f"{len(rates)} rates and {len(losses)} losses.", "Give one loss a rate.")
    if len(set(rates)) < 2 or len(set(rates)) < len(rates) or min(rates) <= 0:
        raise UserError(f"rates = {list(rates)}: a sweep has two positive rates or more, each once.")
    if not math.isfinite(at_start):
        raise UserError(f"at_start = {at_start}: the loss before training must be finite.")
    points = sorted(zip(map(math.log, rates), losses, strict=True))
    capped = [min(loss, at_start) if math.isfinite(loss) else at_start for _, loss in points]
    above = [loss - min(capped) for loss in capped]
    area = sum((points[i + 1][0] - points[i][0]) * (above[i] + above[i + 1]) / 2 for i in range(len(points) - 1))
    return area / (points[-1][0] - points[0][0])
