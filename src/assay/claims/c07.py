"""C7: emergence from the metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from assay.claims.base import Claim, Formula, Measured, Picture, Question, Table, Words
from assay.claims.lab import Lab
from assay.claims.sizes import PARTS, experiments, family
from assay.stats import Interval, Superiority, Threshold, mean_interval
from assay.stats.emergence import MOST, SMOOTH, Emergence, analyse

SHARPER = 0.05
NEVER = Interval(math.nan, math.nan, math.nan, 0.95, 0, "not measured: nothing changed over the sizes")


def sharpness(values: Sequence[float]) -> float | None:
    """The steepest step's share of the whole change between neighbouring sizes; None where nothing changes."""
    steps = np.abs(np.diff(np.asarray(values, dtype=np.float64)))
    return float(steps.max() / steps.sum()) if steps.sum() > 1e-12 else None


def over_seeds(values: Sequence[float | None]) -> Interval:
    """Mean and t interval over the seeds; undecided where a seed has no value."""
    known = [value for value in values if value is not None]
    return mean_interval(known) if len(known) == len(values) and known else NEVER


def answers(found: Sequence[Emergence]) -> dict[str, Interval]:
    """From one analysis a seed."""
    exact = [next(c for c in each.curves if c.metric == "exact match") for each in found]
    edits = [next(c for c in each.curves if c.metric == "edit distance") for each in found]
    gaps: dict[str, list[float | None]] = {"sharper": [], "edits": []}
    for each, one, other in zip(found, exact, edits, strict=True):
        top = sharpness(one.observed)
        for name, values in (("sharper", each.nats or []), ("edits", other.observed)):
            low = sharpness(values)
            gaps[name].append(None if top is None or low is None else top - low)
    return {
        "metric": over_seeds([curve.explained_own for curve in exact]),
        "smooth": over_seeds([each.law.fit if each.law else None for each in found]),
        "sharper": over_seeds(gaps["sharper"]),
        "edits": over_seeds(gaps["edits"]),
    }


def measure(lab: Lab) -> Measured:
    """One analysis a seed, on the same outputs in all metrics."""
    from assay.evaluation.outcomes import together

    by_seed = family(lab)
    resamples = lab.by_tier(smoke=100, quick=500, full=2000)
    found = [analyse(together("assay", models), resamples=resamples) for models in by_seed if len(models) > 1]
    scales = found[0].scales
    pictures = []
    for metric, words in (("exact match", "精确匹配"), ("edit distance", "编辑距离")):
        curves = [next(c for c in each.curves if c.metric == metric) for each in found]
        rows: list[dict[str, Any]] = []
        for name, values in (
            ("observed", [c.observed for c in curves]),
            ("each model's own log-probability", [c.own for c in curves if c.own is not None]),
            ("smooth fit over sizes", [c.predicted for c in curves]),
        ):
            mean = np.mean(values, axis=0)
            rows += [{"series": name, "x": x, "y": float(y)} for x, y in zip(scales, mean, strict=True)]
        pictures.append(
            Picture(
                Words(f"{metric.capitalize()} over size: observed and predicted, mean of seeds", f"{words}随规模的变化：观测与预测，各种子平均"),
                rows, x="parameters", y=metric, log_x=True,
            )
        )  # fmt: skip
    nats = np.array([each.nats for each in found])
    pictures.append(
        Picture(
            Words("The log-probability of the same answers", "同样答案的对数概率"),
            [{"series": f"seed {s}", "x": x, "y": float(y)} for s, row in enumerate(nats) for x, y in zip(scales, row, strict=True)],
            x="parameters", y="nats a token", log_x=True, log_y=True,
        )
    )  # fmt: skip
    exact = [next(c for c in each.curves if c.metric == "exact match") for each in found]
    edits = [next(c for c in each.curves if c.metric == "edit distance") for each in found]
    table: list[list[str | float | int | None]] = [
        [name, scale, float(nats[:, i].mean()), float(np.mean([c.observed[i] for c in exact])),
         float(np.mean([(c.own or c.predicted)[i] for c in exact])), float(np.mean([c.observed[i] for c in edits]))]
        for i, (name, scale) in enumerate(zip(found[0].models, scales, strict=True))
    ]  # fmt: skip
    return Measured(
        answers=answers(found),
        pictures=pictures,
        tables=[
            Table(
                Words("Mean of the seeds", "各种子平均"),
                ["model", "parameters", "nats a token", "exact match", "p^L of its own", "edit distance"], table,
            )
        ],
        remarks=[Words(f"Seed {s}: {c.verdict}.", f"种子 {s}（assay emergence 的判语，英文）：{c.verdict}。") for s, c in enumerate(exact)],
    )  # fmt: skip


CLAIM = Claim(
    key="C7",
    title=Words("Emergence comes from the metric", "涌现来自评价指标"),
    says=Words(
        "Abilities seem to appear suddenly because the metric is not smooth: exact match gives nothing until the whole answer is "
        "right, while the probability of the right answer has been rising all along.",
        "能力看似突然出现，是因为指标不平滑：精确匹配在整个答案全对之前一直为零，而正确答案的概率其实一直在平稳上升。",
    ),
    literature=Words(
        "Schaeffer et al. 2023: exact match over L tokens is about p^L; over 92% of BIG-Bench's emergent cases use exact match "
        "or multiple-choice grade; under edit distance or Brier score the jumps vanish. Wei et al. 2022 describe the jumps, and "
        "note that cross-entropy improves where accuracy is flat.",
        "Schaeffer 等 2023：L 个 token 的精确匹配约为 p^L；BIG-Bench 中超过 92% 的“涌现”案例使用精确匹配或多选评分；换成编辑距离或 Brier 分数后跳变消失。"
        "Wei 等 2022 描述了这些跳变，并指出准确率平坦时交叉熵仍在改善。",
    ),
    sources=[
        "Schaeffer et al. 2023, Are Emergent Abilities of Large Language Models a Mirage?",
        "Wei et al. 2022, Emergent Abilities of Large Language Models",
    ],
    formulas=[
        Formula(
            r"-\log p(s) = e^{a - b \log s}, \qquad P(\text{exact match}) \approx p^L, \qquad "
            r"\mathbb{E}[\text{edit distance}] \approx L (1 - p)",
            Words("s: parameters; p: a token's probability; L: tokens of the answer", "s：参数量；p：单个 token 的概率；L：答案 token 数"),
            "Schaeffer et al. 2023, section 2",
        )
    ],
    experiment=Words(
        f"One decoder in five sizes or more, equal in text, tokens and steps, each at its own best rate, learns a made task: {PARTS} digits known by heart, "
        "asked at once. On the same unseen prompts each model's log-probability of the right answer, what it writes, exact "
        "match and edit distance are taken; `assay emergence`'s analysis is done for each seed: exact match from each model's "
        "own probabilities, and from a power law fitted over the sizes.",
        f"同一解码器的五个以上规模，文本、token 与步数相同，各取最佳学习率，学习一个人造任务：一次问 {PARTS} 个需要记住的数字。在同样的未见提示上取每个模型对正确答案的对数概率、"
        "其写出的内容、精确匹配与编辑距离；对每个种子做 assay emergence 的分析：由各模型自身概率、以及由跨规模拟合的幂律预测精确匹配。",
    ),
    rule=Words(
        f"Three must hold (95% t interval over seeds): each model's own probabilities explain more than {MOST:.0%} of exact "
        f"match's variance over sizes; the log-probability is itself smooth, a power law explaining more than {SMOOTH:.0%} of "
        f"it; and the steepest step takes a share of exact match's change that is larger by more than {SHARPER} than its share "
        "of the log-probability's. All: supported; none: refuted; some refuted: depends, the metric making a part of the jump.",
        f"须满足三条（对种子取 95% t 区间）：各模型自身概率解释精确匹配随规模方差的 {MOST:.0%} 以上；对数概率本身平滑，幂律解释其 {SMOOTH:.0%} 以上；"
        f"精确匹配最陡一步占总变化的份额比对数概率的高出 {SHARPER} 以上。全部满足为支持，全不满足为否定，部分不满足为视情况而定（指标只造成一部分跳变）。",
    ),
    questions={
        "metric": Question(
            Words("share of exact match's variance explained by each model's own log-probability", "精确匹配的方差由各模型自身对数概率解释的份额"),
            Threshold(MOST), "of the variance",
        ),
        "smooth": Question(
            Words("share of the log-probability's variance that a power law in size explains", "对数概率的方差由规模的幂律解释的份额"),
            Threshold(SMOOTH), "of the variance",
        ),
        "sharper": Question(
            Words("steepest step's share of the change, exact match minus log-probability", "最陡一步占总变化的份额：精确匹配减对数概率"),
            Superiority(SHARPER, "higher"), "of the change",
        ),
        "edits": Question(
            Words("the same, exact match minus edit distance", "同上：精确匹配减编辑距离"),
            Superiority(SHARPER, "higher"), "of the change", decides=False,
        ),
    },
    runs=experiments,
    measure=measure,
    changes=Words(
        "Another task: where learning itself comes at once (a mechanism that either is found within the steps or is not), the "
        "log-probability jumps too, and no metric smooths that away. Sizes that are closer together, and longer training.",
        "换一个任务：若学习本身是突然的（某种机制在给定步数内要么学到要么没有），对数概率也会跳变，任何指标都无法抹平。更密的规模与更长的训练也会改变结果。",
    ),
    seconds=20.0,
)  # fmt: skip
