"""The runs that the claims on families share: three families and two controls at equal training FLOPs.

Each experiment is one combination, so that a claim takes those that it reads and no more:

    causal       the standard causal decoder, causal LM: the very runs that other claims use
    prefix       the same model with prefix attention, prefix LM
    masked       prefix LM under the causal mask: between the two, with one difference to each
    parameters   encoder-decoder with as many parameters, prefix LM
    inference    encoder-decoder whose answers cost as many FLOPs (about twice the parameters), prefix LM

The encoder-decoders are found by `spec.partner`. All are judged by continuation bits per byte, each under its own mask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from assay.claims.base import Experiment, Question, Table, Tier, Words
from assay.claims.lab import NEVER, Cell, Lab, Results
from assay.claims.standard import RATES, study
from assay.data.specials import vocabulary
from assay.spec.model import ModelSpec
from assay.spec.partner import Partner, partner
from assay.spec.study import StudySpec
from assay.stats import Interval, Threshold, mean_interval

__all__ = [
    "NAMES",
    "budget",
    "cells",
    "equal_partner",
    "experiments",
    "losses",
    "reading",
    "reading_question",
    "remarks",
    "standard_model",
]

CURVE = 5
"""Evaluations along a run of the causal and the prefix decoder, whose curves are compared."""

NAMES = {
    "causal": "causal decoder, causal LM",
    "prefix": "prefix decoder, prefix LM",
    "masked": "causal decoder, prefix LM",
    "parameters": "encoder-decoder, equal parameters",
    "inference": "encoder-decoder, equal inference FLOPs",
}
"""Experiment to what charts call it."""


def standard_model(tier: Tier) -> ModelSpec:
    """The standard causal decoder with the vocabulary that its tokenizer gives it."""
    spec = study(tier)
    return spec.model.with_(vocab_size=vocabulary(spec.data.tokenizer.vocab_size, spec.data.tokenizer.sentinels).size)


def budget(tier: Tier) -> float:
    """Training FLOPs of the standard run, its rows taken as full."""
    train = study(tier).train
    assert train.steps is not None
    return float(standard_model(tier).flops(train.length, training=True)) * train.batch_size * train.steps


@cache
def equal_partner(tier: Tier, match: str) -> Partner:
    """The encoder-decoder that equals the standard decoder in "parameters", or in "inference" FLOPs.

    A request has a row's length on either side.
    """
    length = study(tier).train.length
    return partner(standard_model(tier), "encoder_decoder", match=match, prompt=length, new=length)


def experiments(tier: Tier, *names: str) -> Mapping[str, Experiment]:
    """The named experiments, each at its best rate of the tier's sweep."""
    return {name: Experiment(_study(tier, name), RATES[tier]) for name in names}


def _study(tier: Tier, name: str) -> StudySpec:
    train, curve = {"budget": budget(tier)}, {"evaluations": CURVE}
    if name == "causal":
        return study(tier, train=curve)
    if name == "prefix":
        return study(tier, model={"family": "prefix"}, train=train | curve)
    if name == "masked":
        return study(tier, objective="prefix_lm", train=train)
    return study(tier, train=train).with_(model=equal_partner(tier, name).spec.to_dict())


def cells(lab: Lab, *names: str) -> dict[str, Cell]:
    """The finished runs of the named experiments: one combination each, labelled as charts call it."""
    return {name: replace(lab.results(name).cell(), labels={"model": NAMES[name]}) for name in names}


def remarks(found: Mapping[str, Cell]) -> list[Words]:
    """Rates at the sweep's edge and runs that diverged, by the models' names."""
    return Results(list(found.values())).remarks()


def reading(cell: Cell, count: int) -> Interval:
    """Bits per byte that a model loses when its prompt is another window's: what it takes from the prompt at all.

    Mean over the seeds that came to their end, with its 95% t interval; `count` held-out windows.
    """
    from assay.evaluation.continuation import continuation

    lost = []
    for run in (run for run in cell.runs if run.done):
        net, text = run.model().transformer, run.text()
        own = text.windows(count)
        others = [replace(a, prefix_ids=b.prefix_ids) for a, b in zip(own, own[1:] + own[:1], strict=True)]
        given, swapped = (continuation(net, part, text.tokenizer.vocabulary) for part in (own, others))
        lost.append(swapped.bits_per_byte - given.bits_per_byte)
    return mean_interval(lost) if lost else NEVER


def reading_question(name: str) -> Question:
    """What stands beside a verdict on an encoder-decoder: whether it reads its input yet."""
    return Question(
        Words(
            f"what is lost when the prompt is another text's, {NAMES[name]}: about 0: it does not read its input",
            f"把提示换成另一段文本后的损失增加（{NAMES[name]}）：接近 0 表示模型尚未学会读取输入",
        ),
        Threshold(0.005, "above"),
        "bits per byte",
        decides=False,
    )


def losses(found: Mapping[str, Cell], names: Sequence[str] | None = None) -> tuple[list[dict[str, Any]], Table]:
    """Points of final held-out loss with 95% intervals, and the table behind them."""
    rows: list[dict[str, Any]] = []
    table: list[list[str | float | int | None]] = []
    for name in names or list(found):
        cell = found[name]
        done = [run.result for run in cell.runs if run.done]
        if not done:
            table.append([NAMES[name], cell.rate, *(None,) * 7])
            continue
        mean = cell.mean
        rows.append({"series": NAMES[name], "x": NAMES[name], "y": mean.estimate, "low": mean.low, "high": mean.high})
        table.append(
            [
                NAMES[name], cell.rate, mean.estimate, mean.low, mean.high, done[0]["parameters_total"],
                *(float(np.mean([run[key] for run in done])) for key in ("flops", "steps", "supervised_tokens")),
            ]
        )  # fmt: skip
    heads = ["model", "rate", "bits per byte", "low", "high", "parameters", "FLOPs", "steps", "tokens with a loss"]
    return rows, Table(
        Words("Each at its own best rate, equal training FLOPs", "各自取最佳学习率，训练 FLOPs 相等"), heads, table
    )
