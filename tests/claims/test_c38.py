"""C38: which verdict follows from steps and falls."""

import pytest

from assay.claims.base import decide
from assay.claims.c38 import CLAIM, decades, kept
from assay.stats import Interval, Verdict


def interval(value: float, half: float = 0.01) -> Interval:
    return Interval(value, value - half, value + half, 0.95, 3, "made up")


def given(gd: tuple[float, float], adam: tuple[float, float], half: float = 0.01) -> Verdict:
    values = {"gd_step": gd[0], "gd_training": gd[1], "adam_step": adam[0], "adam_training": adam[1]}
    return decide(CLAIM, {name: interval(value, half) for name, value in values.items()})[0]


def test_every_verdict() -> None:
    assert given((-4, 0.0), (0, 1.0)) is Verdict.DEPENDS
    assert given((-4, 0.0), (-3.9, 0.05)) is Verdict.SUPPORTED
    assert given((0, 1.0), (0, 1.0)) is Verdict.REFUTED
    assert given((-4, 0.0), (0, 1.0), half=3) is Verdict.UNDECIDED
    assert given((-4, 0.9), (0, 1.0)) is Verdict.UNDECIDED, "step and training disagree"


def test_ratios() -> None:
    assert decades([1e-4, 2e-4, 3e-4], [1, 2, 3]).estimate == pytest.approx(-4)
    assert kept([0.1, 0.2, 0.3], [1, 2, 3]).estimate == pytest.approx(0.1)
