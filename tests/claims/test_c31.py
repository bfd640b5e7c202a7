"""C31: each verdict from literal intervals; both ways on begin from the base at equal FLOPs."""

from __future__ import annotations

import pytest

from assay.claims.base import Tier, decide
from assay.claims.c31 import CLAIM, runs
from assay.stats import Interval, Verdict


def at(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, low, high, 0.95, 3, "t")


LOWER, HIGHER = at(-0.1, -0.02), at(0.02, 0.1)


@pytest.mark.parametrize(
    ("continuation", "infilling", "verdict"),
    [
        (LOWER, LOWER, Verdict.SUPPORTED),
        (HIGHER, HIGHER, Verdict.REFUTED),
        (HIGHER, LOWER, Verdict.DEPENDS),
        (at(-0.1, 0.1), LOWER, Verdict.UNDECIDED),
    ],
)
def test_verdicts(continuation: Interval, infilling: Interval, verdict: Verdict) -> None:
    assert decide(CLAIM, {"continuation": continuation, "infilling": infilling})[0] is verdict


@pytest.mark.parametrize("tier", [Tier.smoke, Tier.quick, Tier.full])
def test_both_ways_on_begin_from_the_base_and_differ_in_the_objective_alone(tier: Tier) -> None:
    found = runs(tier)
    ul2, causal = found["ul2"], found["causal"]
    assert ul2.begins is not None and causal.begins is not None
    assert ul2.begins.study == causal.begins.study == found["base"].study
    assert ul2.study.train == causal.study.train and ul2.study.model == causal.study.model
    assert ul2.study.objective != causal.study.objective
