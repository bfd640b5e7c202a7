"""C1: each verdict from made intervals, and what counts as a mistake of the mask."""

import numpy as np
import pytest

from assay.claims.base import decide
from assay.claims.c01 import CLAIM, PREFIX, mistakes
from assay.stats import Interval, Verdict


def t(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, low, high, 0.95, 3, "made")


@pytest.mark.parametrize(
    ("wrong", "rest", "verdict"),
    [
        (0, t(-0.01, 0.01), Verdict.SUPPORTED),
        (0, t(0.03, 0.09), Verdict.DEPENDS),
        (0, t(-0.01, 0.09), Verdict.UNDECIDED),
        (3, t(0.03, 0.09), Verdict.REFUTED),
        (3, t(-0.01, 0.01), Verdict.DEPENDS),
    ],
)
def test_verdicts(wrong: int, rest: Interval, verdict: Verdict) -> None:
    answers = {"flips": Interval.exact(wrong), "rest": rest, "mask": t(-1, 1)}
    assert decide(CLAIM, answers)[0] is verdict


def test_a_wrong_mask_makes_mistakes() -> None:
    causal = np.triu(np.ones((12, 12), dtype=bool))
    assert mistakes(causal, "causal") == 0
    assert mistakes(causal, "prefix") == PREFIX * (PREFIX - 1) // 2
    assert mistakes(causal, "bidirectional") == 66
