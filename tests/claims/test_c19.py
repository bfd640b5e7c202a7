"""C19: thresholds found by trying, and verdicts from made-up losses."""

import numpy as np
import pytest

from assay.claims.base import decide
from assay.claims.c19 import CLAIM, found_threshold, worse
from assay.stats import Interval, Verdict


def given(gd: float, momentum: float, above: Interval, below: Interval) -> Verdict:
    answers = {"gd": Interval.exact(gd), "momentum": Interval.exact(momentum), "above": above, "below": below}
    return decide(CLAIM, answers | {"sensitivity": Interval.exact(0.5)})[0]


def interval(value: float, half: float = 0.02) -> Interval:
    return Interval(value, value - half, value + half, 0.95, 3, "made up")


def test_every_verdict() -> None:
    assert given(0, 0, interval(1), interval(1)) is Verdict.SUPPORTED
    assert given(0.5, 0.5, interval(0), interval(0)) is Verdict.REFUTED
    assert given(0, 0, interval(1), interval(0)) is Verdict.DEPENDS
    assert given(0, 0, interval(1), interval(0.1, 0.5)) is Verdict.UNDECIDED


def test_a_threshold_is_found_by_what_the_iteration_does() -> None:
    assert found_threshold(0.0, (4.0,)) == pytest.approx(0.5, rel=0.01)
    assert found_threshold(0.9, (1.0, 2.0)) == pytest.approx(1.9, rel=0.01)
    # Control: the sharpest direction alone sets it; without it the threshold found is another.
    assert found_threshold(0.0, (0.05, 1.0)) == pytest.approx(2.0, rel=0.01)


def test_a_lost_run_counts_as_nothing_learned() -> None:
    found = worse(np.array([4.0, np.inf, 4.0]), np.array([3.0, 3.0, 3.0]), 8.0)
    assert found.estimate == pytest.approx((1 + 5 + 1) / 3)
