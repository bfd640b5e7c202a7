"""C32: which verdict follows; the runs are matched as the text says."""

from assay.claims.base import Tier, decide
from assay.claims.c32 import BUDGET, CLAIM, MORE, WIDTHS, runs
from assay.stats import Interval, Verdict


def interval(value: float, half: float = 0.005) -> Interval:
    return Interval(value, value - half, value + half, 0.95, 3, "made up")


def given(training: float, inference: float, half: float = 0.005) -> Verdict:
    values = {"training": training, "inference": inference, "smallest": 0.0}
    return decide(CLAIM, {name: interval(value, half) for name, value in values.items()})[0]


def test_every_verdict() -> None:
    assert given(-0.1, -0.1) is Verdict.SUPPORTED
    assert given(0.01, -0.1) is Verdict.SUPPORTED, "within the margin is not worse"
    assert given(0.1, 0.0) is Verdict.REFUTED
    assert given(0.1, -0.1) is Verdict.DEPENDS
    assert given(-0.1, -0.02, half=0.05) is Verdict.UNDECIDED


def test_budgets_are_equal_and_more() -> None:
    for tier in Tier:
        experiments = runs(tier)
        equal = experiments["equal"].study.runs()
        assert {run.model.width for run in equal} == set(WIDTHS[tier])
        assert {run.train.budget for run in equal} == {BUDGET[tier]} and {run.train.steps for run in equal} == {None}
        assert {run.train.budget for run in experiments["more"].study.runs()} == {MORE * BUDGET[tier]}
