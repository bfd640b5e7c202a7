"""C13. Slopes that are bounded or not, and a law whose slope is known."""

import pytest

from assay.claims.base import decide
from assay.claims.c13 import CLAIM, slopes
from assay.stats import Interval, Verdict


def at(low: float, high: float) -> Interval:
    """An interval of three repeats."""
    return Interval((low + high) / 2, low, high, 0.95, 3, "made")


@pytest.mark.parametrize(
    ("answers", "verdict"),
    [
        ({"theorem": (-0.05, 0.05), "gains": (-0.2, 0.0), "adam": (0.0, 0.09), "post": (0.4, 0.6)}, "supported"),
        ({"theorem": (0.2, 0.3), "gains": (0.4, 0.5), "adam": (0.3, 0.9), "post": (0.4, 0.6)}, "refuted"),
        ({"theorem": (-0.05, 0.05), "gains": (0.5, 0.9), "adam": (0.4, 0.6), "post": (-1, 1)}, "depends"),
        ({"theorem": (-0.05, 0.05), "gains": (0.0, 0.9), "adam": (0.0, 0.6), "post": (-1, 1)}, "undecided"),
    ],
)
def test_every_verdict(answers: dict[str, tuple[float, float]], verdict: str) -> None:
    made = {name: at(*bounds) for name, bounds in answers.items()}
    assert decide(CLAIM, made)[0] is Verdict(verdict)
    assert Verdict(verdict) in CLAIM.verdicts


def test_a_slope_is_found_seed_by_seed() -> None:
    depths = (12, 24, 48)
    found = slopes(depths, [[3 * d**0.5, 7 * d**0.5, 100 * d**0.5] for d in depths])
    assert found.estimate == pytest.approx(0.5) and found.n == 3
    assert found.width == pytest.approx(0.0, abs=1e-9)
    flat = slopes(depths, [[1.0, 2.0, 9.0]] * 3)
    assert flat.estimate == pytest.approx(0.0, abs=1e-12)
