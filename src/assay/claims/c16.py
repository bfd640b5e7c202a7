"""C16: Pre-LN's gradients are about equal across layers; stable, a little worse at the end."""

from __future__ import annotations

from collections.abc import Mapping

from assay.claims.base import Claim, Experiment, Formula, Measured, Picture, Question, Table, Tier, Words
from assay.claims.gradients import growth, layer_points, layer_rows
from assay.claims.lab import Lab
from assay.claims.placements import RULE, deep, edges, grid, rate_table, rates_apart
from assay.claims.standard import RATES, study
from assay.stats import Equivalence, Threshold

MARGIN = 0.02


def runs(tier: Tier) -> Mapping[str, Experiment]:
    """Deep and narrow at every rate; and the standard decoder, where both converge, at each one's best rate."""
    return {
        "post-deep": deep(tier, "post"),
        "pre-deep": deep(tier, "pre"),
        "post": Experiment(study(tier, model={"norm": "layernorm", "placement": "post"}), RATES[tier]),
        "pre": Experiment(study(tier, model={"norm": "layernorm"}), RATES[tier]),
    }


def measure(lab: Lab) -> Measured:
    """Gradients by layer, rates that train, and the final loss."""
    two, one = layer_rows(lab.tier, "encoder_decoder"), layer_rows(lab.tier, "causal")
    post, pre = grid(lab, "post-deep"), grid(lab, "pre-deep")
    points, table = rate_table({"Post-LN": post, "Pre-LN": pre})
    ends = {"Post-LN": lab.results("post").cell(), "Pre-LN": lab.results("pre").cell()}
    final = [
        {"series": name, "x": name, "y": c.mean.estimate, "low": c.mean.low, "high": c.mean.high}
        for name, c in ends.items() if c.bits.min() < float("inf")
    ]  # fmt: skip
    return Measured(
        answers={
            "flat": growth(two["pre"]),
            "flat_causal": growth(one["pre"]),
            "stable": rates_apart(pre, post),
            "worse": ends["Pre-LN"].minus(ends["Post-LN"]),
        },
        pictures=[
            Picture(Words("Gradient norm of each layer at the start, causal decoder", "初始时各层梯度范数，因果解码器"),
                    layer_points(one), x="layer", y="gradient norm", log_y=True),
            Picture(Words("Training loss at the end over learning rates, deep and narrow", "深而窄的模型在不同学习率下的最终训练损失"),
                    points, x="peak learning rate", y="nats per token", log_x=True),
            Picture(Words("Held-out loss of the standard decoder, where both converge; 95% interval",
                          "两者都收敛的标准解码器的留出损失，95% 区间"),
                    final, x="placement", y="bits per byte", kind="points"),
        ],
        tables=[
            table,
            Table(Words("The standard decoder at each one's best rate", "标准解码器，各取最佳学习率"),
                  ["placement", "rate", "bits per byte", "low", "high"],
                  [[name, c.rate, c.mean.estimate, c.mean.low, c.mean.high] for name, c in ends.items()]),
        ],
        remarks=[*edges(ends), *post.remarks, *pre.remarks],
    )  # fmt: skip


CLAIM = Claim(
    key="C16",
    title=Words("Pre-LN: equal gradients, stable, a little worse at the end", "Pre-LN：各层梯度相近、训练稳定、最终略差"),
    says=Words(
        "With the norm inside the residual branch gradients are about equal across layers and training is stable, but the "
        "final model is a little worse than with Post-LN.",
        "归一化放在残差分支内时，各层梯度大致相等，训练稳定，但最终效果略逊于 Post-LN。",
    ),
    literature=Words(
        "Xiong et al. 2020, figure 3: Pre-LN's norms are roughly flat over layers, and warmup can be left out. Wang et al. "
        "2022 (DeepNet): Pre-LN ends 0.5 to 1.0 BLEU under a Post-LN that converges.",
        "Xiong 等 2020 图 3：Pre-LN 各层梯度范数大致平坦，可以不用预热。Wang 等 2022（DeepNet）：Pre-LN 比收敛的 Post-LN 低 0.5 至 1.0 BLEU。",
    ),
    sources=[
        "Xiong et al. 2020, On Layer Normalization in the Transformer Architecture, figure 3",
        "Wang et al. 2022, DeepNet, section 5",
    ],
    formulas=[
        Formula(
            r"\text{Post-LN: } x_{l+1}=\mathrm{LN}(x_l+f(x_l)),\qquad \text{Pre-LN: } x_{l+1}=x_l+f(\mathrm{LN}(x_l))",
            Words("f: attention or feed-forward", "f：注意力或前馈子层"),
            "Xiong et al. 2020, table 1",
        )
    ],
    experiment=Words(
        "Gradient norm by layer at the start (ten seeds, in an encoder-decoder and a causal decoder); a deep narrow decoder at "
        "every rate of a grid with all seeds; and the final held-out loss of the standard decoder, which is shallow enough "
        "for both to converge, each at its own best rate out of a sweep, paired by seed. " + RULE.en,
        "初始时各层梯度范数（十个种子，编码器-解码器与因果解码器）；深而窄的解码器在学习率网格上以全部种子训练；标准解码器足够浅、两者都收敛，各取扫描得到的最佳学习率，"
        "按种子配对比较留出损失。" + RULE.zh,
    ),
    rule=Words(
        "Equal: the last layer's norm over the first's within a factor of 2, in both families. Stable: Pre-LN trains at rates "
        f"at least twice Post-LN's. A little worse: its loss lies at least {MARGIN} bits per byte above Post-LN's. Each by "
        "its whole 95% interval (Student t); refuted where the interval lies outside or on the other side; parts that "
        "disagree: depends.",
        f"相等：两种家族中末层与首层范数之比都在 2 倍以内。稳定：Pre-LN 可训练的学习率至少为 Post-LN 的两倍。略差：损失至少高 {MARGIN} 比特每字节。均以整个 95% "
        "区间（t）判定；区间在外侧或另一侧则否定；不一致则为“视情况而定”。",
    ),
    questions={
        "flat": Question(
            Words("Pre-LN's gradient, last layer over first, encoder-decoder", "Pre-LN 梯度末层与首层之比，编码器-解码器"),
            Equivalence(1.0), "log2",
        ),
        "flat_causal": Question(
            Words("the same in a causal decoder", "因果解码器中的同一比值"), Equivalence(1.0), "log2"
        ),
        "stable": Question(
            Words("largest rate that trains, Pre-LN's over Post-LN's", "可训练的最大学习率：Pre-LN / Post-LN"),
            Threshold(1.0), "log2",
        ),
        "worse": Question(
            Words("final held-out loss, Pre-LN minus Post-LN", "最终留出损失：Pre-LN 减 Post-LN"),
            Threshold(MARGIN), "bits per byte",
        ),
    },
    runs=runs,
    measure=measure,
    changes=Words(
        "Longer training of larger models, where a difference at convergence could show; translation, which the literature is "
        "about.",
        "更大模型更长时间的训练（收敛处的差异才会显现），以及文献所研究的翻译任务。",
    ),
    seconds=12.0,
)  # fmt: skip
