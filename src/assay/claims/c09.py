"""C9: bidirectional attention is low-rank, causal attention full-rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from assay.claims import families
from assay.claims.base import Claim, Experiment, Formula, Measured, Picture, Question, Table, Tier, Words
from assay.claims.lab import NEVER, Lab
from assay.claims.ranks import Ranks, measured
from assay.stats import Interval, Superiority, Verdict, mean_interval, paired_difference

MARGIN = 0.02
"""Of a residual between 0 and 1, and of a cosine: less would change nothing that a reader could use."""
NAMES = {
    "masked": "causal decoder, prefix LM",
    "prefix": "prefix decoder, all prefix",
    "causal": "causal decoder, causal LM",
    "parameters": "encoder of an encoder-decoder",
}
ABLATIONS: tuple[tuple[str, ...], ...] = ((), ("skip",), ("skip", "feedforward"), ("norm",))


def runs(tier: Tier) -> Mapping[str, Experiment]:
    """The families' runs: nothing of its own."""
    return families.experiments(tier, *NAMES)


def last(found: Sequence[Ranks], field: str) -> list[float]:
    """A measure of the representations after the last layer, by seed."""
    return [float(getattr(ranks, field)[-1]) for ranks in found]


def difference(a: Mapping[int, Ranks], b: Mapping[int, Ranks], field: str) -> Interval:
    """A minus b after the last layer, paired by the seeds that both have."""
    both = sorted(a.keys() & b.keys())
    if not both:
        return NEVER
    return paired_difference(last([a[s] for s in both], field), last([b[s] for s in both], field))


def measure(lab: Lab) -> Measured:
    """Residual to rank 1 and cosine by layer of every trained model; attention matrices and ablations beside them."""
    length, rows = lab.by_tier(smoke=16, quick=64, full=128), lab.by_tier(smoke=1, quick=12, full=32)
    cells = families.cells(lab, *NAMES)
    ranks = {
        name: {run.run.seed: measured(run, length=length, rows=rows) for run in cell.runs if run.done}
        for name, cell in cells.items()
    }
    answers = {
        "residual": difference(ranks["prefix"], ranks["masked"], "rank_one"),
        "cosine": difference(ranks["prefix"], ranks["masked"], "cosine"),
        "built residual": difference(ranks["prefix"], ranks["causal"], "rank_one"),
        "built cosine": difference(ranks["prefix"], ranks["causal"], "cosine"),
        "attention": _heads(ranks["prefix"], ranks["masked"], "effective"),
        "exact": _heads(ranks["prefix"], ranks["masked"], "exact"),
    }
    heads: list[list[str | float | int | None]] = [
        [
            NAMES[name],
            *(fmean(r.heads[field] for r in by.values()) for field in ("exact", "full", "effective", "stable")),
            _condition(float(np.median([r.heads["condition"] for r in by.values()]))),
        ]
        for name, by in ranks.items()
        if by
    ]
    return Measured(
        answers=answers,
        pictures=[
            _curves(ranks, "rank_one", "residual to rank 1", "各层表示到最近秩一矩阵的相对残差，95% 区间"),
            _curves(ranks, "cosine", "mean cosine between tokens", "各层不同 token 表示间的平均余弦，95% 区间"),
            _ablations(lab),
        ],
        tables=[
            Table(
                Words("Attention matrices after training, means over heads and seeds (condition: median)",
                      "训练后的注意力矩阵，对头与种子取均值（条件数取中位数）"),
                ["model", "exact rank / size", "share of full rank", "effective rank / size", "stable rank",
                 "condition number"],
                heads,
            )
        ],
        remarks=families.remarks(cells),
    )  # fmt: skip


def _condition(value: float) -> float | str:
    return value if np.isfinite(value) else "beyond float64"


def _heads(a: Mapping[int, Ranks], b: Mapping[int, Ranks], field: str) -> Interval:
    both = sorted(a.keys() & b.keys())
    if not both:
        return NEVER
    return paired_difference([a[s].heads[field] for s in both], [b[s].heads[field] for s in both])


def _curves(ranks: Mapping[str, Mapping[int, Ranks]], field: str, y: str, zh: str) -> Picture:
    rows = []
    for name, by in ranks.items():
        for layer, values in enumerate(zip(*(getattr(r, field) for r in by.values()), strict=True)):
            at = mean_interval(values)
            rows.append({"series": NAMES[name], "x": layer, "y": at.estimate, "low": at.low, "high": at.high})
    title = Words(f"Representations after training: {y} by layer, 95% interval (0: embedding)", f"{zh}（0 为嵌入）")
    return Picture(title, rows, x="layer", y=y)


def _ablations(lab: Lab) -> Picture:
    """Fresh weights, more layers: what keeps tokens apart."""
    from assay.spec.model import ModelSpec
    from assay.studies.rank import RankSettings, Subject, rank_study

    layers, seeds = lab.by_tier(smoke=3, quick=12, full=24), lab.by_tier(smoke=1, quick=2, full=5)
    subjects = []
    for family, word in (("causal", "causal"), ("encoder", "bidirectional")):
        spec = ModelSpec.from_dict({"family": family, "width": 64, "layers": layers, "attention": {"heads": 4}})
        for parts in ABLATIONS:
            name = f"{word}, {'whole' if not parts else 'no ' + ', no '.join(parts)}"
            subjects.append(Subject(name, spec, "", parts))
    settings = RankSettings(text=TEXT, length=64, rows=1, seeds=seeds, attention=False)
    rows: list[dict[str, Any]] = []
    for model in rank_study(subjects, settings)["models"]:
        for layer in range(layers + 1):
            values = [next(x for x in seed["layers"] if x["layer"] == layer)["rank_one"] for seed in model["seeds"]]
            # Rounding ends the collapse: what lies below it is drawn at it.
            rows.append({"series": model["name"], "x": layer, "y": max(fmean(values), 1e-8)})
    return Picture(
        Words("Fresh weights: residual to rank 1 by layer, with parts taken out",
              "随机初始权重：去掉部分结构后各层到秩一的残差"),
        rows, x="layer", y="residual to rank 1", log_y=True,
    )  # fmt: skip


TEXT = (
    "A transformer reads its input as tokens. Every token looks at the others through attention, and a small network "
    "then works on each of them alone. Norms keep the numbers in range, positions say which token came first."
)

CLAIM = Claim(
    key="C9",
    title=Words("Bidirectional attention is low-rank, causal attention full-rank", "双向注意力低秩，因果注意力满秩"),
    says=Words(
        "Under bidirectional attention the tokens' representations tend to low rank and grow alike; the causal mask keeps "
        "rank and order.",
        "双向注意力使各 token 的表示趋于低秩、彼此相似；因果掩码则保持秩与顺序。",
    ),
    literature=Words(
        "Dong et al. 2021: attention without skips and feed-forward networks collapses to rank 1 doubly exponentially "
        "with depth; skips and feed-forward networks stop it. Wu et al. 2024: attention under a causal mask "
        "collapses too, exponentially; with LayerNorm some value matrices keep any rank. A causal softmax matrix is "
        "triangular with a positive diagonal, so of full exact rank; generic bidirectional softmax matrices are of full "
        "exact rank too. Two real models (`assay probe rank` on 4 x 128 tokens of the default text): after the last layer "
        "SmolLM2-135M, causal, has mean cosine 0.54 and residual to rank 1 of 0.69 (0.05 after layer 12 of 30); MiniLM-L6, "
        "bidirectional, 0.34 and 0.86 after 6 layers: the causal one is the more alike.",
        "Dong 等 2021：没有残差与前馈网络的注意力随深度以双重指数速度坍缩到秩一，残差与前馈网络可阻止它。Wu 等 2024：因果掩码下的纯注意力同样会（指数）坍缩；"
        "有 LayerNorm 时某些值矩阵可保持任意秩。因果 softmax 矩阵是对角为正的三角阵，严格满秩；一般的双向 softmax 矩阵也严格满秩。"
        "两个真实模型（`assay probe rank`，默认文本 4 x 128 个 token）：最后一层之后，因果的 SmolLM2-135M 平均余弦 0.54、到秩一的残差 0.69（30 层中第 12 层之后仅 "
        "0.05）；双向的 MiniLM-L6 在 6 层之后为 0.34 与 0.86：反而是因果模型的表示更相似。",
    ),
    sources=[
        "Dong, Cordonnier & Loukas 2021, Attention is not all you need: pure attention loses rank doubly exponentially "
        "with depth",
        "Wu et al. 2024, On the Role of Attention Masks and LayerNorm in Transformers",
        "Roy & Vetterli 2007, The effective rank",
        "SmolLM2-135M-Instruct (GGUF, Q4_1) and all-MiniLM-L6-v2, as `make real` fetches them",
    ],
    formulas=[
        Formula(
            r"r_1(X) = \frac{\min_{u, v} \lVert X - u v^\top \rVert_F}{\lVert X \rVert_F} "
            r"= \sqrt{1 - \frac{\sigma_1^2}{\sum_i \sigma_i^2}}",
            Words(
                "X: a text's representations, a row a token; sigma: its singular values",
                "X：一段文本的表示，每行一个 token；sigma：奇异值",
            ),
            "after Dong et al. 2021, section 2",
        ),
        Formula(
            r"\mathrm{erank}(A) = \exp\Bigl(-\sum_i p_i \ln p_i\Bigr), \quad p_i = \sigma_i / \sum_j \sigma_j",
            Words("effective rank: from 1 to the size", "有效秩：从 1 到矩阵大小"),
            "Roy & Vetterli 2007",
        ),
    ],
    experiment=Words(
        "Two models that differ in the mask alone decide: equal first weights, objective (prefix LM), data and training "
        "FLOPs, each at its best rate. Both read the same held-out tokens, at one length and head width, one of them all as "
        "prefix, the other causally; residual to rank 1 and mean cosine are taken after the last layer, in float64. "
        "Beside them: the causal decoder as usually built, the encoder of an encoder-decoder, attention matrices, and "
        "fresh models without skips, feed-forward networks or norms.",
        "由仅掩码不同的两个模型判定：初始权重、目标（前缀语言模型）、数据与训练 FLOPs 相同，各自取最佳学习率。两者读入相同的留出文本，长度与头宽固定，一个全部作为前缀，"
        "另一个按因果方式；在最后一层之后以 float64 测量到秩一的残差与平均余弦。并列展示：通常的因果解码器、编码器-解码器的编码器、注意力矩阵，"
        "以及去掉残差、前馈网络或归一化的随机模型。",
    ),
    rule=Words(
        f"95% intervals of the paired difference (t), bidirectional minus causal. Supported if the residual is lower by "
        f"more than {MARGIN} and the cosine higher by more than {MARGIN}; refuted if neither is; depends on the measure if "
        "the two disagree. Attention matrices decide nothing, since their measures disagree with each other.",
        f"双向减因果的配对差，95% t 区间。若残差低出 {MARGIN} 以上且余弦高出 {MARGIN} 以上则支持；两者皆否则否定；两者不一致则取决于度量。"
        "注意力矩阵不参与判定，因为其各种度量互相矛盾。",
    ),
    questions={
        "residual": Question(
            Words("residual to rank 1 after the last layer, bidirectional minus causal, mask alone",
                  "最后一层后到秩一的残差：双向减因果（仅掩码不同）"),
            Superiority(MARGIN, "lower"),
        ),
        "cosine": Question(
            Words("mean cosine after the last layer, bidirectional minus causal, mask alone",
                  "最后一层后的平均余弦：双向减因果（仅掩码不同）"),
            Superiority(MARGIN),
        ),
        "built residual": Question(
            Words("residual to rank 1, prefix decoder minus causal decoder as usually built",
                  "到秩一的残差：前缀解码器减通常的因果解码器"),
            Superiority(MARGIN, "lower"), decides=False,
        ),
        "built cosine": Question(
            Words("mean cosine, prefix decoder minus causal decoder as usually built",
                  "平均余弦：前缀解码器减通常的因果解码器"),
            Superiority(MARGIN), decides=False,
        ),
        "attention": Question(
            Words("effective rank of attention matrices over their size, bidirectional minus causal",
                  "注意力矩阵的有效秩（除以大小）：双向减因果"),
            Superiority(MARGIN, "lower"), decides=False,
        ),
        "exact": Question(
            Words("exact rank of attention matrices over their size, bidirectional minus causal",
                  "注意力矩阵的严格秩（除以大小）：双向减因果"),
            Superiority(MARGIN, "lower"), decides=False,
        ),
    },
    runs=runs,
    measure=measure,
    changes=Words(
        "Other lengths, head widths and depths; longer training; `assay probe rank` gives the same measures of any model.",
        "其他长度、头宽与深度，或更长的训练；`assay probe rank` 可对任何模型给出同样的度量。",
    ),
    verdicts=tuple(Verdict),
    seconds=12.0,
)  # fmt: skip
