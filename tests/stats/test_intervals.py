"""Intervals: equivariance, coverage on simulated data, and controls that must fail."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import UserError
from assay.stats import (
    Interval,
    mean_band,
    mean_interval,
    normal_quantile,
    paired_difference,
    slope,
    welch_difference,
    wilson_interval,
)

VALUES = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=12)
SIMULATIONS = 20_000
#: Six standard errors of a coverage of 95% over that many simulations.
SLACK = 6 * math.sqrt(0.95 * 0.05 / SIMULATIONS)


def close(interval: Interval, estimate: float, low: float, high: float) -> None:
    assert (interval.estimate, interval.low, interval.high) == pytest.approx((estimate, low, high), abs=1e-6, rel=1e-6)


def test_mean_interval_of_a_worked_example() -> None:
    found = mean_interval([1, 2, 3])
    close(found, 2, 2 - 4.3026527 / math.sqrt(3), 2 + 4.3026527 / math.sqrt(3))
    assert (found.n, found.confidence) == (3, 0.95)
    assert str(found) == "2 [-0.4841, 4.484]"
    assert 2.5 in found and 5 not in found and found.width == pytest.approx(2 * 4.3026527 / math.sqrt(3))


@given(VALUES, st.floats(-100, 100), st.floats(0.01, 100), st.randoms(use_true_random=False))
def test_mean_interval_moves_and_scales_with_the_values(x: list, shift: float, scale: float, random) -> None:
    base = mean_interval(x)
    moved = mean_interval([scale * v + shift for v in x])
    assert base.low <= base.estimate <= base.high
    size = 1e-9 * (1 + scale * 1e3 + abs(shift))
    for name in ("estimate", "low", "high"):
        assert getattr(moved, name) == pytest.approx(scale * getattr(base, name) + shift, abs=size)
    random.shuffle(x)
    assert mean_interval(x).low == pytest.approx(base.low, abs=1e-9)


@given(VALUES, st.floats(0.5, 0.98))
def test_more_confidence_is_wider(x: list, confidence: float) -> None:
    assert mean_interval(x, confidence + 0.01).width >= mean_interval(x, confidence).width


@pytest.mark.parametrize("n", [2, 3, 5, 20])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_t_intervals_cover_as_often_as_they_say(n: int, confidence: float) -> None:
    rng = np.random.default_rng(n)
    _, low, high = mean_band(rng.normal(5, 3, (n, SIMULATIONS)), confidence)
    coverage = np.mean((low <= 5) & (high >= 5))
    assert coverage == pytest.approx(confidence, abs=6 * math.sqrt(confidence * (1 - confidence) / SIMULATIONS))


def test_control_normal_factor_in_place_of_t_would_be_seen() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(5, 3, (3, SIMULATIONS))
    half = normal_quantile(0.975) * x.std(0, ddof=1) / math.sqrt(3)
    assert np.mean(abs(x.mean(0) - 5) <= half) < 0.95 - 5 * SLACK


def test_band_is_the_interval_at_each_point() -> None:
    x = np.random.default_rng(1).normal(size=(4, 3, 2))
    mean, low, high = mean_band(x, 0.9)
    assert mean.shape == (3, 2)
    for i in np.ndindex(3, 2):
        close(mean_interval(x[(slice(None), *i)], 0.9), mean[i], low[i], high[i])


def test_equal_values_give_a_point_and_one_value_gives_no_interval() -> None:
    close(mean_interval([0.1, 0.1, 0.1]), 0.1, 0.1, 0.1)
    assert mean_interval([0.1, 0.1, 0.1]).width == 0
    single = mean_interval([2.0])
    assert (single.estimate, single.low, single.high, single.n) == (2, -math.inf, math.inf, 1)
    assert Interval.exact(3).width == 0 and str(Interval.exact(3)) == "3"


def test_large_offsets_lose_no_digits() -> None:
    assert mean_interval([1e12 + 1, 1e12 + 2, 1e12 + 3]).width == pytest.approx(
        mean_interval([1, 2, 3]).width, rel=1e-3
    )


def test_pairing_takes_out_what_is_shared() -> None:
    rng = np.random.default_rng(2)
    shared = rng.normal(0, 10, 8)
    a, b = shared + 0.5 + rng.normal(0, 0.1, 8), shared + rng.normal(0, 0.1, 8)
    paired, unpaired = paired_difference(a, b), welch_difference(a, b)
    assert paired.low > 0.3 and paired.high < 0.7
    assert 0 in unpaired and unpaired.width > 20 * paired.width
    assert paired.estimate == pytest.approx(unpaired.estimate)


def test_welch_of_a_worked_example() -> None:
    # Spreads 1 and 4 over 3 and 4 values: df = (1/3 + 20/3/4)^2 / ((1/3)^2/2 + (20/3/4)^2/3).
    a, b = [1.0, 2.0, 3.0], [1.0, 3.0, 5.0, 7.0]
    found = welch_difference(a, b)
    u, v = 1 / 3, (20 / 3) / 4
    df = (u + v) ** 2 / (u**2 / 2 + v**2 / 3)
    assert df == pytest.approx(4.075, abs=1e-3)
    half = 2.7564 * math.sqrt(u + v)  # t table between df 4 (2.776) and 5 (2.571), at 4.075
    assert found.estimate == -2 and found.high - found.estimate == pytest.approx(half, rel=2e-3)


def test_welch_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    hits = [0 in welch_difference(rng.normal(0, 1, 4), rng.normal(0, 5, 8)) for _ in range(3000)]
    assert np.mean(hits) == pytest.approx(0.95, abs=0.02)


def test_slope_of_a_line_is_exact_and_of_noise_covers() -> None:
    line = slope([0, 1, 2, 5], [3, 1, -1, -7])
    close(line, -2, -2, -2)
    rng = np.random.default_rng(4)
    x = np.arange(6.0)
    hits = [1.5 in slope(x, 2 + 1.5 * x + rng.normal(0, 2, 6)) for _ in range(3000)]
    assert np.mean(hits) == pytest.approx(0.95, abs=0.02)
    assert slope([0, 1], [0, 1]).low == -math.inf


def test_slope_agrees_with_least_squares() -> None:
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(2, 20))
    (a, _), covariance = np.polyfit(x, y, 1, cov=True)
    found = slope(x, y)
    assert found.estimate == pytest.approx(a)
    assert found.high - a == pytest.approx(2.100922 * math.sqrt(covariance[0, 0]), rel=1e-5)


def test_wilson_of_known_values_and_ends() -> None:
    close(wilson_interval(8, 10), 0.8, 0.490162, 0.943318)
    close(wilson_interval(0, 10), 0, 0, 0.277533)
    close(wilson_interval(10, 10), 1, 1 - 0.277533, 1)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_stays_within_0_and_1_and_is_symmetric(counts: tuple[int, int]) -> None:
    k, n = counts
    found, mirrored = wilson_interval(k, n), wilson_interval(n - k, n)
    assert 0 <= found.low <= found.estimate <= found.high <= 1
    assert found.low == pytest.approx(1 - mirrored.high, abs=1e-12)


def test_wilson_covers_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(6)
    for p in (0.1, 0.5, 0.9):
        hits = [p in wilson_interval(int(k), 40) for k in rng.binomial(40, p, 4000)]
        assert 0.92 < np.mean(hits) < 0.98


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_interval([]), "x holds no values"),
        (lambda: mean_interval([1, math.nan, math.inf]), "2 of 3 values that are not finite.*diverged"),
        (lambda: mean_interval([1, 2], 95), "confidence = 95 is not between 0 and 1"),
        (lambda: mean_interval([[1, 2]]), "shape"),
        (lambda: paired_difference([1, 2], [1]), "a has 2 values and b has 1.*welch"),
        (lambda: welch_difference([1], [1], 2), "confidence = 2"),
        (lambda: slope([1, 1], [1, 2]), "all equal"),
        (lambda: slope([1, 2], [1]), "x has 2 values and y has 1"),
        (lambda: wilson_interval(3, 2), "3 successes in 2 trials"),
        (lambda: wilson_interval(0, 0), "0 trials"),
        (lambda: wilson_interval(1, 2, 1.0), "confidence"),
    ],
)
def test_impossible_input_is_told(call, message: str) -> None:
    with pytest.raises(UserError, match=message):
        call()
