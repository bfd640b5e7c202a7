"""C8: verdicts, and the two quantities on made-up sub-tasks."""

import pytest

from assay.claims.base import decide
from assay.claims.c08 import CLAIM, answers, sharper, worst
from assay.stats import Interval, Verdict
from assay.stats.composition import Composition, frechet, independent


def interval(value: float, half: float = 0.02) -> Interval:
    return Interval(value, value - half, value + half, 0.95, 3, "made up")


def given(gap: float, steeper: float, half: float = 0.02) -> Verdict:
    values = {"independent": interval(gap, half), "sharper": interval(steeper, half)}
    return decide(CLAIM, values | {"bounds": Interval.exact(0), "example": Interval.exact(7.6)})[0]


def model(share: float, whole: float | None = None) -> Composition:
    parts = [share] * 5
    product, (low, high) = independent(parts), frechet(parts)
    names = {f"part {i}": share for i in range(5)}
    return Composition("m", 1.0, names, product, low, high, product if whole is None else whole)


def test_every_verdict() -> None:
    assert given(0.01, 0.3) is Verdict.SUPPORTED
    assert given(0.4, -0.1) is Verdict.REFUTED
    assert given(0.4, 0.3) is Verdict.DEPENDS
    assert given(0.0, 0.1, half=0.3) is Verdict.UNDECIDED


def test_independent_parts_and_parts_that_come_together() -> None:
    alone = [model(p) for p in (0.1, 0.4, 0.6, 0.8, 0.95)]
    assert worst(alone) == 0 and (sharper(alone) or 0) > 0.1
    together = [model(p, whole=p) for p in (0.1, 0.4, 0.6, 0.8, 0.95)]
    assert worst(together) == pytest.approx(0.6 - 0.6**5) and sharper(together) == pytest.approx(0)
    found = decide(CLAIM, answers([together] * 3))
    assert found[1]["independent"] is Verdict.REFUTED


def test_the_worked_example() -> None:
    assert independent([0.4] * 5) == pytest.approx(0.01024) and independent([0.6] * 5) == pytest.approx(0.07776)
    assert independent([0.406] * 5) == pytest.approx(0.011, abs=1e-4)
    assert independent([0.588] * 5) == pytest.approx(0.07, abs=5e-4)
    assert answers([[model(0.5)], [model(0.6)], [model(0.7)]])["example"].estimate == pytest.approx(7.59, abs=0.01)
    impossible = [model(0.5, whole=0.9)]
    assert answers([impossible] * 3)["bounds"].estimate == 3
