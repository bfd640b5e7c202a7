"""Made tasks of the kinds that families are compared on: right answers are right, wrong ones are wrong and distinct."""

import numpy as np
import pytest

from assay.errors import UserError
from assay.evaluation.fitting import cloze_task, dialogue_task, order_task, summary_task
from assay.evaluation.tasks import Task

TEXT = [" ".join(f"word{chr(97 + i % 26)}{chr(97 + i // 26 % 26)}" for i in range(k, k + 400)) for k in (0, 90)]


def tasks(seed: int) -> list[Task]:
    return [cloze_task(TEXT, 20, seed=seed), order_task(TEXT, 20, seed=seed), dialogue_task(20, seed=seed),
            summary_task(20, seed=seed)]  # fmt: skip


def test_items_have_distinct_choices_with_the_answer_among_them_and_repeat() -> None:
    for task, again, other in zip(tasks(0), tasks(0), tasks(1), strict=True):
        assert task.items == again.items and task.items != other.items and len(task) == 20
        for item in task.items:
            assert item.answer in item.choices and len(set(item.choices)) == len(item.choices)
        places = np.bincount([item.gold for item in task.items])
        assert (places > 0).all() and len(places) == len(task.items[0].choices), "the place of the answer tells nothing"


def test_answers_are_right() -> None:
    for item in dialogue_task(30).items:
        *said, question, _ = item.prompt.split("\n")
        asked = question.removeprefix("A: How many ").removesuffix("?")
        (line,) = [line for line in said if line.endswith(f"{item.answer} {asked}.")]
        assert line.startswith("A: ")
    for item in summary_task(30).items:
        marked = [word.lower() for word in item.prompt.split("\n")[0].split()[1:] if word.isupper()]
        assert item.answer.split() == marked
    for item in cloze_task(TEXT, 20).items:
        text = item.prompt.removeprefix("Fill: ").split("\n")[0].replace("___", item.answer.strip()).lower()
        assert any(text in document.lower() for document in TEXT)
    for item in order_task(TEXT, 20).items:
        text = item.prompt.removeprefix("Text: ").split("\n")[0]
        assert any(text in document for document in TEXT) == (item.answer == " yes")


def test_too_little_text() -> None:
    with pytest.raises(UserError, match="passages"):
        cloze_task(["a few words"], 4)
