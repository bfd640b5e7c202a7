"""C17. Bounded and collapsing: each part on either side, and the arithmetic of maxima."""

import pytest

from assay.claims.base import decide
from assay.claims.c17 import CLAIM, bounded, shared_rate
from assay.stats import Interval, Verdict


def at(low: float, high: float) -> Interval:
    """An interval of three repeats."""
    return Interval((low + high) / 2, low, high, 0.95, 3, "made")


@pytest.mark.parametrize(
    ("answers", "verdict"),
    [
        ({"bounded": (1.5, 3), "collapse": (2, 2), "float16": (0, 1)}, "supported"),
        ({"bounded": (-1, 0.5), "collapse": (0, 0), "float16": (0, 1)}, "refuted"),
        ({"bounded": (1.5, 3), "collapse": (0, 0), "float16": (0, 1)}, "depends"),
        ({"bounded": (0.5, 3), "collapse": (0, 2), "float16": (0, 1)}, "undecided"),
    ],
)
def test_every_verdict(answers: dict[str, tuple[float, float]], verdict: str) -> None:
    made = {name: at(*bounds) for name, bounds in answers.items()}
    assert decide(CLAIM, made)[0] is Verdict(verdict)
    assert Verdict(verdict) in CLAIM.verdicts


def test_the_highest_rate_at_which_all_came_to_an_end() -> None:
    ok: dict[str, float] = {}
    assert shared_rate([[ok, ok], [ok, ok], [ok, None]], [[ok, ok], [ok, ok], [ok, ok]]) == 1
    assert shared_rate([[ok], [ok]], [[ok], [ok]]) == 1
    assert shared_rate([[None]], [[ok]]) is None


def test_maxima_are_compared_seed_by_seed() -> None:
    found = bounded([(8.0, 2.0), (40.0, 10.0), (4.0, 1.0)])
    assert [found.estimate, found.low] == pytest.approx([2.0, 2.0]) and found.n == 3
    assert CLAIM.questions["bounded"].rule.verdict(bounded([(2.0, 8.0)] * 3)) is Verdict.REFUTED
