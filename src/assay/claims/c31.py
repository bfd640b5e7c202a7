"""C31: a short UL2 continuation improves a causal model (U-PaLM)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from assay.claims import families
from assay.claims.base import Claim, Experiment, Measured, Picture, Question, Table, Tier, Words
from assay.claims.filling import filled
from assay.claims.lab import NEVER, Cell, Lab, Results
from assay.claims.standard import RATES, STEPS, study
from assay.stats import Superiority, Verdict, mean_interval, paired_difference

SHARE = 0.25
"""Of the base model's FLOPs. U-PaLM took 0.16% of PaLM's: a share that here would be less than a step."""
NAMES = {"ul2": "base, then UL2 (U-PaLM's mixture)", "causal": "base, then causal LM", "base": "base"}
OBJECTIVES: dict[str, Any] = {"ul2": {"kind": "ul2", "mixture": "upalm"}, "causal": "causal_lm"}


def runs(tier: Tier) -> Mapping[str, Experiment]:
    """The standard causal decoder, and both ways on from its weights at equal extra FLOPs, each at its best rate."""
    base = Experiment(study(tier), RATES[tier])
    # At a fresh model's rates a trained one is thrown back first: the lowest of them was the best.
    lower = tuple(rate / 4 for rate in RATES[tier])
    train = {"budget": SHARE * families.budget(tier)} if STEPS[tier] * SHARE >= 2 else {"steps": 2}
    return {
        name: Experiment(study(tier, train=train, objective=objective), lower, begins=base)
        for name, objective in OBJECTIVES.items()
    } | {"base": base}


def measure(lab: Lab) -> Measured:
    """Continuation and infilling loss after both ways, paired by seed."""
    cells: dict[str, Cell] = {
        name: replace(lab.results(name).cell(), labels={"model": NAMES[name]}) for name in ("base", "causal", "ul2")
    }
    length, count = lab.by_tier(smoke=32, quick=64, full=128), lab.by_tier(smoke=8, quick=64, full=512)
    fills = {
        name: {run.run.seed: filled(run, length=length, count=count) for run in cell.runs if run.done}
        for name, cell in cells.items()
    }
    both = sorted(fills["ul2"].keys() & fills["causal"].keys())
    infilling = (
        paired_difference([fills["ul2"][s] for s in both], [fills["causal"][s] for s in both]) if both else NEVER
    )
    points: list[dict[str, Any]] = []
    fill_points: list[dict[str, Any]] = []
    table: list[list[str | float | int | None]] = []
    for name, cell in cells.items():
        at, fill = cell.mean, mean_interval(list(fills[name].values())) if fills[name] else NEVER
        points.append({"series": NAMES[name], "x": NAMES[name], "y": at.estimate, "low": at.low, "high": at.high})
        fill_points.append(
            {"series": NAMES[name], "x": NAMES[name], "y": fill.estimate, "low": fill.low, "high": fill.high}
        )
        table.append([NAMES[name], cell.rate, at.estimate, at.low, at.high, fill.estimate, fill.low, fill.high])
    return Measured(
        answers={"continuation": cells["ul2"].minus(cells["causal"]), "infilling": infilling},
        pictures=[
            Picture(
                Words("Held-out continuation loss, 95% interval", "留出续写损失，95% 区间"),
                points, x="model", y="bits per byte", kind="points",
            ),
            Picture(
                Words("Loss on hidden tokens, each asked in the form it was trained on, 95% interval",
                      "被遮 token 的损失（各按其训练形式提问），95% 区间"),
                fill_points, x="model", y="nats a hidden token", kind="points",
            ),
        ],
        tables=[
            Table(
                Words("Each at its own best rate; both ways on at equal extra FLOPs", "各自取最佳学习率；两种续训的额外 FLOPs 相等"),
                ["model", "rate", "bits per byte", "low", "high", "nats a hidden token", "low", "high"], table,
            )
        ],
        remarks=Results(list(cells.values())).remarks(),
    )  # fmt: skip


CLAIM = Claim(
    key="C31",
    title=Words("A short UL2 continuation improves a causal model", "短暂的 UL2 续训可提升因果模型"),
    says=Words(
        "Going on with UL2's mixture of denoisers for a small share of the compute makes a causal model better (U-PaLM).",
        "用少量计算以 UL2 混合去噪目标继续训练，可使因果模型变得更好（U-PaLM）。",
    ),
    literature=Words(
        "Tay et al. 2022 (U-PaLM): 20,000 steps, about 1.3 billion tokens and 0.16% more compute, half S, a quarter R and a "
        "quarter X, bring PaLM 540B to the quality that it would otherwise reach with about twice the compute; the model "
        "can then fill gaps as well.",
        "Tay 等 2022（U-PaLM）：2 万步、约 13 亿 token、0.16% 额外计算（S 占一半，R、X 各四分之一），使 PaLM 540B 达到约需两倍计算才有的水平，且模型获得填空能力。",
    ),
    sources=["Tay et al. 2022, Transcending Scaling Laws with 0.1% Extra Compute"],
    experiment=Words(
        f"The standard causal decoder is trained, then goes on from its weights for {SHARE:.0%} of its FLOPs: with U-PaLM's "
        "mixture under the causal mask, or with causal LM as before; each way at its own best rate, paired by seed, with "
        "a fresh schedule and optimizer. Compared: held-out continuation loss, and the loss on tokens hidden in held-out "
        "text (a causal model reads the text from the left; a UL2 model is given both sides).",
        f"先训练标准因果解码器，再从其权重出发用其 {SHARE:.0%} 的 FLOPs 续训：一种在因果掩码下用 U-PaLM 混合目标，另一种照旧用因果语言模型；各取最佳学习率，按种子配对，"
        "优化器与学习率计划重新开始。比较：留出续写损失，以及留出文本中被遮 token 的损失（因果模型从左读，UL2 模型可见两侧）。",
    ),
    rule=Words(
        "95% intervals of the paired difference (t), UL2 minus causal LM. Supported if both losses are lower after UL2, "
        "refuted if both are higher, depends on what is asked if one is lower and one higher; else undecided.",
        "配对差（UL2 减因果语言模型）的 95% t 区间。若 UL2 之后两种损失都更低则支持，都更高则否定，一低一高则取决于任务，否则未定。",
    ),
    questions={
        "continuation": Question(
            Words("held-out continuation loss, UL2 minus causal LM", "留出续写损失：UL2 减因果语言模型"),
            Superiority(0.0, "lower"), "bits per byte",
        ),
        "infilling": Question(
            Words("loss on hidden tokens, UL2 minus causal LM", "被遮 token 的损失：UL2 减因果语言模型"),
            Superiority(0.0, "lower"), "nats per token",
        ),
    },
    runs=runs,
    measure=measure,
    changes=Words(
        "Scale above all: U-PaLM began from a model trained on 780 billion tokens, and was judged by few-shot tasks. A "
        "longer continuation gives the new form of task more steps.",
        "首先是规模：U-PaLM 从用 7800 亿 token 训练的模型出发，以少样本任务评判。更长的续训会让新任务形式得到更多步数。",
    ),
    verdicts=tuple(Verdict),
    seconds=8.0,
)  # fmt: skip
