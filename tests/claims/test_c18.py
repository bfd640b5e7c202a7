"""C18. Stable and at a cost: each part on either side; spikes are counted by the stated rule."""

import pytest

from assay.claims.base import decide
from assay.claims.c18 import CLAIM, count
from assay.stats import Interval, Verdict


def at(low: float, high: float) -> Interval:
    """An interval of three repeats."""
    return Interval((low + high) / 2, low, high, 0.95, 3, "made")


@pytest.mark.parametrize(
    ("answers", "verdict"),
    [
        ({"stable": (0.5, 3), "cost": (0.03, 0.1)}, "supported"),
        ({"stable": (-3, -1), "cost": (-0.1, 0.01)}, "refuted"),
        ({"stable": (0.5, 3), "cost": (-0.1, 0.01)}, "depends"),
        ({"stable": (0.0, 0.0), "cost": (0.03, 0.1)}, "undecided"),
    ],
)
def test_every_verdict(answers: dict[str, tuple[float, float]], verdict: str) -> None:
    made = {name: at(*bounds) for name, bounds in answers.items()}
    assert decide(CLAIM, made)[0] is Verdict(verdict)
    assert Verdict(verdict) in CLAIM.verdicts


def test_spikes_and_divergence_are_counted() -> None:
    calm = [3.0 + 0.01 * (i % 3) for i in range(60)]
    assert count(calm, diverged=False) == 0
    assert count(calm, diverged=True) == 1
    calm[30] = 5.0
    assert count(calm, diverged=False) == 1
