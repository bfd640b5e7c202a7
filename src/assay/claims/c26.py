"""C26: task fit; the prefix decoder as the compromise between causal decoder and encoder-decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from assay.claims import families, fit
from assay.claims.base import Claim, Experiment, Measured, Picture, Question, Table, Tier, Words
from assay.claims.lab import NEVER, Lab
from assay.stats import Interval, Threshold, mean_interval, wilson_interval

NAMES = ("causal", "prefix", "parameters")
KINDS = {
    "dialogue": Words("dialogue", "对话"),
    "reverse": Words("transduction (reverse)", "转换（反转）"),
    "summary": Words("compression", "摘要"),
    "lookup": Words("lookup QA", "查表问答"),
    "free text": Words("free text", "自由文本"),
}
CHANCE = 1 / 3


def runs(tier: Tier) -> Mapping[str, Experiment]:
    """The three families at equal parameters."""
    return families.experiments(tier, *NAMES)


def between(losses: Sequence[float]) -> bool:
    """Whether prefix lies between the two others: (causal, prefix, encoder-decoder), ends included."""
    causal, prefix, two = losses
    return min(causal, two) <= prefix <= max(causal, two)


def measure(lab: Lab) -> Measured:
    """Loss of each family on each kind of task, seed by seed, and how often prefix lies between."""
    from assay.evaluation.fitting import dialogue_task, summary_task
    from assay.evaluation.generated import generated_task

    found = families.cells(lab, *NAMES)
    many, few = lab.by_tier(smoke=(24, 8), quick=(1500, 100), full=(10_000, 400))
    tasks = {
        "dialogue": fit.three(*(dialogue_task(n, seed=s) for s, n in enumerate((many, few, few)))),
        "reverse": fit.three(*(generated_task("reverse", n, part=p) for p, n in
                               (("train", many), ("valid", few), ("test", few)))),
        "summary": fit.three(*(summary_task(n, seed=s) for s, n in enumerate((many, few, few)))),
        "lookup": fit.three(*(generated_task("lookup", n, part=p) for p, n in
                              (("train", many), ("valid", few), ("test", few)))),
    }  # fmt: skip
    steps, length = lab.by_tier(smoke=(3, 96), quick=(120, 96), full=(1500, 128))
    scores = {name: fit.tuned(lab, cell, tasks, steps=steps, length=length) for name, cell in found.items()}
    values: dict[str, list[list[float]]] = {kind: [] for kind in KINDS}
    for seed in range(len(found["causal"].runs)):
        each = [scores[name][seed] for name in NAMES]
        if any(score is None for score in each):
            continue
        for task in tasks:
            values[task].append([score[task]["nats"] for score in each if score is not None])
        values["free text"].append([found[name].runs[seed].result["nats_per_token"] for name in NAMES])
    cases = [between(losses) for several in values.values() for losses in several]
    better = [losses[1] <= min(losses) for several in values.values() for losses in several]
    rows, table = _tables(values)
    seeds = len(values["free text"])
    return Measured(
        answers={
            "between": _share(cases, seeds), "best": _share(better, seeds),
            **{kind: _share([between(losses) for losses in values[kind]], seeds) for kind in KINDS},
        },
        pictures=[
            Picture(Words("Loss by kind of task after tuning (free text: without), 95% interval",
                          "各类任务微调后的损失（自由文本不微调），95% 区间"),
                    rows, x="task", y="nats per token of the right answer", kind="points"),
        ],
        tables=[table, families.losses(found)[1]],
        remarks=families.remarks(found),
    )  # fmt: skip


def _share(cases: Sequence[bool], seeds: int) -> Interval:
    """Share of cases with its Wilson interval; as few repeats as there are seeds."""
    if not cases:
        return NEVER
    found = wilson_interval(sum(cases), len(cases))
    return Interval(found.estimate, found.low, found.high, found.confidence, seeds, f"Wilson, {len(cases)} cases")


def _tables(values: Mapping[str, Sequence[Sequence[float]]]) -> tuple[list[dict[str, object]], Table]:
    rows: list[dict[str, object]] = []
    table: list[list[str | float | int | None]] = []
    for kind, several in values.items():
        for place, name in enumerate(NAMES):
            mean = mean_interval([losses[place] for losses in several]) if several else NEVER
            rows.append({"series": families.NAMES[name], "x": KINDS[kind].en, "y": mean.estimate,
                         "low": mean.low, "high": mean.high})  # fmt: skip
            table.append([KINDS[kind].en, families.NAMES[name], mean.estimate, mean.low, mean.high])
    heads = ["task", "model", "nats per token", "low", "high"]
    return rows, Table(Words("Loss on right answers", "正确答案上的损失"), heads, table)


CLAIM = Claim(
    key="C26",
    title=Words("Task fit: the prefix decoder is the compromise", "任务适配：前缀解码器是折中"),
    says=Words(
        "Encoder-decoders fit tasks that turn an input into an output, causal decoders free text; the prefix decoder lies "
        "between the two.",
        "编码器-解码器适合由输入变换为输出的任务，因果解码器适合自由生成；前缀解码器介于二者之间。",
    ),
    literature=Words(
        "Raffel et al. 2020, table 2, GLUE after fine-tuning, denoising: language model 74.70, prefix LM 81.82, "
        "encoder-decoder of double parameters 83.28, of equal parameters 80.88: prefix lies between or ahead, by what is "
        "held equal. Wang et al. 2022, zero-shot: causal 44.2, prefix 43.5, encoder-decoder 39.9 (EAI): between.",
        "Raffel 等 2020 表 2（GLUE 微调后，去噪）：语言模型 74.70，前缀语言模型 81.82，参数加倍的编码器-解码器 83.28，参数相等者 80.88：前缀居中或领先，取决于何者相等。"
        "Wang 等 2022 零样本（EAI）：因果 44.2、前缀 43.5、编码器-解码器 39.9：居中。",
    ),
    sources=["Raffel et al. 2020, table 2", "Wang et al. 2022, section 4.1"],
    experiment=Words(
        "The three families at equal parameters and training FLOPs, each at its best rate, three seeds or more, are tuned "
        "alike on a mixture of made tasks: dialogue (what was said two turns ago), transduction (letters reversed), "
        "compression (the words in capitals), lookup in a table; free text is the held-out continuation without tuning. "
        "Measured is the loss on right answers: it resolves what accuracy near chance does not.",
        "参数与训练 FLOPs 相等的三个家族，各取最佳学习率，至少三个种子，同样微调于合成任务混合：对话（两轮之前说过的内容）、转换（字母反转）、压缩（大写词）、查表问答；"
        "自由文本为不微调的留出续写。度量为正确答案上的损失：接近随机的准确率分辨不出差别，损失可以。",
    ),
    rule=Words(
        "A case is a task and a seed. Of three families in random order prefix would lie in the middle in a third of the "
        "cases: supported if the 95% Wilson interval of its share lies above 1/3, refuted if below. Cases of one seed are "
        "not quite independent, so the interval is a little too narrow.",
        "一个情形为一项任务与一个种子。若三家族次序随机，前缀居中的概率为三分之一：居中比例的 95% Wilson 区间高于 1/3 为支持，低于为否定。同一种子的情形并非完全独立，区间略偏窄。",
    ),
    questions={
        "between": Question(
            Words("share of tasks and seeds in which prefix lies between the others", "前缀介于另两者之间的情形比例"),
            Threshold(CHANCE, "above"), "share",
        ),
        "best": Question(
            Words("share of tasks and seeds in which prefix is the best of the three", "前缀为三者最佳的情形比例"),
            Threshold(CHANCE, "above"), "share", decides=False,
        ),
        **{
            kind: Question(
                Words(f"share of seeds in which prefix lies between, {says.en}", f"前缀居中的种子比例：{says.zh}"),
                Threshold(CHANCE, "above"), "share", decides=False,
            )
            for kind, says in KINDS.items()
        },
    },
    runs=runs,
    measure=measure,
    changes=Words(
        "Denoising as the objective (C5), an encoder-decoder with double parameters, real tasks at a scale where all "
        "families solve them.",
        "改用去噪目标（C5）、参数加倍的编码器-解码器、各家族都能解决的真实规模任务。",
    ),
    seconds=110.0,
)  # fmt: skip
