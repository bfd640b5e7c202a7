"""The bootstrap: seeded, in agreement with formulas, and covering."""

import numpy as np
import pytest

from assay.errors import UserError
from assay.stats import bootstrap_difference, bootstrap_interval, mean_interval, paired_difference


def ratio(samples: np.ndarray, axis: int) -> np.ndarray:
    return samples[..., 0].sum(axis) / samples[..., 1].sum(axis)


@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_mean_of_many_normal_values_agrees_with_t(method) -> None:
    x = np.random.default_rng(0).normal(3, 2, 200)
    formula, found = mean_interval(x), bootstrap_interval(x, method=method)
    assert found.estimate == pytest.approx(formula.estimate)
    assert (found.low, found.high) == pytest.approx((formula.low, formula.high), abs=0.03 * formula.width)


def test_same_seed_same_interval() -> None:
    x = np.random.default_rng(1).exponential(size=30)
    assert bootstrap_interval(x, np.median, seed=5) == bootstrap_interval(x, np.median, seed=5)
    assert bootstrap_interval(x, seed=5) != bootstrap_interval(x, seed=6)


def test_pieces_give_what_one_piece_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    from assay.stats import bootstrap

    x = np.random.default_rng(2).exponential(size=30)
    whole = bootstrap_interval(x, n=1000), bootstrap_difference(x, x**2, n=1000)
    monkeypatch.setattr(bootstrap, "_CHUNK", 100)
    assert (bootstrap_interval(x, n=1000), bootstrap_difference(x, x**2, n=1000)) == whole


def misses(method: str, units: int, runs: int) -> tuple[float, float]:
    """How often the true mean 1 of an exponential, which is skewed, lies below the interval, and above it."""
    rng = np.random.default_rng(3)
    found = [bootstrap_interval(rng.exponential(size=units), n=800, seed=run, method=method) for run in range(runs)]
    return float(np.mean([i.low > 1 for i in found])), float(np.mean([i.high < 1 for i in found]))


def test_bca_shares_its_misses_more_evenly_on_skewed_data() -> None:
    """Both cover about equally often in all; what BCa mends is that nearly all misses lie on one side."""
    bca, percentile = misses("bca", 20, 3000), misses("percentile", 20, 3000)
    assert 0.89 < 1 - sum(bca) < 0.97
    assert bca[1] - bca[0] < percentile[1] - percentile[0] - 0.015


def test_control_few_units_are_too_narrow() -> None:
    """The docstring warns of it: with 3 units the bootstrap covers far too seldom, which this check sees."""
    assert sum(misses("percentile", 3, 500)) > 0.2


def test_bca_of_the_variance_moves_up() -> None:
    # Efron & Tibshirani 1993, section 14: the plug-in variance is biased low, so BCa lies above percentile.
    x = np.random.default_rng(4).normal(size=25)
    bca = bootstrap_interval(x, np.var, method="bca")
    percentile = bootstrap_interval(x, np.var, method="percentile")
    assert bca.low > percentile.low and bca.high > percentile.high


def test_acceleration_is_that_of_the_formula() -> None:
    """For the mean the acceleration is skewness / (6 sqrt(n)); bounds recomputed by hand from it."""
    from statistics import NormalDist

    x = np.random.default_rng(5).exponential(size=40)
    n, seed = 5000, 7
    found = bootstrap_interval(x, n=n, seed=seed)
    replicates = x[np.random.default_rng(seed).integers(0, 40, (n, 40))].mean(1)
    centred = x - x.mean()
    a = (centred**3).mean() / (centred**2).mean() ** 1.5 / (6 * np.sqrt(40))
    normal = NormalDist()
    bias = normal.inv_cdf(float(np.mean(replicates < x.mean())))
    levels = [normal.cdf(bias + z / (1 - a * z)) for z in (bias + normal.inv_cdf(p) for p in (0.025, 0.975))]
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(replicates, levels)), rel=1e-6)


def test_units_stay_together_in_a_ratio() -> None:
    rng = np.random.default_rng(6)
    size = rng.integers(10, 1000, 100).astype(float)
    rows = np.stack([2 * size, size], axis=1)  # bits and bytes: exactly 2 bits per byte in every document
    found = bootstrap_interval(rows, ratio)
    assert (found.low, found.estimate, found.high) == (2, 2, 2)


def test_paired_difference_takes_out_what_is_shared() -> None:
    rng = np.random.default_rng(7)
    shared = rng.normal(0, 10, 60)
    a, b = shared + 0.5 + rng.normal(0, 0.1, 60), shared + rng.normal(0, 0.1, 60)
    paired = bootstrap_difference(a, b, paired=True)
    formula = paired_difference(a, b)
    assert (paired.low, paired.high) == pytest.approx((formula.low, formula.high), abs=0.1 * formula.width)
    assert bootstrap_difference(a, b).width > 20 * paired.width


def test_paired_difference_of_means_is_the_mean_of_differences() -> None:
    rng = np.random.default_rng(9)
    a, b = rng.exponential(size=30), rng.normal(size=30)
    found, alone = bootstrap_difference(a, b, paired=True, n=2000), bootstrap_interval(a - b, n=2000)
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high), rel=1e-9)


def test_skewness_of_two_equal_samples_cancels() -> None:
    """Accelerations of a and -a are opposite, so the bounds of a - a are those of the bias alone."""
    from statistics import NormalDist

    x, n, seed = np.random.default_rng(10).exponential(size=30), 2000, 3
    found = bootstrap_difference(x, x, n=n, seed=seed)
    rng = np.random.default_rng(seed)
    first, second = (x[rng.integers(0, 30, (n, 30))].mean(1) for _ in range(2))
    normal = NormalDist()
    bias = normal.inv_cdf(float(np.mean(first < second)))
    levels = [normal.cdf(2 * bias + normal.inv_cdf(p)) for p in (0.025, 0.975)]
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(first - second, levels)), rel=1e-9)


def test_difference_of_unequal_numbers_and_its_mirror() -> None:
    rng = np.random.default_rng(8)
    a, b = rng.exponential(size=50), rng.exponential(size=80) + 2
    found, mirror = bootstrap_difference(a, b), bootstrap_difference(b, a)
    assert found.high < -1 and found.n == 50
    assert (found.low, found.high) == pytest.approx((-mirror.high, -mirror.low), abs=0.08)


def test_equal_values_give_a_point_and_one_unit_gives_no_interval() -> None:
    assert bootstrap_interval([2, 2, 2]).width == 0
    assert bootstrap_interval([2]).width == np.inf
    assert bootstrap_difference([2, 3], [1]).width == np.inf


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap_interval([1, 2], n=10), "n = 10 resamples are too few"),
        (lambda: bootstrap_interval([1, np.nan]), "1 of 2 values that are not finite"),
        (lambda: bootstrap_interval([]), "no values"),
        (lambda: bootstrap_interval([1, 2], confidence=0), "confidence = 0"),
        (lambda: bootstrap_interval([1, 2], method="t"), "method = 't'"),
        (lambda: bootstrap_difference([1, 2], [1], paired=True), "2 units and b has 1"),
    ],
)
def test_impossible_input_is_told(call, message: str) -> None:
    with pytest.raises(UserError, match=message):
        call()
