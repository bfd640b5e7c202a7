"""Label efficiency (K9, C24): accuracy against the number of labels, pretrained weights against fresh ones.

Both arms have the same model, tokenizer, examples, steps and seeds; the weights at the start alone differ. Of n
labels a quarter is held out for early stopping where n is 16 or more; fewer are all trained on. The test set is the
same throughout and takes no part in any choice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from assay.errors import UserError
from assay.evaluation.evaluate import evaluate_task
from assay.evaluation.pairs import Codec
from assay.evaluation.tasks import Item, Task, Three
from assay.generation.model import Model
from assay.stats import Interval, mean_interval, paired_difference
from assay.training.tuning import Part, tune
from assay.training.tuning_spec import TuneSpec

__all__ = ["ARMS", "RULE", "label_curve", "labels_needed", "subset"]

ARMS = ("pretrained", "scratch")
RULE = (
    "Labels saved at n: the labels that fresh weights need for the mean accuracy that pretrained ones have with n, "
    "read off the line between measured points on a logarithmic axis, over n."
)
MEASURES = ("accuracy", "macro_f1", "ece")


def subset(task: Task, count: int, seed: int) -> list[Item]:
    """`count` items in the classes' proportions, at least one of each; a larger count contains a smaller one's.

    Raises:
        UserError: more labels than there are, or fewer than classes.
    """
    if count > len(task):
        raise UserError(
            f"labels = {count}: {task.name} has {len(task)} training examples.", f"Give at most {len(task)}."
        )
    if count < len(task.labels):
        raise UserError(f"labels = {count}: there are {len(task.labels)} classes.", "Give at least one of each.")
    rng = np.random.default_rng([seed, 11])
    by_class = {label: [i for i in task.items if i.answer == label] for label in task.labels}
    queues = {label: [items[k] for k in rng.permutation(len(items))] for label, items in by_class.items()}
    sizes = {label: len(items) for label, items in queues.items()}
    chosen: list[Item] = []
    taken = dict.fromkeys(queues, 0)
    while len(chosen) < count:  # the class that lags furthest behind its share comes next
        label = min((x for x in taken if taken[x] < sizes[x]), key=lambda x: (taken[x] / sizes[x], x))
        chosen.append(queues[label][taken[label]])
        taken[label] += 1
    return chosen


def label_curve(
    make: Callable[[str, int], Model],
    parts: Three,
    spec: TuneSpec,
    *,
    labels: Sequence[int],
    seeds: int,
    arms: Sequence[str] = ARMS,
    progress: Callable[[str], None] | None = None,
    stop: Callable[[], bool] | None = None,
    done: Sequence[dict[str, Any]] = (),
    keep: Callable[[dict[str, Any]], object] | None = None,
) -> dict[str, Any]:
    """Tune every arm on every number of labels, `seeds` times.

    Args:
        make: a new model of an arm and a seed, with its tokenizer.
        parts: the labelled set; `train` is drawn from, `test` is measured.
        spec: how each model is tuned.
        labels: numbers of labels.
        seeds: repeats, each with examples and fresh weights of its own.
        arms: of `ARMS`.
        progress: called with a line before each run.
        stop: asked after every step.
        done: rows of "runs" that are not to be done again.
        keep: called with everything so far after each run.

    Returns:
        "runs": a row a run; "points": mean and interval by arm and number; "differences": paired, pretrained minus
        scratch; "saved": see RULE; "complete".

    Raises:
        UserError: not a labelled set, or numbers of labels that it does not have.
    """
    if not parts.train.labels:
        raise UserError(f"{parts.train.name}: has no classes, so there is no accuracy by labels.", "Give labels.")
    asked = stop or (lambda: False)
    labels = sorted(set(labels))
    for count in labels:
        subset(parts.train, count, 0)
    wanted = {(arm, count, seed) for arm in arms for count in labels for seed in range(seeds)}
    runs = [row for row in done if (row["arm"], row["labels"], row["seed"]) in wanted]
    there = {(row["arm"], row["labels"], row["seed"]) for row in runs}
    for seed in range(seeds):
        for count in labels:
            chosen = subset(parts.train, count, seed)
            for arm in arms:
                if (arm, count, seed) in there:
                    continue
                if progress is not None:
                    progress(f"{arm}, {count} labels, seed {seed}")
                model = make(arm, seed)
                tuned = tune(model, [_part(parts.train, chosen)], spec, seed=seed, stop=asked)
                if asked():
                    return _summary(runs, labels, arms, complete=False)
                found = evaluate_task(Codec(model, length=spec.length), parts.test, end=True, written=False)
                measured = {name: found[name]["value"] for name in MEASURES}
                runs.append(
                    {
                        "arm": arm, "labels": count, "seed": seed, **measured, "steps": tuned.step,
                        "best_step": tuned.best_step, "stopped": tuned.stopped, "seconds": tuned.seconds,
                        "majority": found["majority"],
                    }
                )  # fmt: skip
                if keep is not None:
                    keep(_summary(runs, labels, arms, complete=False))
    return _summary(runs, labels, arms, complete=True)


def _part(task: Task, chosen: Sequence[Item]) -> Part:
    hold = len(chosen) // 4 if len(chosen) >= 16 else 0
    train, valid = chosen[: len(chosen) - hold], chosen[len(chosen) - hold :] or chosen
    return Part(
        Task(task.name, tuple(train), labels=task.labels), Task(task.name, tuple(valid), labels=task.labels)
    )  # fmt: skip


def _summary(
    runs: list[dict[str, Any]], labels: Sequence[int], arms: Sequence[str], *, complete: bool
) -> dict[str, Any]:
    points: list[dict[str, Any]] = []
    differences: list[dict[str, Any]] = []
    for arm in arms:
        for count in labels:
            rows = [r for r in runs if r["arm"] == arm and r["labels"] == count]
            if rows:
                measures = {name: _plain(mean_interval([r[name] for r in rows])) for name in MEASURES}
                points.append({"arm": arm, "labels": count, "n": len(rows), **measures})
    for count in labels:
        by = {arm: {r["seed"]: r["accuracy"] for r in runs if r["arm"] == arm and r["labels"] == count} for arm in ARMS}
        shared = sorted(set(by["pretrained"]) & set(by["scratch"]))
        if shared:
            found = paired_difference([by["pretrained"][s] for s in shared], [by["scratch"][s] for s in shared])
            differences.append({"labels": count, **_plain(found)})
    curve = {
        arm: [(p["labels"], p["accuracy"]["value"]) for p in points if p["arm"] == arm] for arm in ARMS
    }  # fmt: skip
    saved = []
    for count, reached in curve["pretrained"]:
        needed = labels_needed(curve["scratch"], reached)
        told = None if needed is None or math.isinf(needed) else needed / count
        saved.append(
            {"labels": count, "accuracy": reached, "scratch_needs": needed if needed != math.inf else None,
             "beyond": needed == math.inf, "ratio": told}
        )  # fmt: skip
    return {
        "runs": runs, "points": points, "differences": differences, "saved": saved, "rule": RULE, "complete": complete,
    }  # fmt: skip


def labels_needed(curve: Sequence[tuple[int, float]], accuracy: float) -> float | None:
    """Labels at which a curve first reaches an accuracy, log-linear between its points.

    None: its first point is above already (fewer would do); infinity: it does not get there.
    """
    if not curve:
        return None
    if curve[0][1] >= accuracy:
        return float(curve[0][0]) if curve[0][1] == accuracy else None
    for (n, a), (m, b) in pairwise(curve):
        if b >= accuracy:
            share = (accuracy - a) / (b - a)
            return math.exp(math.log(n) + share * (math.log(m) - math.log(n)))
    return math.inf


def _plain(found: Interval) -> dict[str, Any]:
    low, high = (None if not math.isfinite(x) else x for x in (found.low, found.high))
    return {"value": found.estimate, "low": low, "high": high, "n": found.n, "method": found.method}
