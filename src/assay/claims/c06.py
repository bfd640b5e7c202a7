"""C6: denoising is harder to implement and to train."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from assay.claims.base import Claim, Experiment, Formula, Measured, Picture, Question, Table, Tier, Words
from assay.claims.filling import filled
from assay.claims.lab import NEVER, Cell, Lab
from assay.claims.standard import FEW, STEPS, study
from assay.spec.objective import READERS
from assay.stats import Interval, Threshold, Verdict, mean_interval

LM, DENOISING = "prefix_lm", "span_corruption"
NAMES = {LM: "prefix LM", DENOISING: "T5's span corruption"}
DENOISERS = ("span_corruption", "bart", "glm", "ul2")
SHARES = (0.25, 0.5, 1.0)
"""Of the standard steps: lengths of training, each a run of its own with its own schedule."""
Curve = Sequence[tuple[float, float]]


def runs(tier: Tier) -> Mapping[str, Experiment]:
    """One prefix decoder under both objectives, at three lengths of training."""
    steps = tuple(max(round(share * STEPS[tier]), 2) for share in SHARES)
    vary = {"objective": (LM, DENOISING), "train.steps": steps}
    return {"lengths": Experiment(study(tier, model={"family": "prefix"}, vary=vary, seeds=FEW[tier]))}


def settings(kind: str) -> int:
    """Settings that an objective reads and someone has to choose."""
    return sum(kind in readers for readers in READERS.values())


def tokens_to(curve: Curve, loss: float) -> tuple[float, str]:
    """Tokens at which a curve first has a loss, log-linear between its points, and "=".

    "<": its first point is there already, and is given. ">": it never is, and its last is given.
    """
    points = sorted(curve)
    if points[0][1] <= loss:
        return points[0][0], "=" if points[0][1] == loss else "<"
    for (n, a), (m, b) in pairwise(points):
        if b <= loss:
            return math.exp(math.log(n) + (a - loss) / (a - b) * math.log(m / n)), "="
    return points[-1][0], ">"


def tokens_ratio(denoising: Curve, model: Curve) -> tuple[float, str]:
    """Tokens that denoising takes to a loss that both reach, over those of the language model; "=" or a bound.

    The loss is the higher of the two best ones, so that one curve ends there.
    """
    loss = max(min(value for _, value in curve) for curve in (denoising, model))
    (mine, a), (theirs, b) = tokens_to(denoising, loss), tokens_to(model, loss)
    return mine / theirs, "<" if a == "<" else ">" if b == "<" else "="


def measure(lab: Lab) -> Measured:
    """Settings, padding and speed of each objective; curves of both losses over tokens."""
    results = lab.results("lengths")
    length, count = lab.by_tier(smoke=32, quick=64, full=128), lab.by_tier(smoke=8, quick=64, full=512)
    by: dict[str, list[Cell]] = {
        kind: [cell for cell in results.cells if cell.labels["objective"] == kind] for kind in NAMES
    }
    curves: dict[tuple[str, str], list[list[tuple[float, float]]]] = {}
    for kind, cells in by.items():
        whole = [s for s in range(len(cells[0].runs)) if all(cell.runs[s].done for cell in cells)]
        curves["continuation", kind], curves["infilling", kind] = [], []
        for seed in whole:
            runs = [cell.runs[seed] for cell in cells]
            tokens = [float(run.result["input_tokens"]) for run in runs]
            curves["continuation", kind].append([(n, run.bits_per_byte) for n, run in zip(tokens, runs, strict=True)])
            fills = [filled(run, length=length, count=count) for run in runs]
            curves["infilling", kind].append(list(zip(tokens, fills, strict=True)))
    answers: dict[str, Interval] = {"settings": Interval.exact(min(map(settings, DENOISERS)) - settings("causal_lm"))}
    table: list[list[str | float | int | None]] = []
    for what in ("continuation", "infilling"):
        pairs = list(zip(curves[what, DENOISING], curves[what, LM], strict=False))
        ratios = [tokens_ratio(mine, theirs) for mine, theirs in pairs]
        answers[what] = _logs([value for value, _ in ratios])
        table += [[what, seed, f"{sign} {value:.3g}"] for seed, (value, sign) in enumerate(ratios)]
    work, padding, speed = _implementation(lab)
    return Measured(
        answers=answers | {"padding": padding, "speed": speed},
        pictures=[
            _picture(curves, "continuation", "bits per byte", "续写损失随训练 token 数的变化，95% 区间"),
            _picture(curves, "infilling", "nats a hidden token", "填空损失随训练 token 数的变化，95% 区间"),
        ],
        tables=[
            Table(
                Words("Tokens to a given loss, denoising over prefix LM (> and <: bounds)",
                      "达到给定损失所需 token 数之比：去噪比前缀语言模型（> 与 < 为界限）"),
                ["loss", "seed", "ratio"], table,
            ),
            Table(
                Words("What each objective asks of its pipeline, in a prefix decoder (causal LM: in a causal one)",
                      "各目标对数据流程的要求（前缀解码器；因果语言模型用因果解码器）"),
                ["objective", "settings", "share of padding", "targets over inputs", "time a batch, over causal LM"],
                work,
            ),
        ],
        remarks=results.remarks(),
    )  # fmt: skip


def _logs(ratios: Sequence[float]) -> Interval:
    if not ratios:
        return NEVER
    found = mean_interval([math.log2(value) for value in ratios])
    return Interval(found.estimate, found.low, found.high, found.confidence, found.n, f"{found.method}, of log2")


def _picture(curves: Mapping[tuple[str, str], Sequence[Curve]], what: str, y: str, zh: str) -> Picture:
    rows: list[dict[str, Any]] = []
    for kind, name in NAMES.items():
        for points in zip(*curves[what, kind], strict=True):
            at = mean_interval([loss for _, loss in points])
            tokens = sum(n for n, _ in points) / len(points)
            rows.append({"series": name, "x": tokens, "y": at.estimate, "low": at.low, "high": at.high})
    title = Words(f"{what.capitalize()} loss over tokens of training, 95% interval", zh)
    return Picture(title, rows, x="tokens read in training", y=y, log_x=True)


def _implementation(lab: Lab) -> tuple[list[list[str | float | int | None]], Interval, Interval]:
    """(a row an objective, padding's difference and time's ratio between span corruption and causal LM)."""
    from assay.training.setup import make_loader
    from assay.training.text import load_text, resolve

    batches = lab.by_tier(smoke=2, quick=40, full=200)
    kinds = ("causal_lm", LM, *DENOISERS)
    rows: list[list[str | float | int | None]] = []
    padding: dict[str, float] = {}
    spent: dict[str, list[float]] = {}
    for kind in kinds:
        family = "causal" if kind == "causal_lm" else "prefix"
        (run,) = study(lab.tier, model={"family": family}, objective=kind, seeds=1).runs()
        run = resolve(run)
        loader = make_loader(run, load_text(run.data))
        padding[kind] = loader.padding(0)
        made = [loader.batch(0, step) for step in range(3)]
        inputs = sum(int((b.document_ids > 0).sum()) for b in made)
        targets = sum(float((b.weights > 0).sum()) for b in made)
        spent[kind] = []
        for turn in range(3):
            began = time.process_time()
            for step in range(batches):
                loader.batch(0, 3 + turn * batches + step)
            spent[kind].append((time.process_time() - began) / batches)
        rows.append([kind, settings(kind), padding[kind], targets / max(inputs, 1), None])
    base = sum(spent["causal_lm"]) / 3
    for row, kind in zip(rows, kinds, strict=True):
        row[-1] = sum(spent[kind]) / 3 / base
    speed = mean_interval([mine / base for mine in spent[DENOISING]])
    return rows, Interval.exact(padding[DENOISING] - padding["causal_lm"]), speed


CLAIM = Claim(
    key="C6",
    title=Words("Denoising is harder to implement and to train", "去噪目标更难实现、更难训练"),
    says=Words(
        "Denoising objectives (T5, GLM) take more to implement and are harder to train than a language model's.",
        "去噪类目标（T5、GLM）比语言模型目标更难实现，也更难训练。",
    ),
    literature=Words(
        "Raffel et al. 2020 (T5), sections 3.3.1 and 3.3.3: denoising beats language modelling for tuning an "
        "encoder-decoder, and shorter targets make it cheaper. Wang et al. 2022: zero-shot after pretraining, language "
        "modelling is ahead (44.2 for the causal decoder).",
        "Raffel 等 2020（T5）第 3.3.1、3.3.3 节：用于编码器-解码器微调时，去噪优于语言模型目标，且目标更短、训练更便宜。"
        "Wang 等 2022：预训练后零样本，语言模型目标领先（因果解码器 44.2）。",
    ),
    sources=[
        "Raffel et al. 2020, Exploring the Limits of Transfer Learning, section 3.3",
        "Wang et al. 2022, What Language Model Architecture and Pretraining Objective Work Best for Zero-Shot "
        "Generalization?, figure 3",
    ],
    formulas=[
        Formula(
            r"L_{\text{denoise}} = -\mathbb{E}_{x,\, M} \sum_{i \in M} \ln p(x_i \mid x_{\setminus M},\, x_{j \in M,\, j < i})",
            Words(
                "M: hidden tokens, drawn at random; a language model has M = all tokens behind a split",
                "M：随机选取的被遮 token；语言模型中 M 为分割点之后的全部 token",
            ),
            "Raffel et al. 2020, section 3.1.4",
        )
    ],
    experiment=Words(
        "Implementation is counted: settings that someone has to choose, in assay's own objectives; beside them padding and "
        "the time that the pipeline takes for a batch. Learning is a question of its own: one prefix decoder, equal first "
        "weights, rows and rate, is trained for a quarter, a half and all of the standard steps under prefix LM and "
        "under span corruption; how many tokens does each need to a continuation loss, and to a loss on tokens hidden "
        "inside a text (prefix LM reads these from the left, the denoiser from both sides)?",
        "实现部分为计数：在 assay 自身的各目标中须由人选择的设置数；并列给出填充浪费与数据流程每批的耗时。学习部分另问：同一前缀解码器（初始权重、批次与学习率相同）"
        "分别以前缀语言模型与片段破坏目标训练标准步数的四分之一、一半与全部；各需多少 token 才能达到给定的续写损失，以及文本内被遮 token 的损失"
        "（前缀语言模型从左读，去噪模型可见两侧）？",
    ),
    rule=Words(
        "Harder to implement: any denoiser has more settings than causal LM (exact). Harder to train: the 95% interval (t, "
        "over seeds) of log2 of the ratio of tokens lies above 0.25 (19% more tokens), for continuation and for "
        "infilling, each a question. Supported if all hold, depends if they disagree. A ratio beyond the "
        "shortest run is taken at its bound.",
        "更难实现：任何去噪目标的设置都多于因果语言模型（精确）。更难训练：token 数之比的 log2 的 95% t 区间大于 0.25（多 19%），续写与填空各为一问。"
        "全部成立则支持，互相矛盾则取决于任务。超出最短训练的比值取界限。",
    ),
    questions={
        "settings": Question(
            Words("settings of the simplest denoiser, minus those of causal LM", "最简单去噪目标的设置数减因果语言模型的设置数"),
            Threshold(0.0),
        ),
        "continuation": Question(
            Words("log2 of the tokens to a continuation loss, span corruption over prefix LM",
                  "达到给定续写损失所需 token 数之比的 log2：片段破坏比前缀语言模型"),
            Threshold(0.25), "doublings",
        ),
        "infilling": Question(
            Words("log2 of the tokens to an infilling loss, span corruption over prefix LM",
                  "达到给定填空损失所需 token 数之比的 log2：片段破坏比前缀语言模型"),
            Threshold(0.25), "doublings",
        ),
        "padding": Question(
            Words("share of padding, span corruption minus causal LM", "填充比例：片段破坏减因果语言模型"),
            Threshold(0.0), decides=False,
        ),
        "speed": Question(
            Words("time of the pipeline a batch, span corruption over causal LM", "数据流程每批耗时：片段破坏比因果语言模型"),
            Threshold(1.0), "x", decides=False,
        ),
    },
    runs=runs,
    measure=measure,
    changes=Words(
        "Longer training: denoising pays late, and after tuning (Raffel et al. 2020). A mixture with a suffix to predict "
        "(UL2, GLM's [gMASK]) learns to continue as well.",
        "更长的训练：去噪的收益来得晚，并在微调后显现（Raffel 等 2020）。包含后缀预测的混合目标（UL2、GLM 的 [gMASK]）也能学会续写。",
    ),
    verdicts=tuple(Verdict),
    seconds=12.0,
)  # fmt: skip
