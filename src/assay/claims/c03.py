"""C3: training efficiency, prefix decoder below causal decoder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from assay.claims import families
from assay.claims.base import Claim, Experiment, Formula, Measured, Picture, Question, Table, Tier, Words
from assay.claims.lab import NEVER, Lab, Trained
from assay.stats import Superiority, Threshold, paired_difference

Curve = Sequence[tuple[float, float]]
"""(training FLOPs, held-out bits per byte), FLOPs ascending."""


def runs(tier: Tier) -> Mapping[str, Experiment]:
    """Both decoders at equal training FLOPs."""
    return families.experiments(tier, "causal", "prefix")


def curve(run: Trained) -> Curve:
    """Held-out loss along a run, its untrained beginning left out."""
    return [(row["flops"], row["bits_per_byte"]) for row in run.rows("eval") if row["flops"] > 0]


def needed(points: Curve, target: float) -> float:
    """FLOPs at which a curve first reaches a loss: on a line in log FLOPs between points; infinite if it never does."""
    if points[0][1] <= target:
        return points[0][0]
    for (before, high), (after, low) in pairwise(points):
        if low <= target:
            share = (high - target) / (high - low)
            return math.exp(math.log(before) + share * (math.log(after) - math.log(before)))
    return math.inf


def doublings(prefix: Curve, causal: Curve) -> float:
    """log2 of the FLOPs that prefix needs over those that causal needs, to the worse one's final loss."""
    target = max(prefix[-1][1], causal[-1][1])
    return math.log2(needed(prefix, target) / needed(causal, target))


def measure(lab: Lab) -> Measured:
    """FLOPs to the worse final loss, the final difference, and supervised tokens per FLOP."""
    found = families.cells(lab, "causal", "prefix")
    pairs = [(p, c) for p, c in zip(found["prefix"].runs, found["causal"].runs, strict=True) if p.done and c.done]
    ratios = [doublings(curve(p), curve(c)) for p, c in pairs]
    tokens = [
        math.log2(c.result["supervised_tokens_per_flop"] / p.result["supervised_tokens_per_flop"]) for p, c in pairs
    ]
    zeros = [0.0] * len(pairs)
    _, table = families.losses(found)
    rows = [
        {"series": f"{families.NAMES[name]}, seed {run.run.seed}", "x": flops, "y": bits}
        for name, cell in found.items() for run in cell.runs if run.done for flops, bits in curve(run)
    ]  # fmt: skip
    per: list[list[str | float | int | None]] = [
        [f"seed {p.run.seed}", 2**ratio, p.bits_per_byte - c.bits_per_byte, 2**share]
        for (p, c), ratio, share in zip(pairs, ratios, tokens, strict=True)
    ]
    return Measured(
        answers={
            "flops": paired_difference(ratios, zeros) if pairs else NEVER,
            "loss": found["prefix"].minus(found["causal"]),
            "tokens": paired_difference(tokens, zeros) if pairs else NEVER,
        },
        pictures=[
            Picture(
                Words("Held-out loss over training FLOPs, each under its own mask", "留出损失随训练 FLOPs 的变化，各用自己的掩码"),
                rows, x="training FLOPs", y="bits per byte", kind="lines", log_x=True,
            )
        ],
        tables=[
            table,
            Table(
                Words("By seed", "逐种子"),
                ["", "FLOPs, prefix over causal", "final loss, prefix minus causal",
                 "tokens with a loss per FLOP, causal over prefix"],
                per,
            ),
        ],
        remarks=families.remarks(found),
    )  # fmt: skip


CLAIM = Claim(
    key="C3",
    title=Words("Prefix decoders train less efficiently than causal ones", "前缀解码器的训练效率低于因果解码器"),
    says=Words(
        "A causal decoder learns from every token of a text, a prefix decoder from the part behind the prefix alone: for "
        "the same loss it needs more compute.",
        "因果解码器从每个 token 学习，前缀解码器只从前缀之后的部分学习：达到相同损失需要更多计算。",
    ),
    literature=Words(
        "Wang et al. 2022: prefix language modelling has a loss on about half of the tokens seen; with equal tokens seen "
        "(168 billion), zero-shot averages on EAI and T0 tasks are 44.2 and 42.4 for the causal decoder with full "
        "language modelling, 43.5 and 41.8 for the prefix decoder with prefix language modelling.",
        "Wang 等 2022：前缀语言模型只对约一半的 token 计算损失；同样看过 1680 亿 token，零样本平均分（EAI / T0）：因果解码器 + 全语言模型 "
        "44.2 / 42.4，前缀解码器 + 前缀语言模型 43.5 / 41.8。",
    ),
    sources=["Wang et al. 2022, sections 3.2 and 4.1", "Tay et al. 2022 (UL2), section 2"],
    formulas=[
        Formula(
            r"\mathcal{L}_{\text{causal}}=-\sum_{i=1}^{n}\ln p(x_i\mid x_{<i}),\qquad "
            r"\mathcal{L}_{\text{prefix}}=-\sum_{i=p+1}^{n}\ln p(x_i\mid x_{<i})",
            Words("x: tokens of a text; p: length of the prefix, uniform over 1 ... n - 1",
                  "x：文本的 token；p：前缀长度，在 1 … n − 1 上均匀"),
            "Raffel et al. 2020, section 3.2.3",
        )
    ],
    experiment=Words(
        "The same network with causal attention and causal LM, and with prefix attention and prefix LM, at equal training "
        "FLOPs, each at its best rate of a sweep, three seeds or more. Both are judged by the same held-out "
        "continuations, each under its own mask. For each seed: the FLOPs at which each curve reaches the worse one's "
        "final loss. The better run's rate has not yet fallen there, so its advantage is understated.",
        "同一网络：因果注意力 + 因果语言模型，与前缀注意力 + 前缀语言模型；训练 FLOPs 相等，各取扫描得到的最佳学习率，至少三个种子。用同样的留出续写评估，"
        "各用自己的掩码。逐种子比较两条曲线达到“较差一方最终损失”所需的 FLOPs。较好一方此时学习率尚未衰减，因此其优势被低估。",
    ),
    rule=Words(
        "Supported if the 95% t interval of log2 (FLOPs of prefix over FLOPs of causal), paired by seed, lies above 0 and "
        "that of the final loss, prefix minus causal, does too; refuted if both lie below; else depends or undecided.",
        "log2（前缀所需 FLOPs / 因果所需 FLOPs）按种子配对的 95% t 区间在 0 以上，且最终损失差（前缀减因果）区间也在 0 以上，则支持；都在 0 以下则否定；其余为取决或未定。",
    ),
    questions={
        "flops": Question(
            Words("training FLOPs to the worse final loss, prefix over causal, as doublings",
                  "达到较差一方最终损失所需训练 FLOPs：前缀比因果（以 2 为底的对数）"),
            Threshold(0.0, "above"), "doublings",
        ),
        "loss": Question(
            Words("final held-out loss at equal FLOPs, prefix minus causal", "FLOPs 相等时的最终留出损失：前缀减因果"),
            Superiority(0.0, "higher"), "bits per byte",
        ),
        "tokens": Question(
            Words("tokens with a loss per training FLOP, causal over prefix, as doublings",
                  "每训练 FLOP 的有损失 token 数：因果比前缀（以 2 为底的对数）"),
            Threshold(0.0, "above"), "doublings", decides=False,
        ),
    },
    runs=runs,
    measure=measure,
    changes=Words(
        "A test that needs the prefix more than continuing a text does (question answering, infilling); losses on the "
        "prefix too (as UL2 mixes).",
        "比续写更依赖前缀的测试（问答、填空），或对前缀也计算损失的目标（如 UL2 混合）。",
    ),
    seconds=1.0,
)  # fmt: skip
