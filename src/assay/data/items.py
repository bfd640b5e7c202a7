"""Items with exact answers, drawn from a generator: what made tasks ask and what made corpora teach.

An item is a prompt, its answer and wrong answers. It belongs to the train, valid or test part by its prompt's content
(`part_of`), so the parts never share one, whoever draws.
"""

from __future__ import annotations

import hashlib
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from assay.errors import UserError

__all__ = ["GENERATED", "Drawn", "Maker", "part_of"]

Drawn = tuple[str, str, list[str]]
"""Prompt, answer, wrong answers."""


@dataclass(frozen=True)
class Maker:
    """One kind of task."""

    say: str
    draw: Callable[[np.random.Generator, int], Drawn]
    """An item of a size."""
    sizes: tuple[int, ...]
    unit: str
    """What a size counts, singular."""
    most: int
    """The largest size there is."""

    def check(self, sizes: Sequence[int] | None) -> tuple[int, ...]:
        """The sizes; its own for None.

        Raises:
            UserError: one that it has not.
        """
        for size in sizes or ():
            if not 1 <= size <= self.most:
                raise UserError(f"sizes: {size} is no number of {self.unit}s here.", f"Give 1 to {self.most}.")
        return tuple(sizes) if sizes else self.sizes


def _letters(rng: np.random.Generator, count: int) -> list[str]:
    return [string.ascii_lowercase[i] for i in rng.integers(0, 26, count)]


def _others(rng: np.random.Generator, right: Sequence[str], known: Sequence[str]) -> list[str]:
    """The right parts with one place changed, each time the same: what stands there is any of `known`."""
    place = int(rng.integers(len(right)))
    left = [part for part in known if part != right[place]]
    chosen = [left[i] for i in rng.permutation(len(left))[:3]]
    return [" ".join([*right[:place], other, *right[place + 1 :]]) for other in chosen]


def _copy(rng: np.random.Generator, size: int) -> Drawn:
    letters = _letters(rng, size)
    wrong = _others(rng, letters, string.ascii_lowercase)
    return f"Copy: {' '.join(letters)}\nAnswer:", " ".join(letters), wrong


def _reverse(rng: np.random.Generator, size: int) -> Drawn:
    letters = _letters(rng, size)
    answer = letters[::-1]
    wrong = _others(rng, answer, string.ascii_lowercase)
    return f"Reverse: {' '.join(letters)}\nAnswer:", " ".join(answer), wrong


def _table(rng: np.random.Generator, size: int) -> tuple[list[str], list[str]]:
    keys = [string.ascii_lowercase[i] for i in rng.permutation(26)[:size]]
    return keys, [str(value) for value in rng.permutation(100)[:size]]


def _lookup(rng: np.random.Generator, size: int) -> Drawn:
    keys, values = _table(rng, size)
    asked = int(rng.integers(size))
    table = ", ".join(f"{k} {v}" for k, v in zip(keys, values, strict=True))
    return f"Table: {table}\nValue of {keys[asked]}:", values[asked], [v for i, v in enumerate(values) if i != asked]


def _compose(rng: np.random.Generator, size: int) -> Drawn:
    """`size` look-ups in one table of eight, asked at once: right only where every part is."""
    keys, values = _table(rng, 8)
    asked = [int(i) for i in rng.integers(0, 8, size)]
    table = ", ".join(f"{k} {v}" for k, v in zip(keys, values, strict=True))
    answer = [values[i] for i in asked]
    wrong = _others(rng, answer, values)
    return f"Table: {table}\nValues of {' '.join(keys[i] for i in asked)}:", " ".join(answer), wrong


def _addition(rng: np.random.Generator, size: int) -> Drawn:
    low = 10 ** (size - 1) if size > 1 else 0
    a, b = (int(x) for x in rng.integers(low, 10**size, 2))
    right, step = a + b, 10 ** int(rng.integers(size))
    below = int(rng.integers(min(right // step, 3) + 1))  # its rank among the four
    wrong = [str(right + (rank - below) * step) for rank in range(4) if rank != below]
    return f"Add: {a} + {b}\nAnswer:", str(right), wrong


_ALPHABETS = ("abcdefghij", "klmnopqrst", "ABCDEFGHIJ", "KLMNOPQRST", "uvwxyUVWXY")
TABLES: tuple[dict[str, str], ...] = tuple(
    dict(zip(letters, map(str, np.random.default_rng(number).permutation(10)), strict=True))
    for number, letters in enumerate(_ALPHABETS)
)
"""Five tables that no prompt shows: a letter's digit. Each has letters of its own and each digit once, so that
nothing is gained without reading the letter."""


def _recall(rng: np.random.Generator, size: int) -> Drawn:
    """A letter's digit in each of the first `size` tables: facts to be known, right only where every one is."""
    letters = [_ALPHABETS[i][rng.integers(10)] for i in range(size)]
    answer = [table[letter] for letter, table in zip(letters, TABLES, strict=False)]
    wrong = _others(rng, answer, string.digits)
    return f"Recall: {' '.join(letters)}\nAnswer:", " ".join(answer), wrong


GENERATED: dict[str, Maker] = {
    "copy": Maker("Repeat letters.", _copy, (3, 5, 7), "letter", 26),
    "reverse": Maker("Letters from the end to the beginning.", _reverse, (3, 5, 7), "letter", 26),
    "lookup": Maker("The value that a table gives for a key.", _lookup, (4, 6, 8), "entry", 26),
    "addition": Maker("Sums of two numbers of equal length.", _addition, (1, 2, 3, 4), "digit", 18),
    "compose": Maker("Several look-ups at once: right only where each part is.", _compose, (1, 2, 3, 5), "part", 26),
    "recall": Maker("Digits of letters in five tables to be known by heart.", _recall, (1, 2, 3, 5), "part", 5),
}
"""Name to task."""


def part_of(prompt: str, valid: float = 0.1, test: float = 0.2) -> str:
    """train, valid or test, from the prompt's content alone: equal prompts never fall apart."""
    share = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:8], "big") / 2**64
    return "test" if share < test else "valid" if share < test + valid else "train"
