"""C13: DeepNorm bounds the update of the function."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from assay.claims.base import Claim, Formula, Measured, Picture, Question, Table, Tier, Words
from assay.claims.lab import Lab
from assay.claims.placements import mean_of
from assay.spec.study import StudySpec
from assay.stats import Interval, Threshold

MOST = 0.1
"""Slope up to which an update is called bounded: 1.6 times over a depth a hundredfold."""

SETTINGS: dict[str, tuple[str, str, bool, float]] = {
    "theorem": ("deepnet", "sgd", False, 1e-4),
    "gains": ("deepnet", "sgd", True, 1e-4),
    "adam": ("deepnet", "adamw", True, 1e-6),
    "post": ("post", "sgd", False, 1e-4),
}
"""Placement, optimizer of the one step, whether the norms learn gains and shifts, rate."""

LABELS = {
    "theorem": "DeepNorm, SGD, no gains",
    "gains": "DeepNorm, SGD, learned gains",
    "adam": "DeepNorm, AdamW, learned gains",
    "post": "Post-LN, SGD, no gains",
}


def slopes(depths: Sequence[int], updates: Sequence[Sequence[float]]) -> Interval:
    """Slope of log update over log depth, a least-squares line a seed; mean and interval over seeds.

    Args:
        depths: in layers.
        updates: [depths][seeds], above 0.
    """
    logs = np.log(np.asarray(updates, dtype=np.float64))
    return mean_of([float(v) for v in np.polyfit(np.log(depths), logs, 1)[0]])


def measure(lab: Lab) -> Measured:
    """One first step of each model; how far it moves the output of the last layer."""
    depths = lab.by_tier(smoke=(2, 4), quick=(12, 24, 48, 96), full=(12, 48, 192, 1000))
    seeds = lab.by_tier(smoke=3, quick=5, full=10)
    found = {name: [_updates(name, depth, seeds, lab.tier) for depth in depths] for name in SETTINGS}
    points, table = [], []
    for name, by_depth in found.items():
        for depth, values in zip(depths, by_depth, strict=True):
            logs = mean_of(np.log10(values))
            middle, low, high = (10**v for v in (logs.estimate, logs.low, logs.high))
            points.append({"series": LABELS[name], "x": depth, "y": middle, "low": low, "high": high})
            table.append([LABELS[name], depth, middle, min(values), max(values)])
    return Measured(
        answers={name: slopes(depths, by_depth) for name, by_depth in found.items()},
        pictures=[
            Picture(
                Words("Root mean square by which the first step moves the output (its own is 1), by depth",
                      "第一步使输出改变的均方根（输出自身为 1），随深度变化"),
                points, x="layers", y="update of the function", log_x=True, log_y=True,
            )
        ],
        tables=[Table(Words("Geometric mean over seeds, smallest and largest", "各种子的几何平均、最小与最大值"),
                      ["setting", "layers", "update", "smallest", "largest"], table)],
    )  # fmt: skip


def _updates(name: str, depth: int, seeds: int, tier: Tier) -> list[float]:
    from assay.studies.stability import Settings, Subject, stability_study

    placement, optimizer, gains, rate = SETTINGS[name]
    fields: dict[str, Any] = {
        "model": {
            "layers": depth, "width": 16 if tier is Tier.smoke else 32, "attention": {"heads": 2}, "context": 64,
            "vocab_size": 256, "norm": {"kind": "layernorm", "weight": gains}, "placement": placement,
            "init": "deepnet", "feedforward": {"activation": "relu", "gated": False},
        },
        "train": {"steps": 1, "batch_size": 4, "length": 16}, "vary": {}, "seeds": 1,
    }  # fmt: skip
    run = StudySpec.from_dict(fields, source="claim").runs()[0]
    settings = Settings(
        data="random", batch_size=4, length=16, seeds=seeds, optimizer=optimizer, learning_rate=rate, clip=0.0
    )
    found = stability_study([Subject(name, run)], settings)["models"][0]["seeds"]
    return [max(float(seed["at"]["start"]["output_update"]), math.ulp(0.0)) for seed in found]


CLAIM = Claim(
    key="C13",
    title=Words("DeepNorm bounds the update of the model", "DeepNorm 约束模型的更新幅度"),
    says=Words(
        "With DeepNorm's heavier residual and smaller first weights, one training step moves the model's output by an "
        "amount that does not grow with depth.",
        "DeepNorm 放大残差并缩小初始权重，使一步训练对模型输出的改变不随深度增长。",
    ),
    literature=Words(
        "Wang et al. 2022 (DeepNet), section 4: with alpha = (2M)^(1/4) and beta = (8M)^(-1/4) the first gradient-descent "
        "step's update of a decoder of M layers is O(rate), at any depth; they train 1,000 layers.",
        "Wang 等 2022（DeepNet）第 4 节：取 alpha = (2M)^(1/4)、beta = (8M)^(-1/4)，M 层解码器在梯度下降下一步更新为 O(学习率)，与深度无关；"
        "他们训练了 1000 层。",
    ),
    sources=["Wang et al. 2022, DeepNet: Scaling Transformers to 1,000 Layers, section 4"],
    formulas=[
        Formula(
            r"x_{l+1}=\mathrm{LN}(\alpha x_l+f_l(x_l)),\qquad \alpha=(2M)^{1/4},\quad \beta=(8M)^{-1/4}",
            Words(
                "M: decoder layers; beta scales value, output and feed-forward weights at the start; an encoder-decoder "
                "has its own constants",
                "M：解码器层数；beta 缩放初始的 value、输出与前馈权重；编码器-解码器有各自的常数",
            ),
            "Wang et al. 2022, figure 2",
        ),
        Formula(
            r"\|\Delta F\|\le\sum_{i=1}^{2M}\frac{\sqrt{v_i^2+w_i^2}}{\alpha}\,\|\theta_i^{*}-\theta_i\|",
            Words(
                "v, w: scales of the sublayers' weights; theta* - theta: the step; F: the model's output",
                "v、w：子层权重的尺度；theta* - theta：更新；F：模型输出",
            ),
            "Wang et al. 2022, section 4",
        ),
    ],
    experiment=Words(
        "Fresh causal decoders of growing depth, 32 wide (LayerNorm, ReLU), read random tokens; optimizer and first step are "
        "fixed, nothing is clipped; measured is the root mean square by which that step moves the output after the last "
        "norm. DeepNorm under gradient descent with norms that learn no gains (what the theorem is about), under gradient "
        "descent with gains, and under AdamW; Post-LN beside it. Five seeds or more; one slope a seed, Student t over seeds.",
        "深度递增、宽 32 的全新因果解码器（LayerNorm、ReLU）读取随机词元；优化器与第一步固定，不裁剪；测量该步使最后归一化后输出改变的均方根。"
        "DeepNorm 分别用梯度下降（归一化无增益，即定理的条件）、梯度下降加可学习增益、AdamW；另附 Post-LN。五个以上种子，每个种子一条斜率，对种子求 t 区间。",
    ),
    rule=Words(
        f"Bounded: the 95% interval of the slope of log update over log depth lies under {MOST} (1.6 times over a hundredfold "
        "depth). Judged in three settings; where they disagree, the claim depends on them.",
        f"有界：更新对深度的双对数斜率的 95% 区间低于 {MOST}（深度增百倍时更新最多增 1.6 倍）。在三种设置下判定；不一致则为“视情况而定”。",
    ),
    questions={
        "theorem": Question(
            Words("slope under gradient descent, norms without gains", "梯度下降、归一化无增益时的斜率"),
            Threshold(MOST, "below"), "log / log",
        ),
        "gains": Question(
            Words("slope under gradient descent, norms with learned gains", "梯度下降、归一化有可学习增益时的斜率"),
            Threshold(MOST, "below"), "log / log",
        ),
        "adam": Question(
            Words("slope under AdamW, norms with learned gains", "AdamW、归一化有可学习增益时的斜率"),
            Threshold(MOST, "below"), "log / log",
        ),
        "post": Question(
            Words("slope of Post-LN under gradient descent: does it grow?", "Post-LN 在梯度下降下的斜率：是否增长？"),
            Threshold(MOST, "above"), "log / log", decides=False,
        ),
    },
    measure=measure,
    changes=Words(
        "Another optimizer: AdamW moves every weight by the rate whatever its gradient, which the theorem leaves out. Deeper "
        "models and more seeds decide what Post-LN does.",
        "换优化器会改变结论：AdamW 不论梯度大小都以学习率移动每个权重，定理未涵盖。更深的模型与更多种子才能判定 Post-LN。",
    ),
    seconds=60.0,
)  # fmt: skip
