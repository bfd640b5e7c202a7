"""Labelled tasks on the made text of topics and moods (`data.topics`): what a passage is about, and how it is told.

    topic   one of four
    mood    one of two
    match   whether two passages have the same topic: yes or no

Prompts are drawn from (name, seed) alone and fall to train, valid or test by their content.
"""

from __future__ import annotations

import numpy as np

from assay.data.items import part_of
from assay.data.topics import MOODS, TOPICS, Passage, passages
from assay.errors import UserError, did_you_mean
from assay.evaluation.tasks import Item, Task

__all__ = ["TASKS", "topic_task"]

TASKS: dict[str, tuple[str, ...]] = {
    "topic": tuple(f" {letter}" for letter in "ABCD"[:TOPICS]),
    "mood": tuple(f" {word}" for word in ("up", "down")[:MOODS]),
    "match": (" no", " yes"),
}
"""Name to classes."""
_SALT = {"topic": 1, "mood": 2, "match": 3}


def topic_task(name: str, count: int, *, seed: int = 0, part: str = "test", sentences: int = 2) -> Task:
    """`count` labelled items, classes about equally often.

    Args:
        name: one of `TASKS`.
        count: items.
        seed: of the draws.
        part: train, valid or test: three sets of prompts that never meet.
        sentences: of a passage.

    Raises:
        UserError: no such task.
    """
    if name not in TASKS:
        raise UserError(f"task {name!r} is not known.", did_you_mean(name, TASKS))
    assert part in ("train", "valid", "test"), part
    items: list[Item] = []
    for turn in range(1000):
        drawn = passages(2 * count + 16, sentences, seed=1_000_000 + 10_000 * _SALT[name] + 1000 * seed + turn)
        for prompt, label in _ask(name, drawn, turn):
            if part_of(prompt) == part and len(items) < count:
                items.append(Item(prompt, TASKS[name][label], TASKS[name]))
        if len(items) == count:
            break
    facts = {"seed": seed, "part": part, "sentences": sentences}
    return Task(name, tuple(items), "Made passages of invented words.", labels=TASKS[name], facts=facts)


def _ask(name: str, drawn: list[Passage], turn: int) -> list[tuple[str, int]]:
    if name == "topic":
        return [(f"{p.text}\nTopic:", p.topic) for p in drawn]
    if name == "mood":
        return [(f"{p.text}\nMood:", p.mood) for p in drawn]
    rng = np.random.default_rng([24, 3, turn])
    by_topic: dict[int, list[Passage]] = {}
    for passage in drawn:
        by_topic.setdefault(passage.topic, []).append(passage)
    found = []
    for passage in drawn:
        same = int(rng.integers(2))
        topics = [passage.topic] if same else [t for t in sorted(by_topic) if t != passage.topic]
        others = by_topic[topics[int(rng.integers(len(topics)))]]
        other = others[int(rng.integers(len(others)))]
        found.append((f"{passage.text}\n{other.text}\nMatch:", same))
    return found
