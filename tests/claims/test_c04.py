"""C4: verdicts, and the slope of a known difference."""

import pytest

from assay.claims.base import decide
from assay.claims.c04 import CLAIM, slope
from assay.stats import Interval, Verdict

UP, DOWN, WIDE = (0.1, 0.2), (-0.2, -0.1), (-0.1, 0.1)


def t(bounds: tuple[float, float]) -> Interval:
    return Interval(sum(bounds) / 2, *bounds, 0.95, 3, "made")


@pytest.mark.parametrize(
    ("parts", "verdict"),
    [
        ((UP, UP, UP, UP), Verdict.SUPPORTED),
        ((DOWN, DOWN, DOWN, DOWN), Verdict.REFUTED),
        ((UP, UP, UP, DOWN), Verdict.DEPENDS),
        ((WIDE, UP, UP, UP), Verdict.UNDECIDED),
    ],
)
def test_verdicts(parts: tuple[tuple[float, float], ...], verdict: Verdict) -> None:
    answers = dict(zip(("cloze", "order", "position", "step"), map(t, parts), strict=True))
    assert decide(CLAIM, answers | {"loss": t(WIDE)})[0] is verdict


def test_slope_of_a_growing_difference() -> None:
    one = [[0, 3.0, 50], [100, 2.5, 90], [200, 2.4, 100]]
    two = [[place, nats + 0.5 + 0.002 * place, 7] for place, nats, _ in one]
    assert slope(two, one) == pytest.approx(0.2)
    assert slope(one, two) == pytest.approx(-0.2)
    assert slope([*two, [384, 99.0, 1]], one) == pytest.approx(0.2), "a bucket that one lacks says nothing"
