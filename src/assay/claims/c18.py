"""C18: BLOOM's norm after the embedding: stable, at a cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from assay.claims.base import Claim, Experiment, Formula, Measured, Picture, Question, Table, Tier, Words
from assay.claims.lab import Lab, Trained
from assay.claims.placements import edges, mean_of
from assay.claims.standard import RATES, study
from assay.stats import Threshold

MARGIN = 0.02
SIDES = {"without": "without", "with": "with embedding norm"}


def runs(tier: Tier) -> Mapping[str, Experiment]:
    """The standard decoder with and without the norm: at its best rate; and at a high rate, for spikes."""
    without: dict[str, Any] = {"norm": "layernorm"}
    sides: dict[str, dict[str, Any]] = {"without": without, "with": {**without, "placement.embedding_norm": True}}
    high = (3 * RATES[tier][-1],)
    best = {name: Experiment(study(tier, model=model), RATES[tier]) for name, model in sides.items()}
    hard = {
        f"{name}-high": Experiment(study(tier, model=model, vary={"train.optimizer.learning_rate": high}))
        for name, model in sides.items()
    }
    return best | hard


def measure(lab: Lab) -> Measured:
    """Spikes at a high rate, and the final loss."""
    counts: dict[str, Any] = {}
    curves: list[dict[str, Any]] = []
    table: list[list[str | float | int | None]] = []
    for side, label in SIDES.items():
        cells = lab.results(f"{side}-high").cells
        each = [[spike_count(run) for run in cell.runs] for cell in cells]
        counts[side] = np.sum(each, axis=0)
        for cell, found in zip(cells, each, strict=True):
            table.append([label, cell.rate, *(int(n) for n in found)])
        last = cells[-1]
        curves += [
            {"series": f"{label}, rate {last.rate:g}", "x": row["step"], "y": row["loss"]}
            for row in last.runs[0].rows()
        ]
    ends = {label: lab.results(side).cell() for side, label in SIDES.items()}
    return Measured(
        answers={
            "stable": mean_of(counts["without"] - counts["with"]),
            "cost": ends[SIDES["with"]].minus(ends[SIDES["without"]]),
        },
        pictures=[
            Picture(Words("Training loss at the high rate, seed 0", "高学习率下的训练损失，种子 0"),
                    curves, x="step", y="nats per token"),
            Picture(Words("Held-out loss at each one's best rate, 95% interval", "各取最佳学习率的留出损失，95% 区间"),
                    [{"series": name, "x": name, "y": c.mean.estimate, "low": c.mean.low, "high": c.mean.high}
                     for name, c in ends.items() if np.isfinite(c.bits).any()],
                    x="embedding norm", y="bits per byte", kind="points"),
        ],
        tables=[Table(Words("Spikes by seed (a divergence counts as one more)", "各种子的尖峰数（发散另计一次）"),
                      ["model", "rate", *(f"seed {seed}" for seed in range(len(counts["with"])))], table)],
        remarks=edges(ends),
    )  # fmt: skip


def spike_count(run: Trained) -> int:
    """Spikes of a run's training loss by the probe's rule; a divergence is one more."""
    return count([row["loss"] for row in run.rows()], diverged=not run.done)


def count(losses: Sequence[float], *, diverged: bool) -> int:
    """Spikes of a loss curve; a divergence is one more."""
    from assay.probes import spikes

    return len(spikes(losses)) + int(diverged)


CLAIM = Claim(
    key="C18",
    title=Words("A norm after the embedding: stable, at a cost", "嵌入层后的归一化：稳定，但有代价"),
    says=Words(
        "BLOOM's LayerNorm after the embedding makes training more stable, but costs quality.",
        "BLOOM 在嵌入层后加 LayerNorm，使训练更稳定，但会损失效果。",
    ),
    literature=Words(
        "Le Scao et al. 2022 (What Language Model to Train if You Have One Million GPU Hours?, section 3) find a significant "
        "loss of zero-shot generalisation from the embedding norm at 1.3B parameters; BLOOM (176B) uses it for stability, after "
        "trials at 104B in float16.",
        "Le Scao 等 2022（What Language Model to Train if You Have One Million GPU Hours? 第 3 节）在 13 亿参数上发现嵌入归一化显著降低零样本泛化；BLOOM（176B）"
        "在 104B 的 float16 试验之后为稳定而采用它。",
    ),
    sources=[
        "Le Scao et al. 2022, What Language Model to Train if You Have One Million GPU Hours?, section 3",
        "BigScience 2022, BLOOM, section 3.2",
    ],
    formulas=[
        Formula(
            r"x_0=\mathrm{LN}(E_{t})",
            Words("E: embedding of token t; all blocks are Pre-LN", "E：词元 t 的嵌入；各块为 Pre-LN"),
            "BigScience 2022",
        )
    ],
    experiment=Words(
        "The standard decoder (LayerNorm, Pre-LN) with and without a norm after the embedding. Spikes of the training loss at "
        "three times the sweep's highest rate, by seed: a loss above the median of the last 20 by 6 x 1.4826 x "
        "their median absolute deviation and at least 0.1 nats (a divergence counts as one more). Final held-out loss at each "
        "one's own best rate. Paired by seed, Student t.",
        "标准解码器（LayerNorm、Pre-LN），有或无嵌入后归一化。在扫描最高学习率的三倍下按种子统计训练损失的尖峰：损失超过最近 20 步中位数 6 x 1.4826 x "
        "绝对中位差且至少 0.1 纳特（发散另计一次）。最终留出损失各取最佳学习率。按种子配对，t 区间。",
    ),
    rule=Words(
        "Stable: fewer spikes with the norm, the 95% interval of the difference above 0. At a cost: its loss lies at least "
        f"{MARGIN} bits per byte above, by the whole interval. Refuted on the other side; where neither side spikes, undecided.",
        f"稳定：有归一化时尖峰更少，差值的 95% 区间大于 0。有代价：整个区间显示损失至少高 {MARGIN} 比特每字节。在另一侧则否定；两侧都无尖峰则未定。",
    ),
    questions={
        "stable": Question(
            Words("spikes a seed, without the norm minus with it", "每个种子的尖峰数：无归一化减有归一化"), Threshold(0.0), "spikes"
        ),
        "cost": Question(
            Words("final held-out loss, with the norm minus without it", "最终留出损失：有归一化减无归一化"),
            Threshold(MARGIN), "bits per byte",
        ),
    },
    runs=runs,
    measure=measure,
    changes=Words(
        "Scale: the instability was seen at 104B parameters in float16, the cost at 1.3B over 112B tokens, in zero-shot tasks.",
        "规模：不稳定出现于 104B 参数的 float16 训练，代价则在 13 亿参数、1120 亿词元的零样本任务上测得。",
    ),
)  # fmt: skip
