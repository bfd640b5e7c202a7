"""C39: choosing a rate: start high, lower it on divergence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.claims.base import Claim, Experiment, Formula, Measured, Picture, Question, Table, Tier, Words
from assay.claims.lab import Lab, Trained
from assay.claims.sweep import cells_by_rate, swept_rates
from assay.stats import Superiority, Threshold, mean_interval

MARGIN = 0.05
SHARE = 0.5
TILT = 0.3
"""Of the double well."""


def runs(tier: Tier) -> Mapping[str, Experiment]:
    """Every rate with every seed: the full sweep, from which the recipe's trials are read."""
    return {"rates": swept_rates(tier)}


@dataclass(frozen=True)
class Choice:
    """What a way of choosing came to, for one seed."""

    rate: float
    cost: float
    """In full runs, the final one included."""


def diverged_at(losses: Sequence[float], rate: float) -> int | None:
    """The step from which on a run at one rate counts as diverged, by the range test's own rule; None: it never did."""
    from assay.training.range_test import read

    return read(0, [rate] * len(losses), losses).diverged_at


def recipe(trials: Mapping[float, Sequence[float]], steps: int) -> Choice:
    """From the highest rate down: a trial is given up where it diverges, the first that does not is kept.

    Args:
        trials: rate to training losses of its steps, as far as the run came.
        steps: of a full run.

    Returns:
        The lowest rate where every one diverged.
    """
    spent = 0.0
    for rate in sorted(trials, reverse=True):
        at = diverged_at(trials[rate], rate)
        if at is None and len(trials[rate]) >= steps:
            return Choice(rate, spent + 1)
        spent += (len(trials[rate]) if at is None else at + 1) / steps
    return Choice(min(trials), spent + 1)


def nearest(rate: float, grid: Sequence[float]) -> float:
    """The grid's rate that is nearest in ratio."""
    return min(grid, key=lambda known: abs(math.log(known / rate)))


def _losses(run: Trained) -> list[float]:
    return [float(row["loss"]) for row in run.rows("train")]


def measure(lab: Lab) -> Measured:
    """The three ways of choosing, seed by seed, on the same runs."""
    from assay.probes.double_well import ends
    from assay.training.range_test import range_test, suggest

    cells = cells_by_rate(lab.results("rates"))
    grid, seeds = list(cells), range(len(next(iter(cells.values())).runs))
    first = next(iter(cells.values())).runs[0]
    steps = int(first.run.train.steps or 0)
    tested = lab.by_tier(smoke=10, quick=100, full=400)
    text = first.text()
    bits = {rate: cell.bits for rate, cell in cells.items()}
    worst = max(float(value) for values in bits.values() for value in values if math.isfinite(value))
    swept = min(grid, key=lambda rate: float(np.where(np.isfinite(bits[rate]), bits[rate], worst).mean()))
    chosen: dict[str, list[Choice]] = {"full sweep": [], "start high": [], "range test": []}
    curves = []
    for seed in seeds:
        trials = {rate: _losses(cell.runs[seed]) for rate, cell in cells.items()}
        chosen["full sweep"].append(Choice(swept, float(len(grid))))
        chosen["start high"].append(recipe(trials, steps))
        run = first.run.model_copy(update={"seed": seed})
        reading = range_test(run, text, lowest=min(grid) / 3, highest=3.0, steps=tested)
        found = suggest([reading]) if reading.learned else None
        rate = nearest(found.suggestion, grid) if found else min(grid)
        chosen["range test"].append(Choice(rate, len(reading.losses) / steps + 1))
        curves += [
            {"series": f"seed {seed}", "x": x, "y": y} for x, y in zip(reading.rates, reading.smoothed, strict=False)
        ]

    def reached(name: str) -> np.ndarray:
        found = [bits[choice.rate][seed] for seed, choice in enumerate(chosen[name])]
        return np.array([value if math.isfinite(value) else worst for value in found])

    points: list[dict[str, Any]] = []
    table: list[list[str | float | int | None]] = []
    for name, choices in chosen.items():
        loss, cost = mean_interval(reached(name)), mean_interval([choice.cost for choice in choices])
        points.append({"series": name, "x": cost.estimate, "y": loss.estimate, "low": loss.low, "high": loss.high})
        rates = ", ".join(f"{choice.rate:g}" for choice in choices)
        table.append([name, rates, cost.estimate, loss.estimate, loss.low, loss.high])
    best = reached("full sweep")
    starts = np.linspace(0.6, 1.4, 41)
    wells = []
    for rate in np.geomspace(1e-3, 0.6, 40):
        for where, share in ends(list(starts), float(rate), 1000, TILT).items():
            wells.append({"series": where, "x": float(rate), "y": share})
    return Measured(
        answers={
            "loss": mean_interval(reached("start high") - best),
            "cost": mean_interval([choice.cost / len(grid) for choice in chosen["start high"]]),
            "range_loss": mean_interval(reached("range test") - best),
            "range_cost": mean_interval([choice.cost / len(grid) for choice in chosen["range test"]]),
        },
        pictures=[
            Picture(
                Words("What each way of choosing costs, and the loss that it ends at", "每种选法的代价与最终损失"),
                points, x="cost (full runs, the final one included)", y="bits per byte", kind="points",
            ),
            Picture(
                Words(
                    "Two wells: where gradient descent ends from 41 starts in the shallow one",
                    "双势阱：从浅阱中 41 个起点出发，梯度下降最终落在何处",
                ),
                wells, x="learning rate", y="share of starts", log_x=True,
            ),
            Picture(
                Words("The range test: smoothed training loss while the rate rises", "范围测试：学习率上升时的平滑训练损失"),
                curves, x="learning rate", y="nats per token", log_x=True,
            ),
        ],
        tables=[
            Table(
                Words("Ways of choosing", "各种选法"),
                ["way", "rate by seed", "cost (full runs)", "bits per byte", "low", "high"], table,
            )
        ],
        remarks=[
            Words(
                "In the double well a rate that is too small stays in the shallow well from every start; only a band just "
                "under divergence ever leaves it for the deeper one, and not surely: start-high finds that band, no more.",
                "在双势阱中，过小的学习率从任何起点都留在浅阱；只有略低于发散的一段学习率有时能进入深阱，且并不必然。",
            )
        ],
    )  # fmt: skip


CLAIM = Claim(
    key="C39",
    title=Words("Choosing a rate: start high, lower it on divergence", "选学习率：先大，发散再降"),
    says=Words(
        "To find a learning rate, begin with a large one and lower it when training diverges: the first that trains is a good "
        "one; a rate that is too small gets stuck in a poor minimum.",
        "选学习率时先用较大的值，若训练发散就调小；第一个能训练的就是好的。过小的学习率会陷入局部最优。",
    ),
    literature=Words(
        "Bengio 2012, section 3.1.1: the optimal rate is usually close to the largest that does not make the training "
        "criterion diverge; so start with a large one and, if it diverges, try again with one three times smaller. Smith 2017, "
        "section 3.3: a range test, one short run while the rate rises.",
        "Bengio 2012，3.1.1 节：最优学习率通常接近不使训练目标发散的最大值；因此可先取较大值，若发散则缩小三倍再试。Smith 2017，3.3 节：范围测试，"
        "即在一次短训练中逐步升高学习率。",
    ),
    sources=[
        "Bengio 2012, Practical Recommendations for Gradient-Based Training of Deep Architectures, section 3.1.1",
        "Smith 2017, Cyclical Learning Rates for Training Neural Networks, section 3.3",
    ],
    formulas=[
        Formula(
            r"f(x) = (x^2 - 1)^2 + \tau x, \qquad x_{t+1} = x_t - \eta f'(x_t): \quad "
            r"\text{no rest at the shallow minimum } x^* \text{ if } \eta > \frac{2}{f''(x^*)}",
            Words("the double well; tau: its tilt; eta: the rate", "双势阱；τ：倾斜；η：学习率"),
            "quadratic threshold at the minimum",
        )
    ],
    experiment=Words(
        "On the runs of a full sweep over three decades of rates, three seeds: the recipe goes from the highest rate down, "
        "gives a trial up where its training loss has diverged by the range test's rule, and keeps the first that has not. Its "
        "cost in full runs and its loss stand against the full sweep's (best mean rate) and the range test's (one short rising "
        "run; the nearest rate of the grid is taken). Beside: gradient descent in a tilted double well.",
        "在跨三个数量级的完整扫描（三个种子）的训练上：该做法从最高学习率往下，按范围测试的规则在训练损失发散处放弃，保留第一个不发散的。"
        "以完整训练次数计代价、以最终损失计效果，与完整扫描（平均最佳）及范围测试（一次短的升速训练，取网格中最近者）比较。旁列：倾斜双势阱中的梯度下降。",
    ),
    rule=Words(
        f"Supported if the recipe's loss is above the full sweep's by less than {MARGIN} bits per byte and its cost is under "
        f"{SHARE:.0%} of the sweep's (95% intervals over seeds); refuted if both fail; depends if one does. The range test "
        "stands beside.",
        f"若该做法的损失比完整扫描高出不到 {MARGIN} 比特每字节，且代价低于其 {SHARE:.0%}（对种子取 95% 区间），则支持；两者皆否则否定；其一不然则视情况而定。范围测试列在一旁。",
    ),
    questions={
        "loss": Question(
            Words("held-out loss of start-high minus the full sweep's best", "留出损失：先大后降减完整扫描的最佳"),
            Superiority(-MARGIN, "lower"), "bits per byte",
        ),
        "cost": Question(
            Words("cost of start-high over the full sweep's", "先大后降的代价与完整扫描之比"), Threshold(SHARE, "below"), "of it",
        ),
        "range_loss": Question(
            Words("held-out loss of the range test's rate minus the full sweep's best", "留出损失：范围测试所选减完整扫描的最佳"),
            Superiority(-MARGIN, "lower"), "bits per byte", decides=False,
        ),
        "range_cost": Question(
            Words("cost of the range test and its run over the full sweep's", "范围测试加最终训练的代价与完整扫描之比"),
            Threshold(SHARE, "below"), "of it", decides=False,
        ),
    },
    runs=runs,
    measure=measure,
    changes=Words(
        "The grid's step (here a factor of about three) and where it begins; an optimizer that does not diverge but only "
        "learns badly at high rates, as Adam with clipping does, gives the recipe nothing to see.",
        "网格间距（此处约三倍）及其起点；若优化器在高学习率下不发散而只是学得差（如带裁剪的 Adam），该做法便看不到信号。",
    ),
    seconds=20.0,
)  # fmt: skip
