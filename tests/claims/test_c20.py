"""C20: which verdict follows, and that the control has the same rates backwards."""

import pytest

from assay.claims.base import Tier, decide
from assay.claims.c20 import CLAIM, KINDS, runs
from assay.spec.training import ScheduleSpec
from assay.stats import Interval, Verdict
from assay.training.schedule import factor


def interval(value: float, half: float = 0.005) -> Interval:
    return Interval(value, value - half, value + half, 0.95, 3, "made up")


def given(cosine: float, linear: float, order: float, half: float = 0.005) -> Verdict:
    values = {"cosine": cosine, "linear": linear, "order": order, "warmup": 0.0}
    return decide(CLAIM, {name: interval(value, half) for name, value in values.items()})[0]


def test_every_verdict() -> None:
    assert given(-0.1, -0.1, -0.1) is Verdict.SUPPORTED
    assert given(0.1, 0.1, 0.1) is Verdict.REFUTED
    assert given(-0.1, -0.1, 0.1) is Verdict.DEPENDS
    assert given(-0.1, -0.1, -0.1, half=0.2) is Verdict.UNDECIDED


def test_the_reversed_run_has_the_same_rates() -> None:
    one, two = (ScheduleSpec.model_validate({"kind": kind, "warmup": 0.1}) for kind in ("cosine", "reversed"))
    rates = sorted(factor(one, step / 50, 0.1) for step in range(51))
    assert rates == pytest.approx(sorted(factor(two, step / 50, 0.1) for step in range(51)))


def test_every_shape_is_swept() -> None:
    experiments = runs(Tier.quick)
    assert all(len(experiment.rates or ()) > 1 for experiment in experiments.values())
    assert {run.train.schedule.kind.value for run in experiments["shapes"].study.runs()} == set(KINDS)
    assert {run.train.schedule.warmup for run in experiments["bare"].study.runs()} == {0.0}
