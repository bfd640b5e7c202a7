"""C4: the encoder-decoder is strong at understanding, weak at long generation, slower to train."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from assay.claims import families, fit
from assay.claims.base import Claim, Experiment, Measured, Picture, Question, Table, Tier, Words
from assay.claims.lab import NEVER, Lab, Trained
from assay.stats import Superiority, Threshold, mean_interval, paired_difference

Buckets = Sequence[Sequence[float]]
"""[first byte, mean nats a token, tokens] along a continuation."""


def runs(tier: Tier) -> Mapping[str, Experiment]:
    """A causal decoder and the encoder-decoder of equal parameters."""
    return families.experiments(tier, "causal", "parameters")


def slope(two: Buckets, one: Buckets) -> float:
    """Slope of the difference of loss, two minus one, over the position: nats a token per 100 bytes of output.

    Least squares over the buckets that both have, weighted by their tokens.
    """
    first = {row[0]: (row[1], row[2]) for row in one}
    shared = [(place, nats - first[place][0], tokens) for place, nats, tokens in two if place in first]
    place, difference, tokens = (np.array(column, dtype=float) for column in zip(*shared, strict=True))
    fitted = np.polyfit(place / 100, difference, 1, w=np.sqrt(tokens))
    return float(fitted[0])


def last(run: Trained) -> Buckets:
    """Loss along the continuation at the end of a run."""
    found: Buckets = run.rows("eval")[-1]["by_position"]
    return found


def measure(lab: Lab) -> Measured:
    """Position, tasks after tuning, cost of a step."""
    from assay.evaluation.fitting import cloze_task, order_task

    found = families.cells(lab, "causal", "parameters")
    one, two = found["causal"], found["parameters"]
    pairs = [(b, a) for b, a in zip(two.runs, one.runs, strict=True) if a.done and b.done]
    slopes = [slope(last(b), last(a)) for b, a in pairs]
    costs = [math.log2(_seconds(b) / _seconds(a)) for b, a in pairs]
    train, heldout = fit.real_texts(one)
    many, few = lab.by_tier(smoke=(24, 8), quick=(1500, 160), full=(10_000, 500))
    tasks = {
        name: fit.three(make(train, many), make(heldout, few, seed=1), make(heldout, few, seed=2))
        for name, make in (("cloze", cloze_task), ("order", order_task))
    }
    steps, length = lab.by_tier(smoke=(3, 96), quick=(100, 96), full=(1000, 128))
    scores = {name: fit.tuned(lab, cell, tasks, steps=steps, length=length) for name, cell in found.items()}
    both = [(b, a) for b, a in zip(scores["parameters"], scores["causal"], strict=True) if a and b]
    gains = {
        task: paired_difference([b[task]["accuracy"] for b, _ in both], [a[task]["accuracy"] for _, a in both])
        if both else NEVER
        for task in tasks
    }  # fmt: skip
    rows = [
        {"series": f"seed {b.run.seed}", "x": place, "y": nats - dict((r[0], r[1]) for r in last(a))[place]}
        for b, a in pairs for place, nats, _ in last(b)
    ]  # fmt: skip
    table = families.losses(found)[1]
    tests: list[list[str | float | int | None]] = []
    bars = []
    for name, several in scores.items():
        for task, three in tasks.items():
            values = [s[task]["accuracy"] for s in several if s]
            if values:
                mean = mean_interval(values)
                tests.append([families.NAMES[name], task, three.test.chance, mean.estimate, mean.low, mean.high])
                bars.append({"series": families.NAMES[name], "x": task, "y": mean.estimate,
                             "low": mean.low, "high": mean.high})  # fmt: skip
    return Measured(
        answers={
            "cloze": gains["cloze"], "order": gains["order"],
            "position": mean_interval(slopes) if slopes else NEVER,
            "step": mean_interval(costs) if costs else NEVER,
            "loss": two.minus(one),
        },
        pictures=[
            Picture(Words("Loss along the output: encoder-decoder minus causal decoder, equal parameters and FLOPs",
                          "沿输出位置的损失差：编码器-解码器减因果解码器（参数与 FLOPs 相等）"),
                    rows, x="byte of the continuation", y="nats per token"),
            Picture(Words("Accuracy after tuning: infilling (chance 25%), order (chance 50%), 95% interval",
                          "微调后的准确率：填空（随机 25%）、词序判断（随机 50%），95% 区间"),
                    bars, x="task", y="accuracy", kind="points"),
        ],
        tables=[table, Table(Words("After tuning", "微调之后"),
                             ["model", "task", "chance", "accuracy", "low", "high"], tests)],
        remarks=families.remarks(found),
    )  # fmt: skip


def _seconds(run: Trained) -> float:
    """Seconds of training steps a token with a loss."""
    return float(run.result["seconds"] / run.result["supervised_tokens"])


def _task(name: str, zh: str) -> Question:
    return Question(
        Words(f"accuracy after tuning, {name}: encoder-decoder minus causal decoder", f"微调后准确率（{zh}）：编码器-解码器减因果解码器"),
        Superiority(0.0, "higher"), "share",
    )  # fmt: skip


CLAIM = Claim(
    key="C4",
    title=Words("Encoder-decoder: strong at understanding, weak at long generation, slower to train",
                "编码器-解码器：长于理解，弱于长文本生成，训练较慢"),
    says=Words(
        "An encoder-decoder understands its input well, falls behind the longer it writes, and takes longer to train.",
        "编码器-解码器对输入理解更充分，但生成越长越落后，训练也更慢。",
    ),
    literature=Words(
        "Raffel et al. 2020, table 2, GLUE after fine-tuning: encoder-decoder of equal parameters 80.88, language model "
        "74.70 (denoising). Wang et al. 2022: after multitask tuning the encoder-decoder with masked language modelling "
        "is best, zero-shot it is last. On length, no number is known to us.",
        "Raffel 等 2020 表 2（GLUE 微调后，去噪目标）：参数相等的编码器-解码器 80.88，语言模型 74.70。Wang 等 2022：多任务微调后编码器-解码器 + 掩码语言模型最好，"
        "零样本则最差。关于输出长度，我们未见公开数字。",
    ),
    sources=["Raffel et al. 2020, table 2", "Wang et al. 2022, section 4"],
    experiment=Words(
        "A causal decoder with causal LM and the encoder-decoder of equal parameters with prefix LM, equal training FLOPs, "
        "each at its best rate, three seeds or more. Understanding: both tuned alike on a cloze of real text (a word left "
        "out, four to choose from) and on whether words stand in their order; accuracy on held-out text. Long generation: "
        "the slope of the difference of loss over the position in the continuation. Training: seconds of a step for each "
        "token with a loss.",
        "因果解码器（因果语言模型）与参数相等的编码器-解码器（前缀语言模型），训练 FLOPs 相等，各取最佳学习率，至少三个种子。理解：同样微调于真实文本完形填空（缺一词、四选一）与词序判断，"
        "看留出文本上的准确率。长文本生成：损失差随续写位置的斜率。训练：每个有损失 token 的步时间。",
    ),
    rule=Words(
        "95% t intervals, paired by seed. Each of the four parts is decided by itself: higher accuracy on either task, a "
        "slope above 0, more seconds a token. All: supported; none: refuted; a mixture: it depends on the part.",
        "按种子配对的 95% t 区间，四部分各自判定：两项任务准确率更高、斜率大于 0、每 token 用时更多。全部成立为支持，全部相反为否定，混合为取决于哪一部分。",
    ),
    questions={
        "cloze": _task("infilling (cloze)", "填空"),
        "order": _task("classification (order of words)", "分类：词序判断"),
        "position": Question(
            Words("slope of the difference of loss over the output position, encoder-decoder minus causal",
                  "损失差随输出位置的斜率：编码器-解码器减因果解码器"),
            Threshold(0.0, "above"), "nats per token per 100 bytes",
        ),
        "step": Question(
            Words("seconds of training for a token with a loss, encoder-decoder over causal, as doublings",
                  "每个有损失 token 的训练秒数：编码器-解码器比因果解码器（以 2 为底的对数）"),
            Threshold(0.0, "above"), "doublings",
        ),
        "loss": Question(
            Words("held-out continuation loss, encoder-decoder minus causal", "留出续写损失：编码器-解码器减因果解码器"),
            Superiority(0.0, "higher"), "bits per byte", decides=False,
        ),
    },
    runs=runs,
    measure=measure,
    changes=Words(
        "Pretraining long enough for both tasks to leave chance behind; denoising as the encoder-decoder's objective; twice "
        "the parameters.",
        "足够长的预训练使两项任务明显超过随机；编码器-解码器改用去噪目标；参数加倍。",
    ),
    seconds=60.0,
)  # fmt: skip
