"""C36: LayerNorm suits bidirectional models, RMSNorm autoregressive ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from assay.claims.base import Claim, Experiment, Formula, Measured, Picture, Question, Table, Tier, Words
from assay.claims.families import experiments
from assay.claims.lab import NEVER, Cell, Lab, Trained
from assay.claims.placements import edges, mean_of
from assay.stats import Interval, Threshold

MARGIN = 0.02
FAMILIES = {"causal": "causal decoder", "prefix": "prefix decoder", "parameters": "encoder-decoder"}
NORMS = ("layernorm", "rmsnorm")


def runs(tier: Tier) -> Mapping[str, Experiment]:
    """Three families (the standard ones of the family claims, which have RMSNorm) with both norms, each at its best rate."""
    found = {}
    for name, experiment in experiments(tier, *FAMILIES).items():
        for norm in NORMS:
            found[f"{name}-{norm}"] = dataclasses.replace(
                experiment, study=experiment.study.with_(**{"model.norm": norm})
            )
    return found


def measure(lab: Lab) -> Measured:
    """The norm's effect in each family, their differences, and the mean's share of the stream."""
    cells = {(f, n): lab.results(f"{f}-{n}").cell() for f in FAMILIES for n in NORMS}
    effect = {f: cells[f, "rmsnorm"].minus(cells[f, "layernorm"]) for f in FAMILIES}
    points = [
        {"series": "RMSNorm - LayerNorm", "x": FAMILIES[f], "y": e.estimate, "low": e.low, "high": e.high}
        for f, e in effect.items() if e is not NEVER
    ]  # fmt: skip
    shares: list[dict[str, Any]] = []
    means: dict[str, list[float]] = {"causal": [], "encoder": []}
    for family, name in FAMILIES.items():
        cell = cells[family, "rmsnorm"]
        by_seed = [stream_shares(run) for run in cell.runs if run.done]
        for stack in by_seed[0] if by_seed else ():
            label = f"{name}, {stack}" if len(by_seed[0]) > 1 else name
            for layer, values in enumerate(zip(*(seed[stack] for seed in by_seed), strict=True), start=1):
                at = mean_of(values)
                shares.append({"series": label, "x": layer, "y": at.estimate, "low": max(at.low, 0.0), "high": at.high})
        if family == "causal":
            means["causal"] = [float(np.mean(seed["decoder"])) for seed in by_seed]
        elif family == "parameters":
            means["encoder"] = [float(np.mean(seed["encoder"])) for seed in by_seed]
    both = list(zip(means["encoder"], means["causal"], strict=False))
    return Measured(
        answers={
            "prefix": interaction(cells, "prefix"),
            "encoder_decoder": interaction(cells, "parameters"),
            "share": mean_of([a - b for a, b in both]),
        },
        pictures=[
            Picture(Words("Held-out loss of RMSNorm minus LayerNorm by family, 95% interval", "各家族留出损失：RMSNorm 减 LayerNorm，95% 区间"),
                    points, x="family", y="bits per byte", kind="points"),
            Picture(Words("Share of the mean in the trained stream (RMSNorm): what LayerNorm would take out",
                          "训练后残差流中均值分量的占比（RMSNorm）：LayerNorm 会去掉的部分"),
                    shares, x="layer", y="share of the squared norm"),
        ],
        tables=[
            Table(Words("Each at its own best rate", "各取最佳学习率"), ["family", "norm", "rate", "bits per byte", "low", "high"],
                  [[FAMILIES[f], n, c.rate, c.mean.estimate, c.mean.low, c.mean.high] for (f, n), c in cells.items()])
        ],
        remarks=edges({f"{FAMILIES[f]}, {n}": cell for (f, n), cell in cells.items()}),
    )  # fmt: skip


def interaction(cells: Mapping[tuple[str, str], Cell], family: str) -> Interval:
    """(RMSNorm - LayerNorm) in a family minus the same in the causal decoder, paired by seed."""
    return crossed(*(cells[f, n].bits for f in (family, "causal") for n in ("rmsnorm", "layernorm")))


def crossed(a: Any, b: Any, c: Any, d: Any) -> Interval:
    """(a - b) - (c - d) over the seeds [seeds] of which all four are finite."""
    whole = np.isfinite(np.stack([a, b, c, d])).all(axis=0)
    return mean_of((a[whole] - b[whole]) - (c[whole] - d[whole]))


def stream_shares(run: Trained) -> dict[str, list[float]]:
    """Share of the mean in the stream by stack and layer, on a batch of the run's own text."""
    from assay.probes.mean_component import mean_shares
    from assay.training.setup import make_loader
    from assay.training.text import resolve

    return mean_shares(run.model().transformer, make_loader(resolve(run.run), run.text()).batch(0, 0))


CLAIM = Claim(
    key="C36",
    title=Words("LayerNorm for bidirectional, RMSNorm for autoregressive models", "LayerNorm 适合双向模型，RMSNorm 适合自回归模型"),
    says=Words(
        "LayerNorm suits models that read in both directions, RMSNorm those that generate from left to right.",
        "LayerNorm 更适合双向模型，RMSNorm 更适合自回归模型。",
    ),
    literature=Words(
        "Published models contradict a strict rule: GPT-2, GPT-3, OPT and BLOOM are autoregressive with LayerNorm, T5 has a "
        "bidirectional encoder with RMSNorm. Narang et al. 2021 (T5 variants, table 1) find RMSNorm at least as good "
        "in an encoder-decoder: final loss 1.821 against 1.838.",
        "已发布的模型与严格规则相矛盾：GPT-2、GPT-3、OPT、BLOOM 是使用 LayerNorm 的自回归模型，T5 的双向编码器使用 RMSNorm。Narang 等 2021（T5 变体，表 1）发现编码器-"
        "解码器中 RMSNorm 至少一样好：最终损失 1.821 对 1.838。",
    ),
    sources=["Narang et al. 2021, Do Transformer Modifications Transfer Across Implementations and Applications?, table 1",
             "assay table norms"],
    formulas=[
        Formula(
            r"\|x\|^2=d\,\mu^2+\|x-\mu\mathbf 1\|^2,\qquad \text{share of the mean}=\frac{d\,\mu^2}{\|x\|^2}",
            Words(
                "mu: mean of a token's d features; where the share is 0 both norms compute the same",
                "mu：一个 token 的 d 个特征的均值；占比为 0 时两种归一化结果相同",
            ),
        )
    ],
    experiment=Words(
        "Causal decoder, prefix decoder (its prefix reads in both directions) and encoder-decoder of equal parameters, at equal "
        "training FLOPs, with both norms, each of the six at its own best rate, seeds paired. What decides is the interaction: "
        "RMSNorm minus LayerNorm in the family with bidirectional reading, minus the same in the causal decoder. Beside it: how "
        "much of the trained stream is its mean, which is all that LayerNorm takes out besides.",
        "因果解码器、前缀解码器（前缀部分双向）与参数量相等的编码器-解码器，训练 FLOPs 相同，各用两种归一化，六者各取最佳学习率，种子配对。判定量是交互作用：双向家族中 RMSNorm 减 "
        "LayerNorm，再减去因果解码器中的同一差值。另测训练后残差流中均值的占比，即 LayerNorm 比 RMSNorm 多去掉的部分。",
    ),
    rule=Words(
        f"Supported if the 95% interval of the interaction (Student t over seeds) lies above {MARGIN} bits per byte in both, "
        "refuted where it lies under that; a difference of less would not guide a choice.",
        f"若交互作用的 95% 区间（对种子 t）在两者中都高于 {MARGIN} 比特每字节则支持，低于则否定；更小的差异不足以指导选择。",
    ),
    questions={
        "prefix": Question(
            Words("(RMSNorm - LayerNorm) in the prefix decoder minus in the causal decoder", "前缀解码器中（RMSNorm − LayerNorm）减因果解码器中的同一差值"),
            Threshold(MARGIN), "bits per byte",
        ),
        "encoder_decoder": Question(
            Words("the same, encoder-decoder against causal decoder", "编码器-解码器相对因果解码器的同一量"),
            Threshold(MARGIN), "bits per byte",
        ),
        "share": Question(
            Words("share of the mean in the stream, encoder minus causal decoder", "残差流均值占比：编码器减因果解码器"),
            Threshold(0.0), "share", decides=False,
        ),
    },
    runs=runs,
    measure=measure,
    changes=Words("More seeds and longer training narrow the interval.", "更多种子与更长训练会收窄区间。"),
    seconds=8.0,
)  # fmt: skip
