"""BERT's masked LM against its definition and exact distributions."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.objectives.common import NAMED, SENTINELS, VOCABULARY, agrees, build, equally, many, text

from assay.objectives import Key

MASK = VOCABULARY.mask
keys = st.builds(Key, st.integers(0, 2**40), st.integers(0, 1000), st.integers(0, 2**40))


@given(length=st.integers(1, 300), key=keys, density=st.floats(0.02, 0.95))
def test_counts_and_places(length, key, density):
    example = build("mlm", "encoder", density=density).example(text(length), key)
    whole = [VOCABULARY.bos, *text(length).tolist(), VOCABULARY.eos]
    assert example.targets.tolist() == whole  # each predicted where it stands
    predicted = example.weights > 0
    assert predicted.sum() == max(1, round(density * length))
    assert not predicted[[0, -1]].any()
    assert example.inputs[~predicted].tolist() == example.targets[~predicted].tolist()


def test_every_choice_is_equally_likely():
    examples = build("mlm", "encoder", density=0.4).examples(many(6, 4000))
    rows = examples.weights.reshape(4000, 8)[:, 1:-1]
    seen = Counter(tuple(np.flatnonzero(row).tolist()) for row in rows)
    assert agrees(seen, equally(list(itertools.combinations(range(6), 2))))


def test_80_10_10():
    examples = build("mlm", "encoder").examples(many(100, 2000))
    predicted = examples.weights > 0
    shown, true = examples.inputs[predicted], examples.targets[predicted]
    assert len(shown) == 2000 * 15
    kinds = np.where(shown == MASK, "mask", np.where(shown == true, "same", "other"))
    text_ids = 1000 - 200 - 11
    chances = {"mask": 0.8, "same": 0.1 + 0.1 / text_ids, "other": 0.1 - 0.1 / text_ids}
    assert agrees(Counter(kinds.tolist()), chances)
    other = shown[kinds == "other"]
    counts = np.histogram(other, bins=20, range=(11, 800))[0]
    expected = np.diff(np.ceil(np.linspace(11, 800, 21))) / text_ids * len(other)
    assert ((counts - expected) ** 2 / expected).sum() < 55  # 19 degrees of freedom
    specials = {0, 1, 2, MASK, *NAMED.values(), *SENTINELS}
    assert not specials & set(other.tolist())


WORDS = [1, 1, 0, 1, 1, 0, 0]  # of 1, 2, 1 and 3 tokens


def word_chances(budget: int) -> dict[tuple[int, ...], float]:
    """BERT's loop over all orders of the words: take one if it fits, else pass it over."""
    words, found = [(0,), (1, 2), (3,), (4, 5, 6)], Counter()
    for order in itertools.permutations(range(4)):
        taken: list[int] = []
        for word in order:
            if len(taken) + len(words[word]) <= budget:
                taken += words[word]
        found[tuple(sorted(taken))] += 1 / 24
    return found


@pytest.mark.parametrize("density", [0.15, 0.3, 0.43, 0.6, 0.9])
def test_whole_words_have_the_published_distribution(density):
    objective = build("mlm", "encoder", density=density, whole_word=True)
    examples = objective.examples(many(7, 4000, words=WORDS))
    rows = examples.weights.reshape(4000, 9)[:, 1:-1]
    seen = Counter(tuple(np.flatnonzero(row).tolist()) for row in rows)
    assert agrees(seen, word_chances(max(1, round(7 * density))))


@given(length=st.integers(1, 150), key=keys, seed=st.integers(0, 1000), share=st.floats(0.1, 1))
def test_words_are_hidden_whole(length, key, seed, share):
    words = np.random.default_rng(seed).random(length) < share
    example = build("mlm", "encoder", whole_word=True).example(text(length), key, words=words)
    predicted = example.weights[1:-1] > 0
    assert predicted.sum() <= max(1, round(0.15 * length))
    words[0] = True
    for group in np.split(predicted, np.flatnonzero(words)[1:]):
        assert group.all() or not group.any()
