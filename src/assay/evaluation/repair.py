"""Repairing damaged text: which damage, and how well a model writes the text that was there.

    doubled       words written twice
    typos         a letter of a word replaced by another
    deletions     words left out
    permutations  neighbouring words that changed places

Texts are the made passages of `data.topics`. Damage is at the level of words and letters, so it is none that training
objectives do (they hide tokens and move sentences).
"""

from __future__ import annotations

import string
from collections.abc import Callable

import numpy as np

from assay.data.items import part_of
from assay.data.topics import passages
from assay.errors import UserError, did_you_mean
from assay.evaluation.tasks import Item, Task

__all__ = ["DAMAGE", "damaged", "repair_task"]


def _doubled(rng: np.random.Generator, words: list[str], hit: list[bool]) -> list[str]:
    return [word for word, twice in zip(words, hit, strict=True) for _ in range(1 + twice)]


def _typos(rng: np.random.Generator, words: list[str], hit: list[bool]) -> list[str]:
    found = []
    for word, wrong in zip(words, hit, strict=True):
        places = [i for i, letter in enumerate(word) if letter in string.ascii_lowercase]
        if wrong and places:
            place = places[int(rng.integers(len(places)))]
            others = [letter for letter in string.ascii_lowercase if letter != word[place]]
            word = word[:place] + others[int(rng.integers(len(others)))] + word[place + 1 :]
        found.append(word)
    return found


def _deletions(rng: np.random.Generator, words: list[str], hit: list[bool]) -> list[str]:
    return [word for word, gone in zip(words, hit, strict=True) if not gone] or words[:1]


def _permutations(rng: np.random.Generator, words: list[str], hit: list[bool]) -> list[str]:
    found, place = list(words), 0
    while place + 1 < len(found):
        if hit[place]:
            found[place], found[place + 1] = found[place + 1], found[place]
            place += 1
        place += 1
    return found


DAMAGE: dict[str, Callable[[np.random.Generator, list[str], list[bool]], list[str]]] = {
    "doubled": _doubled, "typos": _typos, "deletions": _deletions, "permutations": _permutations,
}  # fmt: skip
"""Name to what it does to words, of which some are hit."""


def damaged(text: str, kind: str, rng: np.random.Generator, share: float = 0.25) -> str:
    """A text with about a share of its words damaged, at least one.

    Raises:
        UserError: no such damage.
    """
    if kind not in DAMAGE:
        raise UserError(f"damage {kind!r} is not known.", did_you_mean(kind, DAMAGE))
    words = text.split(" ")
    hit = list(rng.random(len(words)) < share)
    if not any(hit):
        hit[int(rng.integers(len(words)))] = True
    return " ".join(DAMAGE[kind](rng, words, [bool(h) for h in hit]))


def repair_task(kind: str, count: int, *, seed: int = 0, part: str = "test", sentences: int = 2) -> Task:
    """Damaged passages and what they were; a passage belongs to the same part under every damage.

    Args:
        kind: one of `DAMAGE`.
        count: items.
        seed: of the draws.
        part: train, valid or test, by the undamaged text.
        sentences: of a passage.

    Raises:
        UserError: no such damage.
    """
    rng = np.random.default_rng([seed, 29, *kind.encode()])
    items: list[Item] = []
    for turn in range(1000):
        for passage in passages(2 * count + 16, sentences, seed=2_900_000 + 1000 * seed + turn):
            if part_of(passage.text) == part and len(items) < count:
                items.append(Item(f"{damaged(passage.text, kind, rng)}\nClean:", f" {passage.text}"))
        if len(items) == count:
            break
    return Task(kind, tuple(items), "A made passage with damage, and as it was.", facts={"seed": seed, "part": part})
