"""C24: each verdict from literal intervals; the ratio of labels and its bounds."""

from __future__ import annotations

import pytest

from assay.claims.base import decide
from assay.claims.c24 import CLAIM, geometric, ratio
from assay.stats import Interval, Verdict


def at(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, low, high, 0.95, 3, "t")


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [(at(3, 9), Verdict.SUPPORTED), (at(0.5, 1.2), Verdict.REFUTED), (at(1, 6), Verdict.UNDECIDED)],
)
def test_verdicts(interval: Interval, verdict: Verdict) -> None:
    assert decide(CLAIM, {"ratio": interval, "accuracy": at(-1, 1)})[0] is verdict


def test_the_ratio_is_read_off_the_curve_and_bounded_at_its_ends() -> None:
    pretrained = [(8, 0.5), (32, 0.8)]
    assert ratio(pretrained, [(8, 0.3), (32, 0.5), (128, 0.8), (512, 0.9)], 32) == (pytest.approx(4), "=")
    assert ratio(pretrained, [(8, 0.3), (32, 0.4), (128, 0.5), (512, 0.6)], 32) == (16, ">")
    assert ratio(pretrained, [(8, 0.9), (32, 0.95)], 32) == (0.25, "<")


def test_ratios_are_averaged_as_logarithms() -> None:
    found = geometric([2.0, 4.0, 8.0])
    assert found.estimate == pytest.approx(4) and found.low < 2 < 8 < found.high
    assert geometric([4.0, 4.0, 4.0]).low == pytest.approx(4)
