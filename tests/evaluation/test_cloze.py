"""The cloze: exchangeable choices, so that only reading the prompt helps; and reading helps."""

import collections
import math

import numpy as np
import pytest

from assay.errors import UserError
from assay.evaluation.cloze import cloze_task

WORDS = (
    "the",
    "of",
    "and",
    "in",
    "to",
    "is",
    "it",
    "as",
    "on",
    "at",
    "by",
    "we",
    "an",
    "or",
    "if",
    "no",
    "so",
    "up",
    "my",
)


def texts(seed: int = 0, count: int = 40) -> list[str]:
    """Words of very unequal frequency, each of which says much about the next."""
    rng = np.random.default_rng(seed)
    shares = 1 / np.arange(1, len(WORDS) + 1)
    found = []
    for _ in range(count):
        here, said = 0, []
        for _ in range(400):
            here = (
                (here * 7 + 3) % len(WORDS)
                if rng.random() < 0.6
                else int(rng.choice(len(WORDS), p=shares / sum(shares)))
            )
            said.append(WORDS[here])
        found.append(" ".join(said))
    return found


def share(task, score) -> float:
    return float(np.mean([max(i.choices, key=lambda c: score(i.prompt, c)) == i.answer for i in task.items]))


def test_without_the_prompt_it_is_chance_and_with_it_more() -> None:
    documents = texts()
    task = cloze_task(documents, 1500)
    assert len(task) == 1500 and task.chance == 0.25
    assert all(i.answer in i.choices and len(set(i.choices)) == 4 for i in task.items)
    assert all(len({len(c) for c in i.choices}) == 1 and i.choices[0][0] == " " for i in task.items)
    one = collections.Counter(w for d in documents for w in d.split())
    two = collections.Counter((a, b) for d in documents for a, b in zip(d.split(), d.split()[1:], strict=False))
    limit = 4.5 * math.sqrt(0.25 * 0.75 / len(task))
    for sign in (1, -1):  # the likeliest word, and the rarest
        blind = share(task, lambda prompt, choice, s=sign: s * one[choice.strip()])
        assert abs(blind - 0.25) < limit, blind
    assert share(task, lambda prompt, choice: two[prompt.split()[-1], choice.strip()]) > 0.5
    # A choice of wrong words that only avoids the right one fails this: it would not be exchangeable.
    rng = np.random.default_rng(1)
    pool = [w for d in documents for w in d.split()]
    hits, tries = 0, 20_000
    for _ in range(tries):
        gold = pool[rng.integers(len(pool))]
        others = {gold}
        while len(others) < 4:
            others.add(pool[rng.integers(len(pool))])
        hits += max(others, key=lambda w: one[w]) == gold
    assert hits / tries - 0.25 > 4.5 * math.sqrt(0.25 * 0.75 / tries)


def test_the_prompt_is_the_text_before_the_word() -> None:
    documents = texts(1, 5)
    task = cloze_task(documents, 50, prompt_bytes=64)
    for item in task.items:
        assert len(item.prompt) <= 64 and any(item.prompt + item.answer + " " in d for d in documents)
    assert [i.prompt for i in cloze_task(documents, 50, prompt_bytes=64).items] == [i.prompt for i in task.items]
    assert len({i.prompt for i in task.items}) > 45
    with pytest.raises(UserError, match="a cloze needs 64. Give more text"):
        cloze_task(["short text"], 10)
