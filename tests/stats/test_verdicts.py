"""Rules and verdicts: what an interval may and may not say."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import UserError
from assay.stats import (
    Equivalence,
    Interval,
    Rule,
    Superiority,
    Threshold,
    Verdict,
    combine,
    mean_interval,
    rule_from_dict,
)

S, R, U, D = Verdict.SUPPORTED, Verdict.REFUTED, Verdict.UNDECIDED, Verdict.DEPENDS


def between(low: float, high: float, n: int | None = 5) -> Interval:
    return Interval((low + high) / 2, low, high, 0.95, n, "given")


@pytest.mark.parametrize(
    ("rule", "low", "high", "expected"),
    [
        (Threshold(2), 2.1, 3, S),
        (Threshold(2), 1, 1.9, R),
        (Threshold(2), 1, 3, U),
        (Threshold(2), 2, 3, U),  # a bound on the line says nothing
        (Threshold(2, "below"), 1, 1.9, S),
        (Threshold(2, "below"), 2.1, 3, R),
        (Superiority(0.1), 0.2, 0.3, S),
        (Superiority(0.1), 0.05, 0.3, U),
        (Superiority(0.1), 0.01, 0.05, R),  # better, but not by the margin
        (Superiority(0.1, "lower"), -0.3, -0.2, S),
        (Superiority(0.1, "lower"), -0.05, -0.01, R),
        (Superiority(0.1, "lower"), 0.2, 0.3, R),
        (Superiority(-0.1), -0.05, 0.3, S),  # not worse by more than 0.1
        (Superiority(-0.1, "lower"), -0.3, 0.05, S),
        (Equivalence(0.1), -0.05, 0.05, S),
        (Equivalence(0.1), 0.01, 0.05, S),  # different from 0 and yet about equal
        (Equivalence(0.1), -0.05, 0.2, U),
        (Equivalence(0.1), 0.15, 0.2, R),
        (Equivalence(0.1), -0.2, -0.15, R),
        (Equivalence(0.1), -0.2, 0.2, U),  # not significant is not equal
    ],
)
def test_verdict_by_where_the_interval_lies(rule: Rule, low: float, high: float, expected: Verdict) -> None:
    assert rule.verdict(between(low, high)) is expected


RULES = st.one_of(
    st.builds(Threshold, st.floats(-5, 5), st.sampled_from(["above", "below"])),
    st.builds(Superiority, st.floats(-5, 5), st.sampled_from(["higher", "lower"])),
    st.builds(Equivalence, st.floats(0.01, 5)),
)


@given(RULES, st.floats(-9, 9), st.floats(0, 5), st.floats(0, 5))
def test_a_wider_interval_never_changes_sides(rule: Rule, centre: float, half: float, more: float) -> None:
    narrow = rule.verdict(between(centre - half, centre + half))
    wide = rule.verdict(between(centre - half - more, centre + half + more))
    assert wide in (narrow, U)


@given(RULES)
def test_a_rule_round_trips_and_says_what_it_is(rule: Rule) -> None:
    assert rule_from_dict(rule.to_dict()) == rule
    assert str(rule).startswith("supported if the interval")


@given(RULES, st.integers(1, 2))
def test_too_few_repeats_or_no_numbers_decide_nothing(rule: Rule, n: int) -> None:
    assert rule.verdict(between(-0.001, 0.001, n)) is U
    assert rule.verdict(between(math.nan, math.nan)) is U
    assert rule.verdict(between(-math.inf, math.inf)) is U


def test_exact_values_decide_without_repeats() -> None:
    assert Threshold(2).verdict(Interval.exact(2.5)) is S
    assert Equivalence(1e-9).verdict(Interval.exact(0)) is S


def test_equivalence_errs_no_more_often_than_tost_says() -> None:
    """True difference on the margin: 90% intervals call it equal in at most 5% of the studies."""
    rng = np.random.default_rng(0)
    draws = rng.normal(0.3, 0.1, (4000, 5))
    called = [Equivalence(0.3).verdict(mean_interval(x, 0.9)) is S for x in draws]
    assert 0.035 < np.mean(called) < 0.065
    # Control: the point estimate alone, without its interval, errs in half of them.
    assert np.mean([abs(x.mean()) < 0.3 for x in draws]) > 0.45


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [([S, S], S), ([R], R), ([S, R], D), ([S, U], U), ([R, U], U), ([S, R, U], D), ([D, S], D), ([U, U], U)],
)
def test_conditions_combine(verdicts: list[Verdict], expected: Verdict) -> None:
    assert combine({str(i): v for i, v in enumerate(verdicts)}) is expected


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Equivalence(0), "margin = 0: nothing lies within it"),
        (lambda: Equivalence(math.nan), "margin = nan"),
        (lambda: Threshold(1, "over"), "side = 'over'.*'above' or 'below'"),
        (lambda: Superiority(0, "less"), "better = 'less'"),
        (lambda: Superiority(True), "margin = True"),
        (lambda: rule_from_dict({"rule": "equivalense"}), "Did you mean 'equivalence'"),
        (lambda: rule_from_dict({"rule": "equivalence"}), "Give margin"),
        (lambda: rule_from_dict({"rule": "equivalence", "margn": 1}), "'margn'.*Did you mean 'margin'"),
        (lambda: combine({}), "no conditions"),
    ],
)
def test_impossible_rules_are_told(call, message: str) -> None:
    with pytest.raises(UserError, match=message):
        call()


def test_verdicts_are_the_words_of_the_book() -> None:
    assert [str(v) for v in Verdict] == ["supported", "refuted", "depends", "undecided"]
