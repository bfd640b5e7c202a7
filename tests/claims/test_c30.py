"""C30: each verdict from literal intervals; a rate is chosen by its score."""

from __future__ import annotations

import pytest

from assay.claims.base import Tier, decide
from assay.claims.c24 import runs as label_runs
from assay.claims.c30 import CLAIM, runs
from assay.claims.labelled import best_rate
from assay.stats import Interval, Verdict


def at(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, low, high, 0.95, 3, "t")


@pytest.mark.parametrize(
    ("tasks", "transfer", "verdict"),
    [
        (at(-0.02, 0.03), at(0.02, 0.1), Verdict.SUPPORTED),
        (at(-0.3, -0.1), at(-0.2, -0.1), Verdict.REFUTED),
        (at(-0.02, 0.03), at(-0.2, -0.1), Verdict.DEPENDS),
        (at(-0.02, 0.03), at(-0.1, 0.1), Verdict.UNDECIDED),
    ],
)
def test_verdicts(tasks: Interval, transfer: Interval, verdict: Verdict) -> None:
    assert decide(CLAIM, {"tasks": tasks, "transfer": transfer, "apart": at(-1, 1)})[0] is verdict


def test_the_best_rate_is_the_highest_score_and_the_lowest_of_equals() -> None:
    assert best_rate([1e-3, 2e-3, 4e-3], lambda rate: -abs(rate - 2e-3)) == 2e-3
    assert best_rate([1e-3, 2e-3], lambda rate: 0.5) == 1e-3


def test_the_pretraining_is_shared() -> None:
    ours, theirs = (next(iter(of(Tier.quick).values())).study.runs() for of in (runs, label_runs))
    assert [run.hash for run in ours] == [run.hash for run in theirs]
