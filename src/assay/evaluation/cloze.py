"""Which of four words goes on a text: what a tiny language model learns first, so that zero-shot ranks mean something.

The four are drawn alike, from the words of one length in the same texts, and one of them is the one that stands there;
a draw in which two are the same is thrown away as a whole. So they are exchangeable: who does not read the prompt,
though he know every word's frequency, is right a quarter of the time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from assay.errors import UserError
from assay.evaluation.tasks import Item, Task

__all__ = ["cloze_task"]

WORD = re.compile(r"(?<=[\w,;:] )[A-Za-z]{2,10}(?=[ .,;:)\n])")
"""A word within a sentence, behind a space."""
TRIES = 20
"""Draws for each item asked for, of which some are thrown away."""


def cloze_task(documents: Sequence[str], count: int, *, seed: int = 0, prompt_bytes: int = 128) -> Task:
    """`count` words to be told from three others each, by the text before them.

    Args:
        documents: texts that the model has not seen.
        count: items.
        seed: of the draws.
        prompt_bytes: bytes of text before the word, at most.

    Raises:
        UserError: the texts are too short.
    """
    places: dict[int, list[tuple[int, int]]] = {}
    for number, document in enumerate(documents):
        for match in WORD.finditer(document):
            if match.start() >= prompt_bytes // 2:
                places.setdefault(len(match[0]), []).append((number, match.start()))
    lengths = [(size, len(found)) for size, found in sorted(places.items()) if len(found) >= 8]
    total = sum(found for _, found in lengths)
    if total < 64:
        raise UserError(f"the texts hold {total} words within sentences, and a cloze needs 64.", "Give more text.")
    rng = np.random.default_rng([seed, 13])
    shares = np.array([found for _, found in lengths]) / total
    items: list[Item] = []
    seen: set[tuple[int, int]] = set()
    for _ in range(TRIES * count):
        if len(items) == count:
            break
        size = lengths[int(rng.choice(len(lengths), p=shares))][0]
        drawn = [places[size][i] for i in rng.integers(0, len(places[size]), 4)]
        words = [documents[number][start : start + size] for number, start in drawn]
        if len(set(words)) < 4 or drawn[0] in seen:
            continue
        seen.add(drawn[0])
        number, start = drawn[0]
        prompt = documents[number][: start - 1].encode()[-prompt_bytes:].decode(errors="ignore")
        items.append(Item(prompt, f" {words[0]}", tuple(f" {words[i]}" for i in rng.permutation(4))))
    if len(items) < count // 2 + 1:
        raise UserError(f"the texts give {len(items)} of {count} cloze items.", "Give more text, or ask for fewer.")
    return Task("cloze", tuple(items), "Which of four words of one length goes on the text.")
