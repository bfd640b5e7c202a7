"""Two wells, one deeper: which rates of gradient descent find it from a start in the shallow one.

    f(x) = (x^2 - 1)^2 + tilt x,   tilt > 0: the left well, near -1, is the deeper

Started in the right well, a small rate slides to that well's own minimum and stays. A rate above 2 / f'' there cannot
stay (`quadratic.threshold`), so it leaves, for the other well or for ever. Without noise, between the two lies the band
of rates that a start at the top of what is stable finds first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from assay.errors import UserError

__all__ = ["depth", "descend", "ends", "minima"]


def depth(x: NDArray[np.float64] | float, tilt: float) -> NDArray[np.float64]:
    """f(x)."""
    x = np.asarray(x, dtype=np.float64)
    return np.asarray((x * x - 1) ** 2 + tilt * x)


def minima(tilt: float) -> tuple[float, float]:
    """The deeper and the shallower minimum.

    Raises:
        UserError: a tilt at which there are not two wells: it lies in (0, 8 / (3 sqrt 3)).
    """
    roots = np.roots([4.0, 0.0, -4.0, tilt])
    real = sorted(float(root.real) for root in roots if abs(root.imag) < 1e-9)
    if not tilt > 0 or len(real) != 3:
        raise UserError(f"tilt = {tilt:g}: there are not two wells.", "Give a tilt above 0 and below 1.53.")
    return real[0], real[2]


def descend(start: float, rate: float, steps: int, tilt: float) -> NDArray[np.float64]:
    """[steps + 1] the points of gradient descent; inf once it is lost."""
    points = [start]
    for _ in range(steps):
        x = points[-1]
        points.append(x - rate * (4 * x * (x * x - 1) + tilt) if abs(x) < 1e6 else np.inf)
    return np.array(points)


def ends(starts: Sequence[float], rate: float, steps: int, tilt: float) -> dict[str, float]:
    """Share of the starts that end in the "deep" well, in the "shallow" one, or are "lost" (diverged).

    A run that still moves between the wells is where it is at the last step.
    """
    deep, shallow = minima(tilt)
    top = next(float(r.real) for r in np.roots([4.0, 0.0, -4.0, tilt]) if deep < r.real < shallow - 1e-9)
    last = np.array([descend(start, rate, steps, tilt)[-1] for start in starts])
    lost = ~np.isfinite(last) | (np.abs(last) > 10)
    return {
        "deep": float(np.mean(~lost & (last < top))),
        "shallow": float(np.mean(~lost & (last >= top))),
        "lost": float(np.mean(lost)),
    }
