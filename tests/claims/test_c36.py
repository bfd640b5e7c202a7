"""C36. The interaction of norm and family, on both sides; and its arithmetic."""

import numpy as np
import pytest

from assay.claims.base import decide
from assay.claims.c36 import CLAIM, crossed
from assay.stats import Interval, Verdict


def at(low: float, high: float) -> Interval:
    """An interval of three repeats."""
    return Interval((low + high) / 2, low, high, 0.95, 3, "made")


@pytest.mark.parametrize(
    ("answers", "verdict"),
    [
        ({"prefix": (0.03, 0.1), "encoder_decoder": (0.03, 0.1), "share": (-1, 1)}, "supported"),
        ({"prefix": (-0.03, 0.01), "encoder_decoder": (-0.1, 0.0), "share": (-1, 1)}, "refuted"),
        ({"prefix": (0.03, 0.1), "encoder_decoder": (-0.1, 0.0), "share": (-1, 1)}, "depends"),
        ({"prefix": (0.0, 0.1), "encoder_decoder": (-0.1, 0.0), "share": (-1, 1)}, "undecided"),
    ],
)
def test_every_verdict(answers: dict[str, tuple[float, float]], verdict: str) -> None:
    made = {name: at(*bounds) for name, bounds in answers.items()}
    assert decide(CLAIM, made)[0] is Verdict(verdict)
    assert Verdict(verdict) in CLAIM.verdicts


def test_the_interaction_pairs_all_four_by_seed() -> None:
    inf = float("inf")
    a, b = np.array([2.5, 3.5, inf, 4.5]), np.array([2.0, 3.0, 1.0, 4.0])
    c, d = np.array([1.1, 2.1, 1.0, 9.1]), np.array([1.0, 2.0, 1.0, 9.0])
    found = crossed(a, b, c, d)
    assert found.estimate == pytest.approx(0.4) and found.n == 3
    assert crossed(a, b, a, b).estimate == pytest.approx(0.0)
    assert crossed(np.array([inf]), b[:1], c[:1], d[:1]).n == 0
