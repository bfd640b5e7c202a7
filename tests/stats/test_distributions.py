"""Quantiles against printed tables, closed forms and numeric integration."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import UserError
from assay.stats import normal_cdf, normal_quantile, t_cdf, t_quantile


@pytest.mark.parametrize(
    ("p", "df", "table"),
    [
        (0.975, 1, 12.706), (0.975, 2, 4.303), (0.975, 3, 3.182), (0.975, 4, 2.776), (0.975, 9, 2.262),
        (0.975, 30, 2.042), (0.975, 120, 1.980), (0.95, 4, 2.132), (0.90, 7, 1.415), (0.995, 5, 4.032),
        (0.9995, 2, 31.599),
    ],
)  # fmt: skip
def test_t_quantile_is_that_of_the_tables(p: float, df: int, table: float) -> None:
    assert t_quantile(p, df) == pytest.approx(table, abs=5e-4)
    assert t_quantile(1 - p, df) == pytest.approx(-table, abs=5e-4)


@given(st.floats(1e-6, 1 - 1e-6))
def test_t_has_closed_forms_at_1_and_2_degrees(p: float) -> None:
    assert t_quantile(p, 1) == pytest.approx(math.tan(math.pi * (p - 0.5)), rel=1e-9, abs=1e-12)
    a = 4 * p * (1 - p)
    assert t_quantile(p, 2) == pytest.approx(2 * (p - 0.5) * math.sqrt(2 / a), rel=1e-9, abs=1e-12)


@given(t=st.floats(0.01, 30), df=st.floats(0.6, 500))
def test_t_cdf_is_the_integral_of_the_density(t: float, df: float) -> None:
    nodes, weights = np.polynomial.legendre.leggauss(400)
    x = t * (nodes + 1) / 2
    constant = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - 0.5 * math.log(df * math.pi)
    density = np.exp(constant - (df + 1) / 2 * np.log1p(x**2 / df))
    assert t_cdf(t, df) - 0.5 == pytest.approx(float(density @ weights) * t / 2, abs=1e-9)


@given(p=st.floats(1e-8, 1 - 1e-8), df=st.floats(0.5, 1e6))
def test_t_quantile_undoes_t_cdf(p: float, df: float) -> None:
    assert t_cdf(t_quantile(p, df), df) == pytest.approx(p, rel=1e-9)


def test_t_becomes_normal() -> None:
    assert t_quantile(0.975, 1e7) == pytest.approx(t_quantile(0.975, 1e9), abs=1e-6)
    assert t_quantile(0.975, math.inf) == normal_quantile(0.975) == pytest.approx(1.959963985, abs=1e-9)
    assert t_cdf(1.5, math.inf) == normal_cdf(1.5)
    assert normal_cdf(-40) > 0 or normal_cdf(-37) > 0  # tails lose no digits to 1 - x
    assert normal_quantile(0) == -math.inf and t_quantile(1, 3) == math.inf


def test_no_degrees_of_freedom_is_an_error() -> None:
    with pytest.raises(UserError, match="df = 0"):
        t_quantile(0.9, 0)
    with pytest.raises(UserError, match="df = -1"):
        t_cdf(0.9, -1)
