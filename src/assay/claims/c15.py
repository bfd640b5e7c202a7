"""C15: Post-LN's gradients grow toward the output and make training unstable."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from assay.claims.base import Claim, Experiment, Formula, Measured, Picture, Question, Table, Tier, Words
from assay.claims.gradients import growth, layer_points, layer_rows
from assay.claims.lab import Lab
from assay.claims.placements import RULE, grid, mean_of, rate_table, rates_apart, two_stacks
from assay.stats import Threshold

TWICE = 1.0
"""log2: a factor of 2."""


def runs(tier: Tier) -> Mapping[str, Experiment]:
    """An encoder-decoder with Post-LN, the same with layers' gradients made equal, and with Pre-LN."""
    return {
        "post": two_stacks(tier, "post"),
        "equal": two_stacks(tier, "post", equal_layers=True),
        "pre": two_stacks(tier, "pre"),
    }


def measure(lab: Lab) -> Measured:
    """Gradient norms by layer at the start; rates that train, with and without equal layers."""
    two, one = layer_rows(lab.tier, "encoder_decoder"), layer_rows(lab.tier, "causal")
    grids = {name: grid(lab, name) for name in ("post", "equal", "pre")}
    points, table = rate_table(
        {"Post-LN": grids["post"], "Post-LN, layers made equal": grids["equal"], "Pre-LN": grids["pre"]}
    )
    largest: list[list[Any]] = [
        [name, 2 ** mean_of(found.largest).estimate, found.best.rate, found.best.mean.estimate]
        for name, found in grids.items()
    ]
    return Measured(
        answers={
            "growth": growth(two["post"]),
            "growth_causal": growth(one["post"]),
            "unstable": rates_apart(grids["pre"], grids["post"]),
            "cause": rates_apart(grids["equal"], grids["post"]),
            "loss": grids["equal"].best.minus(grids["post"].best),
        },
        pictures=[
            Picture(
                Words("Gradient norm of each layer at the start, decoder of an encoder-decoder: norm of the batch's mean gradient",
                      "初始时各层梯度范数（编码器-解码器的解码器）：批平均梯度的范数"),
                layer_points(two), x="layer", y="gradient norm", log_y=True,
            ),
            Picture(
                Words("The same in a causal decoder, which has no cross-attention", "因果解码器（无交叉注意力）的同一测量"),
                layer_points(one), x="layer", y="gradient norm", log_y=True,
            ),
            Picture(Words("Training loss at the end over learning rates", "不同学习率下的最终训练损失"),
                    points, x="peak learning rate", y="nats per token", log_x=True),
        ],
        tables=[
            table,
            Table(Words("Largest rate that trains; at the best rate, held-out loss", "可训练的最大学习率；最佳学习率下的留出损失"),
                  ["model", "largest rate", "best rate", "bits per byte"],
                  [[*row[:3], row[3] if math.isfinite(row[3]) else None] for row in largest]),
        ],
    )  # fmt: skip


CLAIM = Claim(
    key="C15",
    title=Words("Post-LN's gradients grow toward the output and unsettle training", "Post-LN 的梯度向输出层增大，使训练不稳定"),
    says=Words(
        "With the norm after the residual sum, gradients near the output are large, and so training is unstable.",
        "归一化放在残差相加之后时，靠近输出层的梯度很大，因此训练不稳定。",
    ),
    literature=Words(
        "Xiong et al. 2020, section 3: at the start the last feed-forward's gradient is O(d sqrt(ln d)) under Post-LN and "
        "O(d sqrt(ln d / L)) under Pre-LN; without warmup Post-LN fails. Liu et al. 2020 (Admin) find that unequal gradients "
        "are not the cause: Adam's steps do not depend on their scale, and an amplified dependence on the residual branches is.",
        "Xiong 等 2020 第 3 节：初始时最后一个前馈层的梯度上界在 Post-LN 下为 O(d sqrt(ln d))，Pre-LN 下为 O(d sqrt(ln d / L))；没有预热时 Post-LN 失败。"
        "Liu 等 2020（Admin）认为梯度不均不是原因：Adam 的步长与梯度尺度无关，原因在于对残差分支的依赖被放大。",
    ),
    sources=[
        "Xiong et al. 2020, On Layer Normalization in the Transformer Architecture, section 3 and figure 3",
        "Liu et al. 2020, Understanding the Difficulty of Training Transformers",
    ],
    formulas=[
        Formula(
            r"\left\|\frac{\partial\mathcal L}{\partial W^{L}}\right\|_F\le"
            r"\begin{cases}O(d\sqrt{\ln d})&\text{Post-LN}\\ O(d\sqrt{\ln d/L})&\text{Pre-LN}\end{cases}",
            Words("W: the last layer's feed-forward weights; d: width; L: layers", "W：最后一层的前馈权重；d：宽度；L：层数"),
            "Xiong et al. 2020, theorem 1",
        )
    ],
    experiment=Words(
        "At the start: gradient norm of every layer (norm of the batch's mean gradient, ten seeds) in an encoder-decoder, the "
        "paper's case, and in a causal decoder. Then an encoder-decoder is trained with AdamW at every rate of a grid, all "
        "seeds: Post-LN as it is, Post-LN with every layer's gradient scaled to one norm before clipping, and Pre-LN. If the "
        "growth were the cause, taking it away would bring stability back; Adam cancels scale, so growth alone proves nothing. "
        + RULE.en,
        "初始时：在编码器-解码器（论文的情形）与因果解码器中测各层梯度范数（批平均梯度的范数，十个种子）。随后在学习率网格上以 AdamW、全部种子训练编码器-解码器："
        "原样的 Post-LN、裁剪前把每层梯度缩放到同一范数的 Post-LN，以及 Pre-LN。若增大的梯度是原因，消除它就应恢复稳定；Adam 抵消尺度，仅有增大不能说明问题。"
        + RULE.zh,
    ),
    rule=Words(
        "Four parts, each by its whole 95% interval: the last layer's gradient is at least twice the first's, in the "
        "encoder-decoder and in the causal decoder; Pre-LN trains at rates at least twice as large; equal layers raise "
        "Post-LN's largest rate at least twofold. All hold: supported; parts on either side: depends.",
        "四项均以整个 95% 区间判定：最后一层梯度至少为第一层两倍（编码器-解码器、因果解码器各一项）；Pre-LN 可训练的学习率至少大一倍；使各层梯度相等后 Post-LN "
        "的最大学习率至少加倍。全部成立为支持；各项相反为“视情况而定”。",
    ),
    questions={
        "growth": Question(
            Words("gradient of the last decoder layer over the first's, encoder-decoder", "编码器-解码器：解码器末层与首层梯度之比"),
            Threshold(TWICE), "log2",
        ),
        "growth_causal": Question(
            Words("the same in a causal decoder", "因果解码器中的同一比值"), Threshold(TWICE), "log2"
        ),
        "unstable": Question(
            Words("largest rate that trains, Pre-LN's over Post-LN's", "可训练的最大学习率：Pre-LN / Post-LN"),
            Threshold(TWICE), "log2",
        ),
        "cause": Question(
            Words("largest rate of Post-LN, layers made equal over as they are", "Post-LN 的最大学习率：各层梯度相等 / 原样"),
            Threshold(TWICE), "log2",
        ),
        "loss": Question(
            Words("held-out loss, layers made equal minus as they are", "留出损失：各层梯度相等减原样"),
            Threshold(-0.02, "below"), "bits per byte", decides=False,
        ),
    },
    runs=runs,
    measure=measure,
    changes=Words(
        "Plain gradient descent, which follows the gradient's scale; more depth, no warmup: then Post-LN fails more often.",
        "若用普通梯度下降（受梯度尺度影响）、更深或不预热，Post-LN 会更常失败。",
    ),
    seconds=15.0,
)  # fmt: skip
