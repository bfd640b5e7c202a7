"""C24: pretraining saves labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from assay.claims import labelled
from assay.claims.base import Claim, Experiment, Formula, Measured, Picture, Question, Table, Tier, Words
from assay.claims.lab import NEVER, Lab, Trained
from assay.stats import Interval, Threshold, Verdict, mean_interval, paired_difference

if TYPE_CHECKING:
    from assay.generation.model import Model

LEAST = 1.5
"""Times the labels: less would hardly pay for a pretraining."""
ARMS = ("pretrained", "scratch")


def runs(tier: Tier) -> Mapping[str, Experiment]:
    """Pretraining on the text without labels."""
    return {"text": labelled.pretraining(tier)}


def ratio(pretrained: Sequence[tuple[int, float]], scratch: Sequence[tuple[int, float]], at: int) -> tuple[float, str]:
    """Labels that fresh weights need for what pretrained ones reach with `at`, over `at`.

    Where fresh weights do not get there the ratio is at least what the last point gives, and that is taken; where
    they begin above it, at most what the first gives.

    Returns:
        The ratio, and "=", ">" or "<".
    """
    from assay.studies.label_efficiency import labels_needed

    reached = dict(pretrained)[at]
    needed = labels_needed(list(scratch), reached)
    if needed is None:
        return scratch[0][0] / at, "<"
    if math.isinf(needed):
        return scratch[-1][0] / at, ">"
    return needed / at, "="


def geometric(values: Sequence[float]) -> Interval:
    """Geometric mean with the t interval of the logarithms."""
    found = mean_interval([math.log(value) for value in values])
    low, high = math.exp(found.low), math.exp(found.high) if found.high < 700 else math.inf
    return Interval(math.exp(found.estimate), low, high, found.confidence, found.n, f"{found.method}, of logarithms")


def measure(lab: Lab) -> Measured:
    """Accuracy by labels of both arms, and the labels saved."""
    results = lab.results("text")
    done = [run for run in results.cell().runs if run.done]
    counts = lab.by_tier(smoke=(8, 16), quick=(8, 32, 128, 512), full=(8, 16, 32, 64, 128, 256, 512, 1024, 2048))
    at = lab.by_tier(smoke=8, quick=32, full=32)
    if not done:
        return Measured({"ratio": NEVER, "accuracy": NEVER}, remarks=results.remarks())
    rates, rows = {}, []
    for arm in ARMS:
        rates[arm] = _best_rate(lab, arm, done, at)
        rows += _curve(lab, arm, done, counts, rates[arm])
    curves = {
        (arm, seed): [(r["labels"], r["accuracy"]) for r in rows if r["arm"] == arm and r["seed"] == seed]
        for arm in ARMS
        for seed in range(len(done))
    }
    ratios = [ratio(curves["pretrained", s], curves["scratch", s], at) for s in range(len(done))]
    gains = [[dict(curves[arm, s])[at] for s in range(len(done))] for arm in ARMS]
    points: list[dict[str, Any]] = []
    for arm in ARMS:
        for count in counts:
            mean = mean_interval([dict(curves[arm, s])[count] for s in range(len(done))])
            row = {"series": arm, "x": count, "y": mean.estimate, "low": max(mean.low, 0), "high": min(mean.high, 1)}
            points.append(row)
    table: list[list[str | float | int | None]] = [
        [s, gains[0][s], gains[1][s], f"{sign} {value:.3g}"] for s, (value, sign) in enumerate(ratios)
    ]
    said = ", ".join(f"{arm} {rate:g}" for arm, rate in rates.items())
    remarks = [*results.remarks(), Words(f"Rates of tuning: {said}.", f"微调学习率：{said}。")]
    if any(sign != "=" for _, sign in ratios):
        remarks.append(
            Words(
                "A ratio marked > (<) is a bound: fresh weights did not reach the accuracy with all labels (had it with "
                "the fewest). The bound was taken.",
                "标 >（<）的比值为界限：从零训练用尽全部标签仍未达到（或最少标签即已达到）该准确率，取界限值。",
            )
        )
    return Measured(
        answers={"ratio": geometric([value for value, _ in ratios]), "accuracy": paired_difference(gains[0], gains[1])},
        pictures=[
            Picture(
                Words("Test accuracy by number of labels, 95% interval", "测试准确率随标签数的变化，95% 区间"),
                points, x="labels", y="accuracy", log_x=True,
            )
        ],
        tables=[
            Table(
                Words(f"Accuracy with {at} labels, and labels that fresh weights need for as much, over {at}",
                      f"{at} 个标签时的准确率，以及从零训练达到同样准确率所需标签数与 {at} 之比"),
                ["seed", "pretrained", "scratch", "ratio of labels"], table,
            )
        ],
        remarks=remarks,
    )  # fmt: skip


def _make(done: Sequence[Trained], arm: str, seed: int) -> Model:
    from assay.published.load import build

    pretrained = done[seed].model()
    if arm == "pretrained":
        return pretrained
    return build(pretrained.spec, seed=seed, tokenizer=pretrained.tokenizer)


def _best_rate(lab: Lab, arm: str, done: Sequence[Trained], at: int) -> float:
    """The arm's best rate at a middle number of labels, by accuracy on validation examples; seed 0."""
    from assay.studies.label_efficiency import label_curve

    three = labelled.parts(lab, "topic", 4 * at)
    judged = replace(three, test=three.valid)
    make = partial(_make, done)

    def score(rate: float) -> float:
        found = label_curve(make, judged, labelled.tuning(lab, rate), labels=[4 * at], seeds=1, arms=[arm])
        return float(found["runs"][0]["accuracy"])

    return labelled.best_rate(labelled.RATES[lab.tier], score)


def _curve(lab: Lab, arm: str, done: Sequence[Trained], counts: Sequence[int], rate: float) -> list[dict[str, Any]]:
    from assay.studies.label_efficiency import label_curve

    three = labelled.parts(lab, "topic", max(counts))
    found = label_curve(
        partial(_make, done), three, labelled.tuning(lab, rate), labels=counts, seeds=len(done), arms=[arm]
    )
    rows: list[dict[str, Any]] = found["runs"]
    return rows


CLAIM = Claim(
    key="C24",
    title=Words("Pretraining saves labels", "预训练节省标注数据"),
    says=Words(
        "A model that was pretrained on text without labels needs only a little labelled data.",
        "在无标签文本上预训练过的模型，只需少量标注数据。",
    ),
    literature=Words(
        "Howard & Ruder 2018 (ULMFiT), abstract: with 100 labelled examples, tuning a pretrained language model matches "
        "training from scratch on 100 times as much data.",
        "Howard & Ruder 2018（ULMFiT）摘要：只用 100 个标注样本微调预训练语言模型，即可达到从零训练使用 100 倍数据的效果。",
    ),
    sources=["Howard & Ruder 2018, Universal Language Model Fine-tuning for Text Classification, abstract"],
    formulas=[
        Formula(
            r"\rho(n) = n^{-1} \min\{\, m : a_{\text{scratch}}(m) \ge a_{\text{pretrained}}(n) \,\}",
            Words(
                "a: test accuracy by number of labels, log-linear between points",
                "a：测试准确率随标签数的函数，点间按对数轴线性插值",
            ),
        )
    ],
    experiment=Words(
        "The standard decoder is pretrained on a made text of invented words, whose documents each keep to one of four "
        "topics; then it is tuned to name the topic of a passage, with 8 labels and more, beside the same model with fresh "
        "weights: same tokenizer, examples, steps and seeds; each arm at its own best rate, chosen on validation examples. "
        "What a word belongs to can be learned from its company, without labels: the text is made so that pretraining can "
        "help, and how much it does is measured.",
        "标准解码器先在由虚构词构成的文本上预训练（每篇文档只属于四个主题之一），再用 8 个起的标签微调以判断段落主题，"
        "与权重随机的同一模型对比：分词器、样本、步数与种子相同，各自在验证样本上选取最佳学习率。"
        "词的归属可以不靠标签、仅从共现中学到：文本的设计使预训练有可能起作用，测量的是作用有多大。",
    ),
    rule=Words(
        f"Supported if the 95% interval (t, of logarithms, over seeds) of the ratio of labels at the second point of the "
        f"curve lies above {LEAST}, refuted if below; where fresh weights never get there the last point is taken, "
        "which speaks against the claim.",
        f"若标签比（曲线第二点处，对种子取对数的 t 区间，95%）大于 {LEAST} 则支持，小于则否定；若从零训练始终达不到，则取最后一点，这对该论断不利。",
    ),
    questions={
        "ratio": Question(
            Words("labels from scratch over labels after pretraining, at equal accuracy", "达到同样准确率所需标签数之比：从零训练比预训练"),
            Threshold(LEAST), "x",
        ),
        "accuracy": Question(
            Words("accuracy at equal labels, pretrained minus scratch", "标签数相同时的准确率差：预训练减从零训练"),
            Threshold(0.0), decides=False,
        ),
    },
    runs=runs,
    measure=measure,
    changes=Words(
        "A text whose company says nothing of the labels: there pretraining would save little. More pretraining saves more.",
        "若文本中的共现与标签无关，预训练省不了多少；预训练越多，节省越多。",
    ),
    verdicts=(Verdict.SUPPORTED, Verdict.REFUTED, Verdict.UNDECIDED),
    seconds=60.0,
)  # fmt: skip
