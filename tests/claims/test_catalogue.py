"""Every claim of the book is whole: both languages, sources, questions, a rule in words; its runs can be described."""

import re

import pytest

from assay.claims.base import Claim, Tier, Words, decide
from assay.claims.catalogue import claim, claims, keys
from assay.errors import UserError
from assay.runs import StudyFolder
from assay.stats import Interval, Verdict


def test_keys_run_in_order_and_are_found_in_any_spelling() -> None:
    numbers = [int(key[1:]) for key in keys()]
    assert numbers == sorted(set(numbers)) and claim("c12") is claim("C12") is claim("C012")


def test_an_unknown_key_is_told_with_those_there_are() -> None:
    with pytest.raises(UserError, match=r"C99.*not in the book.*C12"):
        claim("C99")
    with pytest.raises(UserError, match="norms"):
        claim("norms")


@pytest.mark.parametrize("key", keys())
def test_a_page_says_all_in_both_languages(key: str) -> None:
    one = claim(key)
    texts = [one.title, one.says, one.literature, one.experiment, one.rule, one.changes]
    texts += [question.asks for question in one.questions.values()] + [formula.means for formula in one.formulas]
    for words in texts:
        assert isinstance(words, Words) and words.en.strip() and words.zh.strip()
        assert re.search(r"[\u4e00-\u9fff]", words.zh), f"no Chinese: {words.zh}"
        assert not re.search(r"[\u4e00-\u9fff]", words.en), f"not English: {words.en}"
        assert "TODO" not in words.en
    assert one.sources and one.questions and any(question.decides for question in one.questions.values())
    assert len(set(one.verdicts)) == len(one.verdicts) >= 2
    assert Tier.full in one.tiers


@pytest.mark.parametrize("key", keys())
@pytest.mark.parametrize("tier", [Tier.quick, Tier.full])
def test_runs_can_be_described_and_a_sweep_has_a_choice(key: str, tier: Tier) -> None:
    one = claim(key)
    if one.runs is None or tier not in one.tiers:
        return
    for name, experiment in one.runs(tier).items():
        assert experiment.study.runs(), name
        assert experiment.rates is None or len(set(experiment.rates)) >= 2, name


@pytest.mark.parametrize("key", keys())
def test_nothing_measured_decides_nothing(key: str) -> None:
    """Answers that say nothing may give no verdict but undecided."""
    one = claim(key)
    nothing = Interval(float("nan"), -float("inf"), float("inf"), 0.95, 0, "nothing")
    verdict, each = decide(one, dict.fromkeys(one.questions, nothing))
    assert verdict is Verdict.UNDECIDED and set(each) == set(one.questions)


def test_a_claim_is_one_file_and_trains_with_nothing_of_its_own() -> None:
    import inspect

    for one in claims():
        source = inspect.getsource(inspect.getmodule(one.measure))  # type: ignore[arg-type]
        for forbidden in ("train_run(", ".backward(", "optimizer.step(", "import subprocess"):
            assert forbidden not in source, (one.key, forbidden)


def test_runs_are_shared_between_claims(tmp_path) -> None:  # type: ignore[no-untyped-def]
    from assay.claims.book import planned

    plan = planned([], Tier.quick, tmp_path)
    assert plan["runs"] < plan["asked"] and plan["done"] == 0
    assert StudyFolder(tmp_path).runs() == []


def test_a_claim_has_a_key_of_its_own_file() -> None:
    assert all(isinstance(one, Claim) and one.key == key for key, one in zip(keys(), claims(), strict=True))
