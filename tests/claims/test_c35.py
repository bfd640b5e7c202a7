"""C35. Faster and steadier: each part on either side."""

import pytest

from assay.claims.base import decide
from assay.claims.c35 import CLAIM, spread
from assay.stats import Interval, Verdict


def at(low: float, high: float) -> Interval:
    """An interval of three repeats."""
    return Interval((low + high) / 2, low, high, 0.95, 3, "made")


@pytest.mark.parametrize(
    ("answers", "verdict"),
    [
        ({"faster": (0.2, 1), "steadier": (0.1, 0.5), "loss": (-1, 1)}, "supported"),
        ({"faster": (-0.2, 0.1), "steadier": (-0.5, -0.1), "loss": (-1, 1)}, "refuted"),
        ({"faster": (0.2, 1), "steadier": (-0.5, -0.1), "loss": (-1, 1)}, "depends"),
        ({"faster": (0.2, 1), "steadier": (-0.5, 0.5), "loss": (-1, 1)}, "undecided"),
    ],
)
def test_every_verdict(answers: dict[str, tuple[float, float]], verdict: str) -> None:
    made = {name: at(*bounds) for name, bounds in answers.items()}
    assert decide(CLAIM, made)[0] is Verdict(verdict)
    assert Verdict(verdict) in CLAIM.verdicts


def test_spread_is_relative() -> None:
    assert spread([1.0, 2.0, 3.0]) == pytest.approx(0.5)
    assert spread([10.0, 20.0, 30.0]) == pytest.approx(0.5)
    assert spread([2.0, 2.0]) == 0
    assert spread([1.0, float("nan")]) == float("inf")
