"""Accuracy, F1, edit similarity and calibration against computations by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.evaluation.calibration import brier, confidences, ece, reliability
from assay.evaluation.metrics import accuracy, edit_similarity, f1, f1_by_class, plain, standard_error


def test_ece_by_hand() -> None:
    """Two bins of four: 0.1 and 0.2, none right; 0.9 and 0.8, one right."""
    confidence, right = [0.1, 0.2, 0.9, 0.8], [False, False, True, False]
    by_hand = 2 / 4 * abs(0 - 0.15) + 2 / 4 * abs(0.5 - 0.85)
    assert ece(confidence, right, bins=2).estimate == pytest.approx(by_hand)
    # Four bins: 0.1, 0.2 in (0, 1/4]; 0.9, 0.8 in (3/4, 1]: the same. Ten: each alone.
    assert ece(confidence, right, bins=4).estimate == pytest.approx(by_hand)
    assert ece(confidence, right, bins=10).estimate == pytest.approx((0.1 + 0.2 + 0.1 + 0.8) / 4)


def test_bins_are_open_below_and_closed_above() -> None:
    (low, high) = reliability([0.5, 0.51], [True, False], bins=2)
    assert (low.low, low.high, low.count) == (0, 0.5, 1) and high.count == 1
    assert [b.count for b in reliability([0.0, 1.0], [False, True], bins=15)] == [1, 1]


def test_a_calibrated_forecaster_has_a_small_ece_and_a_boaster_a_large_one() -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(0.5, 1, 4000)
    right = rng.uniform(size=4000) < p
    good, bad = ece(p, right), ece(np.ones(4000), right)
    assert good.estimate < 0.03 < 0.2 < bad.estimate
    assert bad.estimate == pytest.approx(1 - right.mean()) and bad.low < bad.estimate < bad.high


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30), st.integers(1, 20))
def test_ece_is_what_its_reliability_table_says(items: list, bins: int) -> None:
    confidence, right = map(list, zip(*items, strict=True))
    table = reliability(confidence, right, bins)
    total = sum(b.count * abs(b.accuracy - b.confidence) for b in table) / len(items)
    assert ece(confidence, right, bins, resamples=100).estimate == pytest.approx(total, abs=1e-12)
    assert sum(b.count for b in table) == len(items)


def test_confidences_and_brier() -> None:
    shares = confidences([[math.log(2), math.log(4), math.log(4)]])
    np.testing.assert_allclose(shares, [[0.5, 0.25, 0.25]])
    assert brier(shares, [0]) == pytest.approx(0.25 + 2 * 0.0625)
    assert brier([[1.0, 0.0]], [0]) == 0 and brier([[1.0, 0.0]], [1]) == 2


def test_f1_by_hand() -> None:
    gold, said = [0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 2, 2]
    np.testing.assert_allclose(f1_by_class(gold, said, 3), [2 * 2 / (3 + 2), 2 * 1 / (2 + 2), 2 * 1 / (1 + 2)])
    assert f1(gold, said, 3).estimate == pytest.approx((0.8 + 0.5 + 2 / 3) / 3)
    assert f1_by_class([0, 0], [0, 0], 2).tolist() == [1, 0], "a class that is nowhere counts 0"
    perfect = f1([0, 1] * 20, [0, 1] * 20, 2)
    assert perfect.low == perfect.high == 1


def slow_edits(a: str, b: str) -> int:
    if not a or not b:
        return len(a) + len(b)
    return min(slow_edits(a[1:], b) + 1, slow_edits(a, b[1:]) + 1, slow_edits(a[1:], b[1:]) + (a[0] != b[0]))


@given(st.text("abc", max_size=5), st.text("abc", max_size=5))
def test_edit_similarity_is_levenshteins(a: str, b: str) -> None:
    expected = 1 if not a + b else 1 - slow_edits(a, b) / max(len(a), len(b))
    assert edit_similarity(a, b) == pytest.approx(expected)


def test_standard_error_of_a_share() -> None:
    right = [True] * 30 + [False] * 10
    assert standard_error(right) == pytest.approx(math.sqrt(0.75 * 0.25 / 39))
    found = plain(accuracy(right), right)
    assert found["value"] == 0.75 and found["low"] < 0.75 < found["high"] and found["n"] == 40
    assert plain(accuracy([True]), [True])["standard_error"] is None
