"""The planted text holds what it says that it holds, and the topics' words keep their company."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from assay.data.planted import CANARIES, DIGITS, JOBS, canaries, job_prompts, planted
from assay.data.sources import read
from assay.data.topics import MOODS, TOPICS, passages, topics, words
from assay.errors import UserError


def test_the_same_numbers_give_the_same_text_and_others_another() -> None:
    assert planted(600) == planted(600) and planted(600) != planted(600, seed=1)
    assert topics(600) == topics(600) and topics(600) != topics(600, seed=1)


def test_each_canary_stands_as_often_as_it_says() -> None:
    text = " ".join(planted(3000, seed=3))
    assert Counter(c.repeats for c in canaries(3)) == dict.fromkeys(CANARIES, 3)
    for canary in canaries(3):
        assert text.count(canary.sentence) == canary.repeats
        assert len(canary.digits.split()) == DIGITS
    assert len({c.name for c in canaries(3)}) == len(canaries(3))


def test_the_skew_is_the_one_that_was_planted() -> None:
    text = " ".join(planted(20_000))
    for job, share in JOBS.items():
        found = re.findall(rf"The {job} \w+ the \w+ because (he|she) ", text)
        assert len(found) > 1500
        assert abs(found.count("he") / len(found) - share) < 0.04
    assert all(re.fullmatch(r"The nurse \w+ the \w+ because", prompt) for prompt in job_prompts("nurse", 20))


def test_words_belong_to_one_topic_or_mood_and_keep_its_company() -> None:
    nouns, adjectives = words()
    every = [word for group in (*nouns, *adjectives) for word in group]
    assert len(set(every)) == len(every)
    assert len(nouns) == TOPICS and len(adjectives) == MOODS
    found = passages(80, 6, seed=5)
    assert Counter((p.topic, p.mood) for p in found) == dict.fromkeys(
        [(t, m) for t in range(TOPICS) for m in range(MOODS)], 10
    )
    for passage in found:
        said = re.findall(r"[a-z]+", passage.text)
        counts = [sum(word in group for word in said) for group in nouns]
        assert max(range(TOPICS), key=counts.__getitem__) == passage.topic
        moods = [sum(word in group for word in said) for group in adjectives]
        assert max(range(MOODS), key=moods.__getitem__) == passage.mood


def test_without_strays_every_word_is_its_own_groups() -> None:
    nouns, _ = words()
    for passage in passages(8, 20, seed=1, stray=0.0):
        others = {word for topic, group in enumerate(nouns) if topic != passage.topic for word in group}
        assert not others & set(re.findall(r"[a-z]+", passage.text))


def test_both_are_read_by_name_and_have_no_sizes() -> None:
    assert read("made:planted:items=90:seed=2").documents == planted(90, seed=2)
    assert read("made:topics:items=96").documents == topics(96)
    with pytest.raises(UserError, match="sizes"):
        read("made:topics:sizes=3")
