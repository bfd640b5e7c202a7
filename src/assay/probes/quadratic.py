"""A quadratic, where the learning rate's thresholds are exact: f(x) = 1/2 sum_i lambda_i x_i^2.

Gradient descent multiplies coordinate i by 1 - eta lambda_i each step, so it converges if and only if
eta < 2 / lambda_max. With momentum (heavy ball, Polyak 1964; torch's SGD)

    v <- beta v + grad f(x);  x <- x - eta v

a coordinate follows x_{t+1} = (1 + beta - eta lambda) x_t - beta x_{t-1}. Both roots of z^2 - (1 + beta - eta lambda) z
+ beta lie inside the unit circle if and only if |beta| < 1 and 0 < eta lambda < 2 + 2 beta: momentum moves the
threshold up to (2 + 2 beta) / lambda_max (Cohen et al. 2021, appendix B). Under the smallest rates progress is slow: a
coordinate keeps (1 - eta lambda)^t of itself, so the flattest direction takes about 1 / (eta lambda_min) steps to fall
by e.
"""

from __future__ import annotations

import cmath
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assay.errors import UserError

__all__ = ["converges", "descend", "radius", "threshold"]


def threshold(largest: float, momentum: float = 0.0) -> float:
    """The rate below which every start converges: (2 + 2 beta) / lambda_max.

    Args:
        largest: lambda_max, the sharpness; positive.
        momentum: beta in [0, 1).

    Raises:
        UserError: a sharpness that is not positive, or a momentum outside [0, 1).
    """
    if not largest > 0:
        raise UserError(f"largest = {largest:g}: a quadratic without positive curvature has no threshold.")
    _check(momentum)
    return (2 + 2 * momentum) / largest


def radius(curvature: float, rate: float, momentum: float = 0.0) -> float:
    """The factor a step in the long run, the larger root's magnitude: a coordinate converges below 1."""
    _check(momentum)
    middle = 1 + momentum - rate * curvature
    root = cmath.sqrt(middle * middle - 4 * momentum)
    return max(abs((middle + root) / 2), abs((middle - root) / 2))


def descend(
    curvatures: ArrayLike, start: ArrayLike, rate: float, steps: int, *, momentum: float = 0.0
) -> NDArray[np.float64]:
    """The points of gradient descent, with momentum where it is given.

    Args:
        curvatures: eigenvalues lambda_i [n], or a symmetric matrix [n, n].
        start: x_0 [n].
        rate: eta.
        steps: how many.
        momentum: beta.

    Returns:
        [steps + 1, n], the start included; values beyond float64 are inf.
    """
    _check(momentum)
    matrix = np.asarray(curvatures, dtype=np.float64)
    matrix = np.diag(matrix) if matrix.ndim == 1 else matrix
    x = np.asarray(start, dtype=np.float64)
    velocity, points = np.zeros_like(x), [x]
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(steps):
            velocity = momentum * velocity + matrix @ x
            x = x - rate * velocity
            points.append(x)
    return np.stack(points)


def converges(
    curvatures: Sequence[float], rate: float, *, momentum: float = 0.0, steps: int = 2000, seed: int = 0
) -> bool:
    """Whether iterating from a random start ends nearer to the minimum than it began: shown, not derived."""
    start = np.random.default_rng(seed).standard_normal(len(curvatures))
    points = descend(curvatures, start, rate, steps, momentum=momentum)
    return bool(np.linalg.norm(points[-1]) < np.linalg.norm(points[0]))


def _check(momentum: float) -> None:
    if not 0 <= momentum < 1:
        raise UserError(f"momentum = {momentum:g}: it lies in [0, 1).", "0.9 is usual.")
