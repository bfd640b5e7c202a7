"""C14. Three parts, each on either side."""

import pytest

from assay.claims.base import decide
from assay.claims.c14 import CLAIM
from assay.stats import Interval, Verdict


def at(low: float, high: float) -> Interval:
    """An interval of three repeats."""
    return Interval((low + high) / 2, low, high, 0.95, 3, "made")


@pytest.mark.parametrize(
    ("answers", "verdict"),
    [
        ({"stable": (1.5, 2.5), "faster": (0.2, 0.5), "deeper": (-0.2, -0.05), "post_deeper": (0.1, 0.2)}, "supported"),
        ({"stable": (-0.5, 0.5), "faster": (-0.4, 0.1), "deeper": (0.0, 0.1), "post_deeper": (0.1, 0.2)}, "refuted"),
        ({"stable": (1.5, 2.5), "faster": (0.2, 0.5), "deeper": (0.05, 0.1), "post_deeper": (0.1, 0.2)}, "depends"),
        ({"stable": (1.5, 2.5), "faster": (0.0, 0.5), "deeper": (-0.2, -0.05), "post_deeper": (0.1, 0.2)}, "undecided"),
    ],
)
def test_every_verdict(answers: dict[str, tuple[float, float]], verdict: str) -> None:
    made = {name: at(*bounds) for name, bounds in answers.items()}
    assert decide(CLAIM, made)[0] is Verdict(verdict)
    assert Verdict(verdict) in CLAIM.verdicts
