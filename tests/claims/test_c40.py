"""C40: each verdict from literal intervals; the arithmetic of shares and exposure."""

from __future__ import annotations

import pytest

from assay.claims.base import Tier, decide
from assay.claims.c40 import CLAIM, away, line, texts
from assay.claims.standard import SEEDS
from assay.evaluation.planted import exposure
from assay.stats import Interval, Verdict


def at(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, low, high, 0.95, 3, "t")


FOUND = {
    "learned": at(0.8, 1.1),
    "sampled": at(0.03, 0.06),
    "greedy": at(0.2, 0.25),
    "doubling": at(0.4, 0.9),
    "leak": at(3, 6),
}


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({}, Verdict.SUPPORTED),
        ({"sampled": at(-0.06, -0.01)}, Verdict.DEPENDS),
        ({"sampled": at(-0.01, 0.05)}, Verdict.UNDECIDED),
        (
            {
                "learned": at(0, 0.2),
                "sampled": at(-0.3, -0.2),
                "greedy": at(-0.3, -0.2),
                "doubling": at(-0.5, -0.1),
                "leak": at(-1, 1),
            },
            Verdict.REFUTED,
        ),
    ],
)
def test_verdicts(changed: dict[str, Interval], verdict: Verdict) -> None:
    assert decide(CLAIM, FOUND | changed)[0] is verdict


def test_away_from_half_is_counted_on_the_planted_side() -> None:
    planted = [0.1, 0.5, 0.8]
    assert away(planted, planted) == pytest.approx(0)
    assert away(planted, [0.05, 0.9, 0.9]) == pytest.approx(0.075)  # the even job does not count
    assert away(planted, [0.5, 0.5, 0.5]) == pytest.approx(-0.35)
    assert line(planted, [0.2, 1.0, 1.6]) == pytest.approx(2)


def test_exposure_ends_at_the_first_guess_and_ties_count_half() -> None:
    assert exposure([1.0, 2, 3, 4, 5, 6, 7, 8], 0) == 3
    assert exposure([8.0, 2, 3, 4, 5, 6, 7, 1], 0) == 0
    assert exposure([5.0, 5, 5], 0) == pytest.approx(0.585, abs=1e-3)  # rank 2 of 3


def test_every_repeat_has_a_text_of_its_own() -> None:
    assert len(set(texts(Tier.quick))) == SEEDS[Tier.quick]
    assert CLAIM.runs is not None
    (experiment,) = CLAIM.runs(Tier.quick).values()
    assert len({run.hash for run in experiment.study.runs()}) == SEEDS[Tier.quick]
