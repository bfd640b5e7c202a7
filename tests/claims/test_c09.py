"""C9: each verdict from literal intervals; pairing by seed; means over heads."""

from __future__ import annotations

import pytest

from assay.claims.base import decide
from assay.claims.c09 import CLAIM, difference
from assay.claims.ranks import Ranks, attention_of
from assay.stats import Interval, Verdict


def at(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, low, high, 0.95, 3, "t")


LOWER, SAME, HIGHER = at(-0.2, -0.1), at(-0.01, 0.01), at(0.1, 0.2)
BESIDE = {name: SAME for name, question in CLAIM.questions.items() if not question.decides}


@pytest.mark.parametrize(
    ("residual", "cosine", "verdict"),
    [
        (LOWER, HIGHER, Verdict.SUPPORTED),
        (HIGHER, LOWER, Verdict.REFUTED),
        (SAME, SAME, Verdict.REFUTED),
        (LOWER, SAME, Verdict.DEPENDS),
        (at(-0.1, 0.1), HIGHER, Verdict.UNDECIDED),
    ],
)
def test_verdicts(residual: Interval, cosine: Interval, verdict: Verdict) -> None:
    assert decide(CLAIM, BESIDE | {"residual": residual, "cosine": cosine})[0] is verdict


def test_what_stands_beside_changes_nothing() -> None:
    found = {"residual": LOWER, "cosine": HIGHER}
    assert decide(CLAIM, found | dict.fromkeys(BESIDE, HIGHER))[0] is Verdict.SUPPORTED


def _ranks(residual: float) -> Ranks:
    return Ranks((0.9, residual), (0.1, 0.2), (5.0, 4.0), {})


def test_seeds_are_paired_and_the_last_layer_counts() -> None:
    a = {0: _ranks(0.5), 1: _ranks(0.6), 2: _ranks(0.7)}
    b = {0: _ranks(0.6), 1: _ranks(0.7), 3: _ranks(0.0)}
    found = difference(a, b, "rank_one")
    assert found.n == 2 and found.estimate == pytest.approx(-0.1)
    assert difference(a, {7: _ranks(0.1)}, "rank_one").n == 0


def test_attention_is_over_the_size_and_its_condition_a_median() -> None:
    found = attention_of([(8, 4, 2.0, 10.0, 8), (4, 2, 1.0, 1e9, 8), (8, 8, 3.0, 20.0, 8)])
    assert found["exact"] == pytest.approx(5 / 6) and found["full"] == pytest.approx(2 / 3)
    assert found["effective"] == pytest.approx(14 / 24) and found["stable"] == 2 and found["condition"] == 20
