"""What `assay emergence` is made of, taken from a model on a task: each answer's log-probability beside what it wrote.

Exact match, edit distance and log-probability are of the same answers, so that what differs between their curves is the
metric alone. An answer ends with the task's stop text, which counts as a part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assay.evaluation.pairs import Codec, score
from assay.evaluation.tasks import Task
from assay.evaluation.writing import write
from assay.stats.composition import WHOLE
from assay.stats.results import ModelResults, Results

__all__ = ["Outcomes", "edit_distance", "outcomes", "together"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Outcomes:
    """One model on one task, item by item."""

    nats: Array
    """[items] -ln p(answer | prompt), the stop text included."""
    tokens: Array
    """[items] tokens of it."""
    exact: Array
    """[items] 1 where greedy writing gives the answer, else 0."""
    edits: Array
    """[items] tokens to insert, remove or change (Levenshtein) from what was written to the answer."""
    parts: Array
    """[items, parts] 1 where the written word in that place is right; one column where answers differ in length."""


def outcomes(codec: Codec, task: Task, *, batch_size: int = 64) -> Outcomes:
    """Score and let write."""
    stop = task.stop[0]
    pairs = [codec.pair(item.prompt, item.answer + stop) for item in task.items]
    found = score(codec, pairs, batch_size=batch_size)
    room = max(len(pair.answer) for pair in pairs) + 2
    said = write(
        codec, [pair.prompt.tolist() for pair in pairs], max_new_tokens=room, stop=task.stop, batch_size=batch_size
    )
    edits, exact, parts = [], [], []
    for text, item, pair in zip(said, task.items, pairs, strict=True):
        exact.append(float(text.strip() == item.answer.strip()))
        edits.append(float(edit_distance(codec.encode(text + stop), pair.answer.tolist())))
        words, told = item.answer.split(), text.split()
        parts.append([float(i < len(told) and told[i] == word) for i, word in enumerate(words)])
    if len({len(row) for row in parts}) > 1:
        parts = [[float(np.mean(row))] for row in parts]
    return Outcomes(found.nats, found.tokens.astype(np.float64), np.array(exact), np.array(edits), np.array(parts))


def edit_distance(said: Sequence[int], answer: Sequence[int]) -> int:
    """Levenshtein's distance of two sequences of tokens."""
    row = list(range(len(answer) + 1))
    for i, one in enumerate(said, start=1):
        before, row = row, [i]
        for j, other in enumerate(answer, start=1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (one != other)))
    return row[-1]


def together(name: str, by_model: Sequence[tuple[str, float, Outcomes]]) -> Results:
    """Outcomes of several models as the table that `stats.emergence.analyse` reads.

    Args:
        name: where they are from, for messages.
        by_model: name, scale and outcomes of each, in any order.
    """
    ordered = sorted(by_model, key=lambda entry: entry[1])
    models = tuple(
        ModelResults(
            model, scale, np.ones(len(found.nats)), found.nats / found.tokens, None, found.tokens, found.exact,
            found.edits, None,
        )
        for model, scale, found in ordered
    )  # fmt: skip
    subtasks = {
        model: {f"part {i + 1}": found.parts[:, i] for i in range(found.parts.shape[1])} | {WHOLE: found.exact}
        for model, _, found in ordered
    }
    return Results(name, models, subtasks, "token_logprob", False)
