"""The runs that the claims on norm placement share: deep narrow models, every placement at the same rates.

    deep(tier, "post")                    a causal decoder of the tier's larger depth
    deep(tier, "post", shallow=True)      of its smaller depth: equal training FLOPs, so more steps
    two_stacks(tier, "post")              an encoder-decoder, where Post-LN's gradients grow

All have LayerNorm, ReLU and Xavier first weights, as the papers do (`init.kind = deepnet` is Xavier where a placement
has no beta), and read bytes: of those a narrow model learns more than their frequencies in seconds. The rate is an axis
with all seeds, not a sweep: which rates train is the question. A run *trains* where it comes to its end and the mean
training loss of its last tenth lies at least 0.05 nats under the entropy of single tokens in its text, which a model
without any context reaches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.claims.base import Experiment, Table, Tier, Words
from assay.claims.lab import NEVER, Cell, Lab, Trained
from assay.claims.standard import FEW, study
from assay.data.specials import vocabulary
from assay.spec.study import StudySpec
from assay.stats import Interval, mean_interval

__all__ = [
    "DEPTHS",
    "NAMES",
    "RULE",
    "SWEPT",
    "Grid",
    "deep",
    "edges",
    "grid",
    "mean_of",
    "rate_table",
    "rates_apart",
    "steps_ratio",
    "two_stacks",
]

DEPTHS = {Tier.smoke: (2, 3), Tier.quick: (6, 12), Tier.full: (24, 96)}
"""Layers: shallow and deep."""
_TWO = {Tier.smoke: 4, Tier.quick: 8, Tier.full: 24}
"""Layers of the encoder-decoder, half on each side."""
SWEPT = {
    Tier.smoke: (2e-3, 8e-3),
    Tier.quick: (1e-3, 4e-3, 1.6e-2),
    Tier.full: (2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2),
}
"""Peak learning rates, in even factors."""
_STEPS = {Tier.smoke: 6, Tier.quick: 150, Tier.full: 3000}
"""Of the deep model; a shallow one takes as many FLOPs."""
_WIDTH = {Tier.smoke: (16, 2), Tier.quick: (32, 2), Tier.full: (128, 4)}
_ROWS = {Tier.smoke: (4, 32), Tier.quick: (6, 64), Tier.full: (32, 128)}

NAMES = {"post": "Post-LN", "pre": "Pre-LN", "sandwich": "Sandwich-LN", "deepnet": "DeepNorm"}
"""Placement to what charts call it."""

UNDER = 0.05
"""Nats that a loss must lie under the entropy of single tokens: runs that learn nothing else end right at it."""

RULE = Words(
    "A run trains where it comes to its end with the mean training loss of its last tenth at least 0.05 nats under the "
    "entropy of single tokens in its text. Largest rates are compared by seed, to the grid's step; a seed at which "
    "neither side trains, or both do at the highest rate, cannot tell and is left out.",
    "“能训练”指运行完成，且最后十分之一步的平均训练损失比其文本的单词元熵低至少 0.05 纳特。"
    "最大学习率按种子比较，精度为网格步长；两者都不能训练、或在最高学习率下都能训练的种子无法区分，不计入。",
)


def _fields(tier: Tier, layers: int, family: str) -> dict[str, Any]:
    width, heads = _WIDTH[tier]
    shape = (
        {"layers": layers} if family == "causal" else {"layers": layers // 2, "encoder.layers": layers - layers // 2}
    )
    return {
        **shape, "family": family, "width": width, "attention.heads": heads, "norm": "layernorm",
        "init.kind": "deepnet", "feedforward.activation": "relu", "feedforward.gated": False,
    }  # fmt: skip


def _train(tier: Tier) -> dict[str, Any]:
    batch, length = _ROWS[tier]
    return {"batch_size": batch, "length": length, "evaluations": 1}


def _study(tier: Tier, **changes: Any) -> StudySpec:
    return study(tier, seeds=FEW[tier], **changes).with_(**{"data.tokenizer": {"kind": "bytes"}})


@cache
def _budget(tier: Tier) -> float:
    """Training FLOPs of the deep model's steps, rows taken as full."""
    spec = _study(tier, model=_fields(tier, DEPTHS[tier][1], "causal"))
    data = spec.data.tokenizer
    model = spec.model.with_(vocab_size=vocabulary(data.vocab_size, data.sentinels).size)
    batch, length = _ROWS[tier]
    return float(model.flops(length, training=True)) * batch * _STEPS[tier]


def deep(tier: Tier, placement: str, *, shallow: bool = False) -> Experiment:
    """A causal decoder at every rate, three seeds or more, equal training FLOPs at both depths."""
    model = _fields(tier, DEPTHS[tier][0 if shallow else 1], "causal") | {"placement": placement}
    train = {"budget": _budget(tier), **_train(tier)}
    return Experiment(_study(tier, model=model, train=train, vary={"train.optimizer.learning_rate": SWEPT[tier]}))


def two_stacks(tier: Tier, placement: str, *, equal_layers: bool = False) -> Experiment:
    """An encoder-decoder on prefix LM at every rate.

    Args:
        tier: how large.
        placement: of its norms.
        equal_layers: every layer's gradient is scaled to the same norm before clipping.
    """
    model = _fields(tier, _TWO[tier], "encoder_decoder") | {"placement": placement}
    train = {"steps": _STEPS[tier], **_train(tier)}
    if equal_layers:
        train["optimizer.equal_layers"] = True
    return Experiment(_study(tier, model=model, train=train, vary={"train.optimizer.learning_rate": SWEPT[tier]}))


@dataclass(frozen=True)
class Grid:
    """The runs of one model at every rate."""

    rates: tuple[float, ...]
    """Ascending."""
    cells: tuple[Cell, ...]
    """One a rate."""
    ends: NDArray[np.float64]
    """[rates, seeds] mean training loss of the last tenth, nats; infinite where the run diverged."""
    entropy: float
    """Of single tokens in the training text, nats."""

    @property
    def trains(self) -> NDArray[np.bool_]:
        """[rates, seeds] whether the run trains."""
        return np.asarray(self.ends < self.entropy - UNDER)

    @property
    def largest(self) -> NDArray[np.float64]:
        """[seeds] log2 of the largest rate that trains; where none does, one step of the grid under its lowest."""
        logs = np.log2(self.rates)
        none = 2 * logs[0] - logs[1]
        return np.where(self.trains, logs[:, None], none).max(axis=0)

    @property
    def best(self) -> Cell:
        """At the rate of seed 0's lowest held-out loss; the lowest rate where all diverged."""
        return min(self.cells, key=lambda cell: (cell.runs[0].bits_per_byte, cell.rate))

    @property
    def remarks(self) -> list[Words]:
        """Where the best rate is an end of the grid."""
        if self.best.rate not in (self.rates[0], self.rates[-1]):
            return []
        name = NAMES.get(self.best.runs[0].run.model.placement.kind.value, "")
        layers = self.best.runs[0].run.model.layers
        return [
            Words(
                f"{name}, {layers} layers: the best rate, {self.best.rate:g}, is at the edge of the grid.",
                f"{name}，{layers} 层：最佳学习率 {self.best.rate:g} 位于网格边缘。",
            )
        ]


def grid(lab: Lab, name: str) -> Grid:
    """The finished runs of an experiment made here."""
    cells = sorted(lab.results(name).cells, key=lambda cell: cell.rate)
    ends = np.array([[end_of(run) for run in cell.runs] for cell in cells])
    tokens = np.bincount(np.asarray(cells[0].runs[0].text().train.tokens)).astype(np.float64)
    shares = tokens[tokens > 0] / tokens.sum()
    return Grid(tuple(cell.rate for cell in cells), tuple(cells), ends, float(-(shares * np.log(shares)).sum()))


def end_of(run: Trained) -> float:
    """Mean training loss of the last tenth of the steps, nats; infinite where the run diverged."""
    losses = [row["loss"] for row in run.rows()]
    return float(np.mean(losses[-max(len(losses) // 10, 1) :])) if run.done and losses else math.inf


def mean_of(values: Sequence[float] | NDArray[np.float64]) -> Interval:
    """Mean with its Student t interval over the finite values; decides nothing where there is none."""
    finite = [float(v) for v in values if math.isfinite(v)]
    return mean_interval(finite) if finite else NEVER


def rates_apart(a: Grid, b: Grid) -> Interval:
    """log2 of the largest rate that trains with `a` over that with `b`, paired by seed; as fine as the grid's steps.

    Seeds that cannot tell are left out: those where neither trains at any rate, and those where both train at the
    highest. Where one trains at no rate, its largest counts as one step under the grid.
    """
    neither = ~(a.trains.any(axis=0) | b.trains.any(axis=0))
    beyond = a.trains[-1] & b.trains[-1]
    return mean_of((a.largest - b.largest)[~(neither | beyond)])


def edges(cells: Mapping[str, Cell]) -> list[Words]:
    """What a reader must know of swept combinations, by name: rates at the sweep's edge, runs that diverged."""
    said = []
    for name, cell in cells.items():
        if cell.at_edge:
            said.append(
                Words(
                    f"{name}: the best rate of the sweep, {cell.rate:g}, is at its edge.",
                    f"{name}：扫描得到的最佳学习率 {cell.rate:g} 位于边缘。",
                )
            )
        if lost := sum(not run.done for run in cell.runs):
            said.append(
                Words(
                    f"{name}: {lost} of {len(cell.runs)} runs diverged.",
                    f"{name}：{len(cell.runs)} 次训练中有 {lost} 次发散。",
                )
            )
    return said


def steps_ratio(slow: Sequence[Trained], fast: Sequence[Trained]) -> Interval:
    """log2 of the steps that `slow` takes to a training loss over those of `fast`, paired by seed.

    The loss is the worse of both ends (mean of the last tenth), curves are means over as many steps: so both reach it.
    Pairs where one diverged are left out.
    """
    found = []
    for a, b in zip(slow, fast, strict=True):
        if a.done and b.done:
            curves = [[row["loss"] for row in run.rows()] for run in (a, b)]
            found.append(math.log2(_reached(curves[0], curves[1]) / _reached(curves[1], curves[0])))
    return mean_of(found)


def _reached(losses: Sequence[float], other: Sequence[float]) -> int:
    """Steps until the running mean of `losses` is at or under the higher of both curves' ends."""
    window = max(min(len(losses), len(other)) // 10, 1)
    means = np.convolve(losses, np.ones(window) / window, mode="valid")
    target = max(means[-1], float(np.mean(other[-window:])))
    return int(np.argmax(means <= target + 1e-12)) + window


def rate_table(grids: dict[str, Grid]) -> tuple[list[dict[str, Any]], Table]:
    """Points of end loss over rates, one line a model, and the table with how many seeds train."""
    rows: list[dict[str, Any]] = []
    table: list[list[str | float | int | None]] = []
    for name, found in grids.items():
        for rate, ends, trains in zip(found.rates, found.ends, found.trains, strict=True):
            at = mean_of(ends)
            if at is not NEVER:
                rows.append({"series": name, "x": rate, "y": at.estimate, "low": max(at.low, 0.0), "high": at.high})
            mean = None if at is NEVER else at.estimate
            table.append([name, rate, mean, int(np.isinf(ends).sum()), f"{int(trains.sum())} of {len(trains)}"])
    first = next(iter(grids.values()))
    rows += [{"series": "entropy of single tokens", "x": r, "y": first.entropy} for r in first.rates]
    heads = ["model", "rate", "loss at the end (nats)", "diverged", "train"]
    return rows, Table(Words("Every rate, all seeds", "所有学习率与种子"), heads, table)
