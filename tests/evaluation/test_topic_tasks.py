"""Labels follow the passages, parts share no prompt, and draws depend on the numbers alone."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from assay.data.topics import words
from assay.errors import UserError
from assay.evaluation.topic_tasks import TASKS, topic_task


def _topic(text: str) -> int:
    nouns, _ = words()
    said = re.findall(r"[a-z]+", text)
    return max(range(len(nouns)), key=lambda i: sum(word in nouns[i] for word in said))


@pytest.mark.parametrize("name", TASKS)
def test_items(name: str) -> None:
    task = topic_task(name, 60, part="train", sentences=8)
    assert len(task) == 60 and task.labels == TASKS[name] and task == topic_task(name, 60, part="train", sentences=8)
    others = {item.prompt for part in ("valid", "test") for item in topic_task(name, 40, part=part, sentences=8).items}
    assert not others & {item.prompt for item in task.items}
    counts = Counter(item.answer for item in task.items)
    assert len(counts) == len(task.labels) and max(counts.values()) < 2 * min(counts.values()) + 8
    if name == "topic":  # with strays a passage's words may mislead, but seldom in eight sentences
        right = sum(TASKS[name][_topic(item.prompt)] == item.answer for item in task.items)
        assert right >= 58
    if name == "match":
        for item in task.items[:20]:
            first, second, _ = item.prompt.split("\n")
            assert (_topic(first) == _topic(second)) == (item.answer == " yes")


def test_an_unknown_task_is_named() -> None:
    with pytest.raises(UserError, match="'topics' is not known"):
        topic_task("topics", 5)
