"""C5: each verdict from literal intervals; tasks at chance are left out; the lead is over the best other pair."""

from __future__ import annotations

import pytest

from assay.claims.base import Tier, decide
from assay.claims.c05 import BASE, CLAIM, DENOISER, beaten, described, gap, lead
from assay.stats import Interval, Verdict


def at(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, low, high, 0.95, 3, "t")


ABOVE, BELOW, BOTH = at(0.05, 0.1), at(-0.1, -0.05), at(-0.1, 0.1)


@pytest.mark.parametrize(
    ("zero", "tuned", "verdict"),
    [
        (ABOVE, ABOVE, Verdict.SUPPORTED),
        (BELOW, BELOW, Verdict.REFUTED),
        (ABOVE, BELOW, Verdict.DEPENDS),
        (ABOVE, BOTH, Verdict.UNDECIDED),
    ],
)
def test_verdicts(zero: Interval, tuned: Interval, verdict: Verdict) -> None:
    assert decide(CLAIM, {"zero": zero, "tuned": tuned, "first": BOTH})[0] is verdict


FOUND = {
    BASE: {"copy": [0.5, 0.52, 0.48], "addition": [0.2, 0.3, 0.25]},
    "prefix:prefix_lm": {"copy": [0.4, 0.42, 0.38], "addition": [0.9, 0.1, 0.3]},
    DENOISER: {"copy": [0.3, 0.32, 0.31], "addition": [0.26, 0.2, 0.28]},
}
CHANCE = {"copy": 0.25, "addition": 0.25}


def test_tasks_at_chance_are_left_out() -> None:
    tasks = ("copy", "addition")
    assert beaten(FOUND, "tuned", tasks, CHANCE, 48) == ["copy"]
    assert beaten(FOUND, "tuned", tasks, {"copy": 0.9, "addition": 0.9}, 48) == []
    assert beaten(FOUND, "tuned", ("addition",), CHANCE, 48) == [], "only what is judged"


def test_one_lucky_pair_beats_no_chance() -> None:
    lucky = {BASE: {"copy": [0.375, 0.375, 0.375]}, "prefix:prefix_lm": {"copy": [0.125, 0.125, 0.125]}}
    assert beaten(lucky, "zero", ["copy"], {"copy": 0.25}, 1000) == []


def test_the_lead_is_over_the_best_other_pair_and_nothing_is_told_at_chance() -> None:
    assert lead(FOUND, ["copy"], BASE).estimate == pytest.approx(0.1)
    assert lead(FOUND, ["copy"], DENOISER).estimate == pytest.approx(-0.19)
    assert gap(FOUND, ["copy"], DENOISER, BASE).estimate == pytest.approx(-0.19)
    assert CLAIM.questions["zero"].rule.verdict(lead(FOUND, [], BASE)) is Verdict.UNDECIDED


@pytest.mark.parametrize("tier", list(Tier))
def test_the_study_of_every_tier_is_valid(tier: Tier) -> None:
    study = described(tier)
    assert {BASE, DENOISER} <= set(study.pairs) and len(study.equal) == 1 and not study.adaptation
