"""Normal and Student t distributions, from the standard library's functions alone."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

from assay.errors import UserError

__all__ = ["normal_cdf", "normal_quantile", "t_cdf", "t_quantile"]

_NORMAL = NormalDist()


def normal_cdf(z: float) -> float:
    """Probability that a standard normal variable is at most `z`."""
    return 0.5 * math.erfc(-z / math.sqrt(2))


def normal_quantile(p: float) -> float:
    """The `z` below which a standard normal variable stays with probability `p`; infinite at 0 and 1.

    Source: Wichura 1988 (AS 241), as in the standard library.
    """
    if p <= 0 or p >= 1:
        return math.copysign(math.inf, p - 0.5)
    return _NORMAL.inv_cdf(p)


def t_cdf(t: float, df: float) -> float:
    """Probability that Student's t with `df` degrees of freedom is at most `t`.

    Raises:
        UserError: `df` is not positive.
    """
    if not df > 0:
        raise UserError(f"df = {df}: degrees of freedom are above 0.", "Give two values or more.")
    if math.isinf(df):
        return normal_cdf(t)
    # Both tails from the small side, so that none loses digits to 1 - x.
    tail = 0.5 * _incomplete_beta(df / 2, 0.5, df / (df + t * t))
    return tail if t < 0 else 1 - tail


@lru_cache(maxsize=4096)
def t_quantile(p: float, df: float) -> float:
    """The `t` below which Student's t with `df` degrees of freedom stays with probability `p`.

    Found by bisection on the distribution function; accurate to about 1e-12 relative. Above 1e8 degrees of
    freedom the normal quantile is given, which differs by less than that of printed digits.

    Args:
        p: probability, 0 to 1; the result is infinite at both ends.
        df: degrees of freedom, above 0; need not be whole (Welch).

    Raises:
        UserError: `df` is not positive.
    """
    if not df > 0:
        raise UserError(f"df = {df}: degrees of freedom are above 0.", "Give two values or more.")
    if p == 0.5:
        return 0.0
    if df > 1e8 or p <= 0 or p >= 1:
        return normal_quantile(p)
    if p > 0.5:
        return -t_quantile(1 - p, df)
    low, high = -1.0, 0.0
    while t_cdf(low, df) > p:
        low, high = 2 * low, low
    for _ in range(200):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        low, high = (low, middle) if t_cdf(middle, df) > p else (middle, high)
    return 0.5 * (low + high)


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """Regularised incomplete beta function I_x(a, b).

    Source: continued fraction DLMF 8.17.22, evaluated by Lentz's method.
    """
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    if x > (a + 1) / (a + b + 2):  # where the fraction for the other tail converges faster
        return 1 - _incomplete_beta(b, a, 1 - x)
    front = math.exp(
        math.lgamma(a + b)
        - math.lgamma(a)
        - math.lgamma(b)
        + a * math.log(x)
        + b * math.log1p(-x)
    )  # fmt: skip
    tiny = 1e-300
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1) or tiny)
    value = d
    for m in range(1, 100_000):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / (1 + numerator * d or tiny)
            c = 1 + numerator / c or tiny
            value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return front * value / a
