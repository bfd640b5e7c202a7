"""The schema of results: what a row must hold, ratios round by round, targets, and the way through JSON."""

import json
import math

import pytest
from benchmarks.result import Check, Result, Row, Spread, Target, pairwise
from benchmarks.rows import cannot, of_rates, of_times


def test_ratios_are_taken_round_by_round() -> None:
    """The machine slows down twofold and tenfold: pairs still say 2, the ratio of medians would not."""
    own, other = [1.0, 2.0, 10.0], [2.0, 4.0, 20.0]
    assert pairwise(own, other) == Spread(2.0, 2.0, 2.0)
    uneven = pairwise([1.0, 2.0, 10.0], [10.0, 2.0, 1.0])
    assert uneven.median == 1.0 and uneven.low < 1 < uneven.high


def test_ratios_need_as_many_rounds_of_both() -> None:
    with pytest.raises(ValueError):
        pairwise([1.0], [1.0, 2.0])


def test_above_one_means_that_assay_is_ahead_for_times_and_for_rates() -> None:
    times = of_times({"assay": [1.0, 1.0], "peer": [3.0, 3.0]}, "assay", limit=0.5)
    rates = of_rates({"assay": [3.0, 3.0], "peer": [1.0, 1.0]}, "assay")
    assert times[1].ratio == rates[1].ratio == Spread(3.0, 3.0, 3.0)
    assert times[0].ratio is None and times[0].limit_share == 0.5 and times[0].value == Spread(1e3, 1e3, 1e3)


def test_own_is_the_row_that_ratios_are_taken_with() -> None:
    rows = of_times({"assay/eager": [2.0], "assay/compiled": [1.0], "peer": [3.0]}, "assay/compiled")
    result = Result("a", "A", "parts", "s", "ms", rows)
    assert result.own is not None and result.own.who == "assay/compiled"
    assert Result("a", "A", "parts", "s", "ms").own is None


def test_a_row_has_a_number_or_a_reason() -> None:
    with pytest.raises(ValueError, match="reason"):
        Row("peer", "peer")
    with pytest.raises(ValueError, match="either"):
        Row("peer", "peer", Spread(1, 1, 1), cannot="no")
    with pytest.raises(ValueError, match="kind"):
        Row("peer", "friend", Spread(1, 1, 1))


def test_a_target_is_met_by_its_median_and_says_when_quartiles_disagree() -> None:
    assert Target("x", 2.0, Spread(2.1, 2.05, 2.2)).verdict == "met"
    assert Target("x", 2.0, Spread(1.9, 1.8, 2.2)).verdict.startswith("missed, its quartiles")
    assert Target("x", 2.0, Spread(1.9, 1.8, 1.95), at_most=True).met
    assert Target("x", 2.0, None).met is None
    assert Target("x", 3.0, Spread(1.5, 1, 2)).need == 2.0
    assert Target("x", 2.0, Spread(4.0, 1, 2), at_most=True).need == 2.0


def test_a_check_that_is_not_a_number_does_not_pass() -> None:
    assert not Check("x", math.nan, 1.0).passed and Check("x", 0.0, 0.0).passed


def test_json_there_and_back() -> None:
    result = Result("a", "A", "parts", "s", "ms", of_times({"assay": [1.0], "peer": [2.0]}, "assay", limit=0.9))
    result.rows += cannot({"other": "not\n here"})
    result.aim_at("peer", 1.5)
    result.aim_at("nobody", 1.0)
    result.aim_at_limit("assay", 0.8)
    result.checks = [Check("x", math.inf, 1.0)]
    text = json.dumps(result.to_dict(), allow_nan=False)
    assert Result.from_dict(json.loads(text)) == result
    assert [target.met for target in result.targets] == [True, None, True]
    with pytest.raises(ValueError, match="schema"):
        Result.from_dict({"schema": 0})
