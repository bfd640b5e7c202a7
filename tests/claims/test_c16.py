"""C16. Equal, stable, a little worse: each part on either side."""

import pytest

from assay.claims.base import decide
from assay.claims.c16 import CLAIM
from assay.stats import Interval, Verdict


def at(low: float, high: float) -> Interval:
    """An interval of three repeats."""
    return Interval((low + high) / 2, low, high, 0.95, 3, "made")


@pytest.mark.parametrize(
    ("answers", "verdict"),
    [
        ({"flat": (-0.5, 0.3), "flat_causal": (-0.9, -0.5), "stable": (1.5, 2), "worse": (0.03, 0.1)}, "supported"),
        ({"flat": (-2, -1.5), "flat_causal": (1.5, 2), "stable": (0, 0), "worse": (-0.1, 0.01)}, "refuted"),
        ({"flat": (-0.5, 0.3), "flat_causal": (-0.9, -0.5), "stable": (2, 2), "worse": (-0.1, 0.01)}, "depends"),
        ({"flat": (-0.5, 0.3), "flat_causal": (-1.2, -0.8), "stable": (2, 2), "worse": (0.03, 0.1)}, "undecided"),
    ],
)
def test_every_verdict(answers: dict[str, tuple[float, float]], verdict: str) -> None:
    made = {name: at(*bounds) for name, bounds in answers.items()}
    assert decide(CLAIM, made)[0] is Verdict(verdict)
    assert Verdict(verdict) in CLAIM.verdicts
