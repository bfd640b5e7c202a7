"""C14: DeepNorm trains where Post-LN fails, faster, and deeper is better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from assay.claims.base import Claim, Experiment, Formula, Measured, Picture, Question, Table, Tier, Words
from assay.claims.lab import Lab
from assay.claims.placements import NAMES, RULE, deep, grid, mean_of, rate_table, rates_apart, steps_ratio
from assay.stats import Superiority, Threshold

MARGIN = 0.02
FASTER = math.log2(1.1)
"""A tenth fewer steps."""


def runs(tier: Tier) -> Mapping[str, Experiment]:
    """Post-LN and DeepNorm at two depths, every rate, equal training FLOPs."""
    return {
        f"{placement}-{depth}": deep(tier, placement, shallow=depth == "shallow")
        for placement in ("post", "deepnet")
        for depth in ("shallow", "deep")
    }


def measure(lab: Lab) -> Measured:
    """Largest rate that trains, steps to a loss, loss by depth."""
    grids = {name: grid(lab, name) for name in runs(lab.tier)}
    post, own = grids["post-deep"], grids["deepnet-deep"]
    named = {_label(name, found.cells[0].runs[0].run.model.layers): found for name, found in grids.items()}
    points, table = rate_table(named)
    by_depth: list[dict[str, Any]] = []
    depth_rows: list[list[str | float | int | None]] = []
    for name, found in grids.items():
        layers, best = found.cells[0].runs[0].run.model.layers, found.best
        bits, largest = best.mean, mean_of(found.largest)
        if math.isfinite(bits.estimate):
            by_depth.append(
                {
                    "series": NAMES[name.split("-")[0]],
                    "x": layers,
                    "y": bits.estimate,
                    "low": bits.low,
                    "high": bits.high,
                }
            )
        depth_rows.append([NAMES[name.split("-")[0]], layers, best.rate, bits.estimate, 2**largest.estimate])
    return Measured(
        answers={
            "stable": rates_apart(own, post),
            "faster": steps_ratio(post.best.runs, own.best.runs),
            "deeper": own.best.minus(grids["deepnet-shallow"].best),
            "post_deeper": post.best.minus(grids["post-shallow"].best),
        },
        pictures=[
            Picture(Words("Training loss at the end over learning rates", "不同学习率下的最终训练损失"),
                    points, x="peak learning rate", y="nats per token", log_x=True),
            Picture(Words("Held-out loss by depth at equal training FLOPs, each at its best rate",
                          "相同训练 FLOPs 下留出损失随深度的变化（各取最佳学习率）"),
                    by_depth, x="layers", y="bits per byte"),
        ],
        tables=[
            table,
            Table(Words("By depth", "按深度"),
                  ["placement", "layers", "best rate", "bits per byte", "largest rate that trains (one step under the grid: none)"],
                  depth_rows),
        ],
        remarks=[remark for found in grids.values() for remark in found.remarks],
    )  # fmt: skip


def _label(name: str, layers: int) -> str:
    return f"{NAMES[name.split('-')[0]]}, {layers} layers"


CLAIM = Claim(
    key="C14",
    title=Words("DeepNorm trains where Post-LN fails", "DeepNorm 能训练 Post-LN 失败的模型"),
    says=Words(
        "DeepNorm trains at depths and rates where Post-LN fails, reaches a loss in fewer steps, and gains from depth.",
        "DeepNorm 在 Post-LN 失败的深度与学习率下仍能训练，更快达到同一损失，并且越深越好。",
    ),
    literature=Words(
        "Wang et al. 2022 (DeepNet): 1,000 layers train where Post-LN diverges early; 200 layers with 3.2B parameters beat a "
        "48-layer model of 12B by 5 BLEU over 7,482 directions.",
        "Wang 等 2022（DeepNet）：1000 层可以训练，而 Post-LN 很早就发散；200 层 3.2B 参数的模型在 7482 个翻译方向上比 48 层 12B 模型高 5 BLEU。",
    ),
    sources=["Wang et al. 2022, DeepNet, abstract and section 5"],
    formulas=[
        Formula(
            r"x_{l+1}=\mathrm{LN}(\alpha\,x_l+f_l(x_l;\beta\,\theta)),\quad\alpha>1>\beta",
            Words("alpha grows and beta falls with depth", "alpha 随深度增大，beta 随深度减小"),
            "Wang et al. 2022, section 4",
        )
    ],
    experiment=Words(
        "Narrow causal decoders of two depths (quick: 6 and 12 layers) with Post-LN and DeepNorm, Xavier first weights "
        "(DeepNorm's times beta), at every rate of a grid with every seed, equal training FLOPs at both depths, 10% warmup. "
        + RULE.en
        + " Steps and losses are compared at each side's own best rate (lowest held-out loss on seed 0), paired by seed.",
        "两种深度（快速档为 6 与 12 层）的窄因果解码器，分别使用 Post-LN 与 DeepNorm，Xavier 初始化（DeepNorm 再乘 beta），网格中每个学习率与每个种子都训练，"
        "两种深度训练 FLOPs 相同，10% 预热。" + RULE.zh + "步数与损失在各自最佳学习率（种子 0 留出损失最低）下按种子配对比较。",
    ),
    rule=Words(
        "Supported if all three hold at the larger depth: the largest rate that trains is at least twice Post-LN's; Post-LN "
        "needs at least 10% more steps to the loss that both reach; the deeper DeepNorm model ends at least "
        f"{MARGIN} bits per byte under the shallower one. Each by its whole 95% interval; refuted where an interval lies on "
        "the other side; parts that disagree: depends.",
        f"在较大深度上三项都成立则支持：可训练的最大学习率至少为 Post-LN 的两倍；Post-LN 达到共同损失至少多用 10% 的步数；更深的 DeepNorm 模型比浅的至少低 {MARGIN} "
        "比特每字节。均以整个 95% 区间判定；区间在另一侧则否定；各项不一致则为“视情况而定”。",
    ),
    questions={
        "stable": Question(
            Words("largest rate that trains, DeepNorm's over Post-LN's", "可训练的最大学习率：DeepNorm / Post-LN"),
            Threshold(1.0), "log2",
        ),
        "faster": Question(
            Words("steps to the loss that both reach, Post-LN's over DeepNorm's", "达到共同损失的步数：Post-LN / DeepNorm"),
            Threshold(FASTER), "log2",
        ),
        "deeper": Question(
            Words("held-out loss of DeepNorm, deeper minus shallower, equal FLOPs", "DeepNorm 留出损失：深减浅（FLOPs 相同）"),
            Superiority(MARGIN, "lower"), "bits per byte",
        ),
        "post_deeper": Question(
            Words("the same of Post-LN", "Post-LN 的同一差值"), Superiority(MARGIN, "lower"), "bits per byte", decides=False
        ),
    },
    runs=runs,
    measure=measure,
    changes=Words(
        "More depth and longer training: at a budget of seconds a shallow model takes more steps and wins, whatever its norms. "
        "No warmup would be harder on Post-LN.",
        "更大的深度与更长的训练：在几秒的预算下，浅模型步数更多，无论何种归一化都占优。取消预热会使 Post-LN 更困难。",
    ),
)  # fmt: skip
