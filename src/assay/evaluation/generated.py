"""Tasks that are made here, with exact answers: nothing is downloaded, and no model has seen them.

Items are drawn from (name, seed) alone. An item belongs to the train, valid or test part by its prompt's content, so
the parts never share one. Each item also has four answers to choose from: exact match says little of a small model,
the choice and the answer's nats say more. The four differ in one place alone, and which of them is right is a matter
of the prompt: whoever does not read it is right a quarter of the time. (Wrong answers that each change the right one
somewhere else would make it the hub that beats all others in an eighth of the cases only.)
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from assay.errors import UserError, did_you_mean
from assay.evaluation.tasks import Item, Task, part_of

__all__ = ["GENERATED", "Maker", "continuation_task", "generated_task"]

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


GENERATED: dict[str, Maker] = {
    "copy": Maker("Repeat letters.", _copy, (3, 5, 7), "letter"),
    "reverse": Maker("Letters from the end to the beginning.", _reverse, (3, 5, 7), "letter"),
    "lookup": Maker("The value that a table gives for a key.", _lookup, (4, 6, 8), "entry"),
    "addition": Maker("Sums of two numbers of equal length.", _addition, (1, 2, 3, 4), "digit"),
    "compose": Maker("Several look-ups at once: right only where each part is.", _compose, (1, 2, 3, 5), "part"),
}
"""Name to task."""


def generated_task(name: str, count: int, *, seed: int = 0, part: str = "test") -> Task:
    """`count` items of a made task, spread evenly over its sizes; fewer where there are not so many different ones.

    Args:
        name: one of `GENERATED`.
        count: items.
        seed: of the draws.
        part: train, valid or test: three sets of prompts that never meet.

    Raises:
        UserError: no such task.
    """
    if name not in GENERATED:
        raise UserError(f"task {name!r} is not known.", did_you_mean(name, GENERATED))
    assert part in ("train", "valid", "test"), part
    maker = GENERATED[name]
    rng = np.random.default_rng([seed, *name.encode()])
    items: list[Item] = []
    for index, size in enumerate(maker.sizes):
        wanted = (count - len(items)) // (len(maker.sizes) - index)
        seen: set[str] = set()
        for _ in range(60 * wanted + 200):  # small sizes run out of different prompts
            if len(seen) >= wanted:
                break
            prompt, answer, wrong = maker.draw(rng, size)
            if prompt in seen or part_of(prompt) != part:
                continue
            seen.add(prompt)
            group = f"{size} {maker.unit if size == 1 else _plural(maker.unit)}"
            items.append(Item(prompt, f" {answer}", _choices(rng, answer, wrong), group))
    return Task(name, tuple(items), maker.say, written=True, facts={"seed": seed, "part": part})


def _plural(unit: str) -> str:
    return f"{unit[:-1]}ies" if unit.endswith("y") else f"{unit}s"


def _choices(rng: np.random.Generator, answer: str, wrong: Sequence[str]) -> tuple[str, ...]:
    """The answer and up to three different wrong ones, in random order."""
    others = list(dict.fromkeys(w for w in wrong if w != answer))[:3]
    found = [answer, *others]
    return tuple(f" {found[i]}" for i in rng.permutation(len(found)))


def continuation_task(
    documents: Sequence[str], count: int, *, seed: int = 0, prompt_bytes: int = 256, answer_bytes: int = 64
) -> Task:
    """Which of four passages goes on the text: what language modelling alone should teach.

    A passage is cut at white space; the three wrong answers are passages of the same text set that follow other
    prompts. Chance is 25%.

    Raises:
        UserError: the texts are too short for any passage.
    """
    from assay.data.windows import cut_windows

    size = prompt_bytes + answer_bytes
    passages = []
    for document in documents:
        for first, second in cut_windows(document, 2 * prompt_bytes):
            answer = second.encode()[:answer_bytes].decode(errors="ignore").rpartition(" ")[0]
            if answer.strip() and first.strip():
                passages.append((first, answer))
    if len(passages) < 4:
        raise UserError(
            f"the texts hold {len(passages)} passages of {size} bytes, and a choice needs 4.", "Give more text."
        )
    rng = np.random.default_rng([seed, 7])
    chosen = rng.permutation(len(passages))[:count]
    items = []
    for number in chosen:
        prompt, answer = passages[number]
        others = [passages[i][1] for i in rng.permutation(len(passages)) if passages[i][1] != answer][:3]
        found = [answer, *others]
        items.append(Item(prompt, answer, tuple(found[i] for i in rng.permutation(len(found)))))
    return Task("continuation", tuple(items), "Which of four passages goes on the text.")
