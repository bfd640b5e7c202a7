"""C29: each verdict from literal intervals; the difference is to the best other objective."""

from __future__ import annotations

import pytest

from assay.claims.base import Tier, decide
from assay.claims.c29 import CLAIM, KINDS, SEEN, behind, runs, shifted
from assay.claims.standard import SEEDS
from assay.evaluation.repair import repair_task
from assay.stats import Interval, Verdict


def at(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, low, high, 0.95, 3, "t")


LOWER, HIGHER, BOTH = at(-0.3, -0.1), at(0.1, 0.3), at(-0.1, 0.1)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ((LOWER, LOWER, LOWER), Verdict.SUPPORTED),
        ((HIGHER, HIGHER, HIGHER), Verdict.REFUTED),
        ((LOWER, HIGHER, LOWER), Verdict.DEPENDS),
        ((LOWER, BOTH, LOWER), Verdict.UNDECIDED),
    ],
)
def test_verdicts(found: tuple[Interval, ...], verdict: Verdict) -> None:
    answers = dict(zip(KINDS, found, strict=True))
    assert decide(CLAIM, answers | {"reads": BOTH})[0] is verdict


def test_the_difference_is_to_the_best_other_objective() -> None:
    losses = {"bart": [1.0, 1.2, 1.1], "span_corruption": [2.0, 2.2, 2.1], "prefix_lm": [1.5, 1.7, 1.6]}
    assert behind(losses).estimate == pytest.approx(-0.5)
    assert behind(losses | {"prefix_lm": [0.5, 0.7, 0.6]}).estimate == pytest.approx(0.5)


def test_the_control_gives_every_answer_another_text() -> None:
    task = repair_task("typos", 6)
    control = shifted(task)
    assert [i.answer for i in control.items] == [i.answer for i in task.items]
    assert all(a.prompt != b.prompt for a, b in zip(control.items, task.items, strict=True))
    assert SEEN not in KINDS


def test_the_objective_alone_differs() -> None:
    found = runs(Tier.quick)["objectives"].study.runs()
    assert len({run.hash for run in found}) == 3 * SEEDS[Tier.quick]
    assert len({run.model.hash for run in found}) == len({run.train.hash for run in found}) == 1
