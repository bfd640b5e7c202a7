"""Chinese words of figures: every claim's unit has one, every way to make an interval, every rule."""

import re

import pytest

from assay.claims.catalogue import claims
from assay.report.chinese import METHODS, UNITS, how_words, rule_words, unit_words
from assay.report.strip import zones
from assay.stats import (
    Equivalence,
    Interval,
    Superiority,
    Threshold,
    bootstrap_difference,
    bootstrap_interval,
    mean_interval,
    paired_difference,
    slope,
    welch_difference,
    wilson_interval,
)

CHINESE = re.compile(r"[\u4e00-\u9fff]")
SIGNS = {"", "x", "×", "%"}
"""Written at the number, the same in every language."""


def test_every_unit_of_the_book_has_a_chinese_word() -> None:
    units = {question.unit for claim in claims() for question in claim.questions.values()} - SIGNS
    assert units and not units - set(UNITS), "units without a Chinese word"
    assert not set(UNITS) - units, "words for units that no claim has"
    assert all(CHINESE.search(zh) or zh == "（log2）" for zh in UNITS.values())
    assert unit_words("furlongs") == {"en": "furlongs", "zh": ""}


def made() -> list[Interval]:
    """An interval of every kind."""
    one, two = [1.0, 2.0, 4.0, 5.0], [2.0, 1.5, 3.0, 7.0]
    return [
        Interval.exact(3.0), mean_interval(one), paired_difference(one, two), slope(one, two), wilson_interval(3, 9),
        welch_difference(one, two), bootstrap_interval(one, n=100), bootstrap_interval(one, n=100, method="percentile"),
        bootstrap_difference(one, two, n=100, paired=True),
    ]  # fmt: skip


def test_every_way_to_make_an_interval_is_said() -> None:
    for interval in made():
        answer = {"n": interval.n, "confidence": interval.confidence, "method": interval.method}
        said = how_words(answer)
        assert said["en"].endswith(interval.method)
        assert CHINESE.search(said["zh"]), interval.method
        assert not any(word in said["zh"] for word in ("Student", "bootstrap", "interval", "resamples", ", "))
    assert how_words({"n": 4, "confidence": 0.95, "method": "paired Student t, n = 4"})["zh"] == (
        "95% 区间，配对 t 分布，n = 4"
    )
    rounds = {"n": 5, "confidence": 0.95, "method": "medians of 5 blocks of rounds, Student t"}
    assert how_words(rounds)["zh"] == "95% 区间，5 组轮次的中位数，t 分布"


def test_half_a_translation_is_none() -> None:
    """A way that is not known is told in English alone, once."""
    assert how_words({"n": 4, "confidence": 0.9, "method": "paired guess, n = 4"}) == {
        "en": "90% interval, paired guess, n = 4", "zh": "",
    }  # fmt: skip
    for longer in METHODS:
        before = list(METHODS)[: list(METHODS).index(longer)]
        assert not any(shorter in longer for shorter in before), "a part stands before what contains it"


@pytest.mark.parametrize(
    "rule", [Threshold(0.5), Threshold(2.0, "below"), Superiority(0.1), Superiority(0.1, "lower"), Equivalence(0.3)]
)
def test_a_rule_says_the_side_that_supports(rule: Threshold | Superiority | Equivalence) -> None:
    given = rule.to_dict()
    said = rule_words(given, str(rule))
    assert said["en"] == f"S{str(rule)[1:]}"
    low, high = next((low, high) for low, high, yes in zones(given) if yes)
    if low == -high:
        assert f"±{high:g} 之内则支持" in said["zh"]
    elif high == float("inf"):
        assert f"在 {low:g} 以上则支持" in said["zh"]
    else:
        assert f"在 {high:g} 以下则支持".replace("-", "−") in said["zh"]


def test_a_rule_of_a_kind_that_is_not_known_keeps_its_own_words() -> None:
    assert rule_words({"rule": "vote", "margin": 1.0}, "most hands") == {"en": "Most hands", "zh": ""}
    assert rule_words({}, "") == {"en": "", "zh": ""}
