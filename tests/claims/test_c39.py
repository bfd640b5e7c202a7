"""C39: the recipe on made-up trials, and which verdict follows."""

import pytest

from assay.claims.base import decide
from assay.claims.c39 import CLAIM, nearest, recipe
from assay.stats import Interval, Verdict

FALLS = [6 - 0.05 * step for step in range(40)]
RISES = [6 - 0.2 * step for step in range(10)] + [4 + 0.2 * step for step in range(30)]


def interval(value: float, half: float = 0.01) -> Interval:
    return Interval(value, value - half, value + half, 0.95, 3, "made up")


def given(loss: float, cost: float, half: float = 0.01) -> Verdict:
    values = {"loss": loss, "cost": cost, "range_loss": 0.0, "range_cost": 0.2}
    return decide(CLAIM, {name: interval(value, half) for name, value in values.items()})[0]


def test_every_verdict() -> None:
    assert given(0.0, 0.3) is Verdict.SUPPORTED
    assert given(0.4, 0.8) is Verdict.REFUTED
    assert given(0.4, 0.3) is Verdict.DEPENDS
    assert given(0.05, 0.3, half=0.1) is Verdict.UNDECIDED


def test_the_recipe_keeps_the_first_rate_that_does_not_diverge() -> None:
    found = recipe({0.1: RISES, 0.03: FALLS, 0.01: FALLS}, 40)
    assert found.rate == 0.03 and 1 < found.cost < 2
    assert recipe({0.1: FALLS, 0.03: FALLS}, 40).cost == 1
    assert recipe({0.1: FALLS[:5], 0.03: FALLS}, 40).rate == 0.03, "a run that was lost early counts as diverged"
    every = recipe({0.1: RISES, 0.03: RISES}, 40)
    assert every.rate == 0.03 and every.cost > 1.5


def test_the_nearest_rate_is_nearest_in_ratio() -> None:
    assert nearest(4e-3, (1e-3, 6e-3, 1e-2)) == 6e-3 and nearest(2e-3, (1e-3, 1e-2)) == 1e-3
    assert nearest(1.0, (1e-3, 1e-2)) == pytest.approx(1e-2)
