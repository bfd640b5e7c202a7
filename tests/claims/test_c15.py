"""C15. Growth that is there and is not the cause: the claim depends."""

import pytest

from assay.claims.base import decide
from assay.claims.c15 import CLAIM
from assay.claims.gradients import growth
from assay.stats import Interval, Verdict


def at(low: float, high: float) -> Interval:
    """An interval of three repeats."""
    return Interval((low + high) / 2, low, high, 0.95, 3, "made")


@pytest.mark.parametrize(
    ("answers", "verdict"),
    [
        (
            {"growth": (2, 3), "growth_causal": (1.2, 2), "unstable": (2, 2), "cause": (1.5, 2), "loss": (-1, 1)},
            "supported",
        ),
        (
            {"growth": (0, 0.5), "growth_causal": (0, 0.5), "unstable": (0, 0.5), "cause": (-1, 0), "loss": (-1, 1)},
            "refuted",
        ),
        (
            {"growth": (2, 3), "growth_causal": (0, 0.5), "unstable": (2, 2), "cause": (0, 0), "loss": (-1, 1)},
            "depends",
        ),
        (
            {"growth": (2, 3), "growth_causal": (1.2, 2), "unstable": (0, 2), "cause": (0, 2), "loss": (-1, 1)},
            "undecided",
        ),
    ],
)
def test_every_verdict(answers: dict[str, tuple[float, float]], verdict: str) -> None:
    made = {name: at(*bounds) for name, bounds in answers.items()}
    assert decide(CLAIM, made)[0] is Verdict(verdict)
    assert Verdict(verdict) in CLAIM.verdicts


def test_growth_is_the_last_over_the_first() -> None:
    found = growth([[1.0, 3.0, 4.0], [2.0, 1.0, 8.0], [0.5, 9.0, 2.0]])
    assert [found.estimate, found.width] == pytest.approx([2.0, 0.0]) and found.n == 3
    assert growth([[4.0, 1.0]] * 3).estimate == pytest.approx(-2.0)
