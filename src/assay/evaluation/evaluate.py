"""Tasks measured on a model: accuracy, F1, calibration, exact match, with standard errors and intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from assay.evaluation.calibration import brier, confidences, ece, reliability
from assay.evaluation.metrics import accuracy, edit_similarity, f1, f1_by_class, mean, plain
from assay.evaluation.pairs import Codec, Pair, score
from assay.evaluation.tasks import Item, Task
from assay.evaluation.writing import write

__all__ = ["evaluate", "evaluate_task"]

Report = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


def evaluate(
    codec: Codec,
    tasks: Sequence[Task],
    *,
    end: bool = False,
    written: bool = True,
    batch_size: int = 32,
    max_new_tokens: int | None = None,
    progress: Report | None = None,
) -> list[dict[str, Any]]:
    """A row of results for each task, plain data: see `evaluate_task`."""
    rows = []
    for number, task in enumerate(tasks):
        if progress is not None:
            progress(task.name, number, len(tasks))
        rows.append(
            evaluate_task(codec, task, end=end, written=written, batch_size=batch_size, max_new_tokens=max_new_tokens)
        )
    return rows


def evaluate_task(
    codec: Codec,
    task: Task,
    *,
    end: bool = False,
    written: bool = True,
    batch_size: int = 32,
    max_new_tokens: int | None = None,
) -> dict[str, Any]:
    """What a model makes of a task.

    Args:
        codec: of the model.
        task: what is asked.
        end: the model was tuned to end its answers, so the end token is part of them.
        written: also let the model write answers and compare them, where the task is for that.
        batch_size: at a time; changes results by rounding alone.
        max_new_tokens: of a written answer; None: as many as the longest right answer, and 4 more.

    Returns:
        "task", "items", "chance", "cut" (prompts that lost their beginning to the window), and, each as {"value",
        "low", "high", "n", "method", "standard_error"}:
        "nats_per_token" of the right answers;
        where there are choices, "accuracy" (the likeliest choice is right), "accuracy_by_byte" (nats over the
        choice's bytes, lm-evaluation-harness's acc_norm), "macro_f1" and "f1" where all items choose among the same
        classes, "ece", "brier" and "reliability" of the probabilities over the choices;
        where answers are written, "exact_match", "edit_similarity" and "part_accuracy" (words right in their place);
        "groups": the same means by group.
    """
    right = [_asked(codec, item, item.answer, end) for item in task.items]
    row: dict[str, Any] = {
        "task": task.name, "items": len(task), "chance": task.chance, "description": task.description,
        "cut": sum(pair.cut > 0 for pair in right), "facts": task.facts,
    }  # fmt: skip
    values: dict[str, np.ndarray[Any, Any]] = {}
    if task.items[0].choices:
        row |= _chosen(codec, task, right, end, batch_size, values)
    else:
        found = score(codec, right, batch_size=batch_size)
        values["nats_per_token"] = found.nats / found.tokens
    if written and task.written and codec.writes:
        values |= _written(codec, task, right, max_new_tokens, batch_size)
    for name, per_item in values.items():
        share = name in ("accuracy", "accuracy_by_byte", "exact_match")
        row[name] = plain(accuracy(per_item) if share else mean(per_item), per_item)
    groups = list(dict.fromkeys(item.group for item in task.items if item.group))
    row["groups"] = [_group(name, task.items, values) for name in groups]
    return row


def _chosen(
    codec: Codec,
    task: Task,
    right: Sequence[Pair],
    end: bool,
    batch_size: int,
    values: dict[str, np.ndarray[Any, Any]],
) -> dict[str, Any]:
    """Every choice of every item scored; item values go to `values`, the rest is returned."""
    pairs = [_asked(codec, item, choice, end) for item in task.items for choice in item.choices]
    found = score(codec, pairs, batch_size=batch_size)
    counts = [len(item.choices) for item in task.items]
    nats = np.split(found.nats, np.cumsum(counts)[:-1])
    tokens = np.split(found.tokens, np.cumsum(counts)[:-1])
    gold = np.array([item.gold for item in task.items])
    said = np.array([int(np.argmin(row)) for row in nats])
    by_byte = [
        int(np.argmin(row / [max(len(c.encode()), 1) for c in item.choices]))
        for row, item in zip(nats, task.items, strict=True)
    ]
    values["accuracy"] = said == gold
    values["accuracy_by_byte"] = np.array(by_byte) == gold
    values["nats_per_token"] = np.array([n[g] / t[g] for n, t, g in zip(nats, tokens, gold, strict=True)])
    shares = [confidences(row) for row in nats]
    sure = np.array([row.max() for row in shares])
    extra: dict[str, Any] = {
        "ece": plain(ece(sure, values["accuracy"])),
        "reliability": [vars(b) for b in reliability(sure, values["accuracy"])],
        "confidence": float(sure.mean()),
    }  # fmt: skip
    if task.labels:
        extra["macro_f1"] = plain(f1(gold, said, len(task.labels)))
        by_class = f1_by_class(gold, said, len(task.labels))
        names = [label.strip() for label in task.labels]
        extra["f1"] = dict(zip(names, map(float, by_class), strict=True))
        extra["majority"] = float(np.bincount(gold, minlength=len(task.labels)).max() / len(gold))
    if len(set(counts)) == 1:
        extra["brier"] = brier(np.stack(shares), gold)
    return extra


def _asked(codec: Codec, item: Item, answer: str, end: bool) -> Pair:
    return codec.pair(item.prompt, answer, end=end, where=item.where, choices=item.choices)


def _written(
    codec: Codec, task: Task, right: Sequence[Pair], most: int | None, batch_size: int
) -> dict[str, np.ndarray[Any, Any]]:
    room = most or max(len(pair.answer) for pair in right) + 4
    said = write(
        codec, [pair.prompt.tolist() for pair in right], max_new_tokens=room, stop=task.stop, batch_size=batch_size
    )
    told = [(text.strip(), item.answer.strip()) for text, item in zip(said, task.items, strict=True)]
    return {
        "exact_match": np.array([text == answer for text, answer in told]),
        "edit_similarity": np.array([edit_similarity(text, answer) for text, answer in told]),
        "part_accuracy": np.array([_parts(text, answer) for text, answer in told]),
    }


def _parts(said: str, answer: str) -> float:
    """Share of the answer's words that stand in their place."""
    words, told = answer.split(), said.split()
    return sum(i < len(told) and told[i] == word for i, word in enumerate(words)) / max(len(words), 1)


def _group(name: str, items: Sequence[Item], values: dict[str, np.ndarray[Any, Any]]) -> dict[str, Any]:
    inside = np.array([item.group == name for item in items])
    row: dict[str, Any] = {"group": name, "items": int(inside.sum())}
    for what, per_item in values.items():
        chosen = per_item[inside]
        share = what in ("accuracy", "accuracy_by_byte", "exact_match")
        row[what] = plain(accuracy(chosen) if share else mean(chosen), chosen)
    return row
