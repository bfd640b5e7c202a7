"""Small made tasks of the kinds that families are said to be good or bad at, each with four or two answers to choose.

    cloze       a word is left out of a passage of real text, its context on both sides: infilling
    order       are a passage's words in their order? yes or no: classification
    dialogue    what was said two turns ago
    summary     the words in capitals of a sentence: compression

`evaluation.generated` has the others: reverse (transduction) and lookup (question answering).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from assay.errors import UserError
from assay.evaluation.tasks import Item, Task

__all__ = ["cloze_task", "dialogue_task", "order_task", "summary_task"]

Draw = Callable[[np.random.Generator], tuple[str, str, list[str]]]
"""Prompt, answer, three wrong answers."""

NAMES = ("cats", "dogs", "books", "cups", "pens", "keys", "maps", "hats")
WORDS = ("red", "blue", "fast", "slow", "bird", "fish", "tree", "lake", "road", "door", "lamp", "wind")


def _passages(documents: Sequence[str], words: int) -> list[list[str]]:
    """Runs of `words` words, one after the other, from texts; words are letters alone, two or more."""
    found = []
    for document in documents:
        whole = re.findall(r"[A-Za-z]{2,}", document)
        found += [whole[i : i + words] for i in range(0, len(whole) - words + 1, words)]
    if len(found) < 4:
        raise UserError(
            f"the texts hold {len(found)} passages of {words} words, and a task needs 4.", "Give more text."
        )
    return found


def cloze_task(documents: Sequence[str], count: int, *, seed: int = 0, words: int = 14) -> Task:
    """Which of four words was left out of a passage; the wrong ones were left out of others. Chance is 25%.

    Raises:
        UserError: the texts are too short.
    """
    passages, rng = _passages(documents, words), np.random.default_rng([seed, 21])
    pool = sorted({word.lower() for passage in passages for word in passage if len(word) > 3})
    items = []
    for number in rng.permutation(len(passages)):
        passage = passages[number]
        places = [i for i in range(3, words - 3) if len(passage[i]) > 3]
        if not places:
            continue
        place = places[int(rng.integers(len(places)))]
        answer = passage[place].lower()
        wrong = [pool[i] for i in rng.permutation(len(pool))[:8] if pool[i] != answer][:3]
        prompt = f"Fill: {' '.join([*passage[:place], '___', *passage[place + 1 :]])}\nWord:"
        items.append(_item(rng, prompt, answer, wrong))
        if len(items) == count:
            break
    return Task("cloze", tuple(items), "A word left out of a passage.")


def order_task(documents: Sequence[str], count: int, *, seed: int = 0, words: int = 10) -> Task:
    """Whether a passage's words stand in their order; half of them do. Chance is 50%.

    Raises:
        UserError: the texts are too short.
    """
    passages, rng = _passages(documents, words), np.random.default_rng([seed, 22])
    items = []
    for index, number in enumerate(rng.permutation(len(passages))[:count]):
        passage = passages[number]
        mixed = [passage[i] for i in rng.permutation(words)] if index % 2 else passage
        answer = " no" if mixed != passage else " yes"
        items.append(Item(f"Text: {' '.join(mixed)}\nIn order:", answer, (" no", " yes")))
    return Task("order", tuple(items), "Whether words stand in their order.", labels=(" no", " yes"))


def dialogue_task(count: int, *, seed: int = 0) -> Task:
    """What a speaker said two turns ago, with another number in between. Chance is 25%."""

    def draw(rng: np.random.Generator) -> tuple[str, str, list[str]]:
        first, second = (NAMES[i] for i in rng.permutation(len(NAMES))[:2])
        numbers = [str(n) for n in rng.permutation(90)[:4] + 10]
        asked, answer, other = (
            (first, numbers[0], numbers[1]) if rng.random() < 0.5 else (second, numbers[1], numbers[0])
        )
        prompt = (
            f"A: I have {numbers[0]} {first}.\nB: Good.\nA: And {numbers[1]} {second}.\nB: Good.\n"
            f"A: How many {asked}?\nB:"
        )
        return prompt, answer, [other, *numbers[2:]]

    return _made("dialogue", draw, count, seed, "What was said two turns ago.")


def summary_task(count: int, *, seed: int = 0) -> Task:
    """The two words in capitals of a sentence, in their order. Chance is 25%."""

    def draw(rng: np.random.Generator) -> tuple[str, str, list[str]]:
        words = [WORDS[i] for i in rng.permutation(len(WORDS))[:7]]
        marked = sorted(rng.permutation(7)[:2])
        right = [words[i] for i in marked]
        plain = [word for i, word in enumerate(words) if i not in marked]
        text = " ".join(word.upper() if i in marked else word for i, word in enumerate(words))
        place = int(rng.integers(2))
        wrong = [" ".join([*right[:place], other, *right[place + 1 :]]) for other in plain[:3]]
        return f"Text: {text}\nSummary:", " ".join(right), wrong

    return _made("summary", draw, count, seed, "The words in capitals of a sentence.")


def _made(name: str, draw: Draw, count: int, seed: int, says: str) -> Task:
    rng = np.random.default_rng([seed, *name.encode()])
    items: dict[str, Item] = {}
    while len(items) < count:
        prompt, answer, wrong = draw(rng)
        items.setdefault(prompt, _item(rng, prompt, answer, wrong))
    return Task(name, tuple(items.values()), says)


def _item(rng: np.random.Generator, prompt: str, answer: str, wrong: Sequence[str]) -> Item:
    found = [answer, *wrong]
    return Item(prompt, f" {answer}", tuple(f" {found[i]}" for i in rng.permutation(len(found))))
