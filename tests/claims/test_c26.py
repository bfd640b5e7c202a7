"""C26: verdicts from shares, and what lies between."""

import pytest

from assay.claims.base import decide
from assay.claims.c26 import CLAIM, _share, between
from assay.stats import Verdict


@pytest.mark.parametrize(
    ("cases", "seeds", "verdict"),
    [
        ([True] * 14 + [False], 3, Verdict.SUPPORTED),
        ([False] * 15, 3, Verdict.REFUTED),
        ([True] * 6 + [False] * 9, 3, Verdict.UNDECIDED),
        ([True] * 15, 2, Verdict.UNDECIDED),
    ],
)
def test_verdicts(cases: list[bool], seeds: int, verdict: Verdict) -> None:
    answers = {name: _share(cases, seeds) for name in CLAIM.questions}
    assert decide(CLAIM, answers)[0] is verdict


def test_between() -> None:
    assert between((1.0, 2.0, 3.0)) and between((3.0, 2.0, 1.0)) and between((1.0, 1.0, 2.0))
    assert not between((1.0, 0.5, 2.0)) and not between((1.0, 2.5, 2.0))
