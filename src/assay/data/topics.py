"""A text whose documents each have a topic and a mood, made from its numbers alone.

A document keeps to one topic, which decides its nouns, and one mood, which decides its adjectives; one word in ten is
another's. All words are invented, so what a word belongs to can be learned from the company that it keeps alone: from
much text without labels, or from labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

__all__ = ["MOODS", "TOPICS", "Passage", "passages", "topics", "words"]

TOPICS, MOODS = 4, 2
NOUNS, ADJECTIVES = 48, 32
"""Of each topic, of each mood."""
STRAY = 0.1
"""Share of words of another topic or mood."""
SENTENCES = 48
"""Of a document."""

_ONSETS, _VOWELS = "bdfgklmnprstvz", "aeiou"


class Passage(NamedTuple):
    """Some sentences with what they are about."""

    text: str
    topic: int
    mood: int


@cache
def words() -> tuple[tuple[tuple[str, ...], ...], tuple[tuple[str, ...], ...]]:
    """(nouns of each topic, adjectives of each mood): all different, of two syllables, adjectives with a closing n."""
    rng = np.random.default_rng([24, 1])
    syllables = [a + b for a in _ONSETS for b in _VOWELS]
    chosen = rng.permutation(len(syllables) ** 2)[: TOPICS * NOUNS + MOODS * ADJECTIVES]
    made = [syllables[i // len(syllables)] + syllables[i % len(syllables)] for i in chosen]
    nouns = tuple(tuple(made[i * NOUNS : (i + 1) * NOUNS]) for i in range(TOPICS))
    rest = [word + "n" for word in made[TOPICS * NOUNS :]]
    return nouns, tuple(tuple(rest[i * ADJECTIVES : (i + 1) * ADJECTIVES]) for i in range(MOODS))


def passages(count: int, sentences: int, *, seed: int, stray: float = STRAY) -> list[Passage]:
    """`count` passages, topics and moods equally often, in random order.

    Args:
        count: passages.
        sentences: of each.
        seed: of the draws.
        stray: share of words of another topic or mood.
    """
    rng = np.random.default_rng([24, 2, seed])
    kinds = [(i % TOPICS, i // TOPICS % MOODS) for i in range(count)]
    found = []
    for index in rng.permutation(count):
        topic, mood = kinds[int(index)]
        text = " ".join(_sentence(rng, topic, mood, stray) for _ in range(sentences))
        found.append(Passage(text, topic, mood))
    return found


def topics(sentences: int, seed: int = 0) -> list[str]:
    """The text without labels: documents of SENTENCES sentences.

    Args:
        sentences: in all, rounded up to whole documents.
        seed: of the draws; the words and what they belong to are the same for all.
    """
    return [passage.text for passage in passages(-(-sentences // SENTENCES), SENTENCES, seed=seed)]


def _sentence(rng: np.random.Generator, topic: int, mood: int, stray: float) -> str:
    nouns, adjectives = words()
    a, b = (_word(rng, nouns, topic, stray) for _ in range(2))
    x, y = (_word(rng, adjectives, mood, stray) for _ in range(2))
    return f"The {x} {a} has a {y} {b}."


def _word(rng: np.random.Generator, groups: Sequence[Sequence[str]], own: int, stray: float) -> str:
    group = own
    if rng.random() < stray:
        group = (own + 1 + int(rng.integers(len(groups) - 1))) % len(groups)
    return groups[group][int(rng.integers(len(groups[group])))]
