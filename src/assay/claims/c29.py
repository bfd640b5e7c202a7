"""C29: BART repairs noisy input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.claims import labelled
from assay.claims.base import Claim, Experiment, Formula, Measured, Picture, Question, Table, Tier, Words
from assay.claims.lab import NEVER, Lab, Trained
from assay.claims.standard import study
from assay.stats import Interval, Superiority, Threshold, Verdict, mean_interval, paired_difference

if TYPE_CHECKING:
    from assay.evaluation.tasks import Task

OBJECTIVES = {"bart": "BART's noising", "span_corruption": "T5's span corruption", "prefix_lm": "prefix LM"}
KINDS = ("typos", "deletions", "permutations")
SEEN = "doubled"
"""The damage that all are tuned on; it is not among those that are measured."""


def runs(tier: Tier) -> Mapping[str, Experiment]:
    """One encoder-decoder on the text of topics under each objective."""
    text = {"data.source": f"made:topics:items={labelled.SENTENCES[tier]}"}
    described = study(tier, model={"family": "encoder_decoder"}, vary={"objective": tuple(OBJECTIVES)})
    return {"objectives": Experiment(described.with_(**text))}


def behind(losses: Mapping[str, Sequence[float]]) -> Interval:
    """BART's loss less that of the best other objective (by its mean), paired by seed."""
    if not losses["bart"]:
        return NEVER
    others = [name for name in losses if name != "bart"]
    best = min(others, key=lambda name: float(np.mean(losses[name])))
    return paired_difference(losses["bart"], losses[best])


def shifted(task: Task) -> Task:
    """The same answers behind another item's damaged text: what a model does that does not read its input."""
    from dataclasses import replace

    prompts = [item.prompt for item in task.items]
    moved = prompts[1:] + prompts[:1]
    items = tuple(replace(item, prompt=prompt) for item, prompt in zip(task.items, moved, strict=True))
    return replace(task, items=items)


def measure(lab: Lab) -> Measured:
    """Loss on the undamaged text given the damaged one, before and after the same tuning."""
    results = lab.results("objectives")
    cells = {name: results.cell(objective=name) for name in OBJECTIVES}
    seeds = [s for s in range(len(cells["bart"].runs)) if all(cell.runs[s].done for cell in cells.values())]
    told = {name: [_losses(lab, cell.runs[seed]) for seed in seeds] for name, cell in cells.items()}
    points: list[dict[str, Any]] = []
    table: list[list[str | float | int | None]] = []
    for name, words in OBJECTIVES.items():
        for kind in KINDS:
            if not seeds:
                continue
            at = {when: mean_interval([t[when, kind] for t in told[name]]) for when in ("tuned", "before", "other")}
            tuned = at["tuned"]
            points.append({"series": words, "x": kind, "y": tuned.estimate, "low": tuned.low, "high": tuned.high})
            table.append([words, kind, *(at[when].estimate for when in ("before", "tuned", "other"))])
    answers = {kind: behind({n: [t["tuned", kind] for t in by] for n, by in told.items()}) for kind in KINDS}
    reads = [np.mean([t["other", kind] - t["tuned", kind] for kind in KINDS]) for t in told["bart"]]
    return Measured(
        answers=answers | {"reads": mean_interval(reads) if seeds else NEVER},
        pictures=[
            Picture(
                Words("Loss on the text as it was, given it damaged, after tuning on another damage; 95% interval",
                      "给定受损文本时原文的损失（已在另一种损坏上微调），95% 区间"),
                points, x="damage", y="nats a token", kind="points",
            )
        ],
        tables=[
            Table(
                Words("Nats a token of the text as it was", "原文每 token 的损失（nat）"),
                ["objective", "damage", "before tuning", "after tuning", "after tuning, given another text"], table,
            )
        ],
        remarks=results.remarks(),
    )  # fmt: skip


def _losses(lab: Lab, run: Trained) -> dict[tuple[str, str], float]:
    """("before" | "tuned" | "other", damage) to nats a token."""
    from assay.evaluation.evaluate import evaluate_task
    from assay.evaluation.pairs import Codec
    from assay.evaluation.repair import repair_task
    from assay.training.tuning import Part, tune

    train, test = lab.by_tier(smoke=16, quick=600, full=5000), lab.by_tier(smoke=6, quick=80, full=500)
    model = run.model()
    codec, found = Codec(model, length=96), {}

    def loss(task: Task) -> float:
        return float(evaluate_task(codec, task, end=True, written=False)["nats_per_token"]["value"])

    tasks = {kind: repair_task(kind, test) for kind in KINDS}
    for kind, task in tasks.items():
        found["before", kind] = loss(task)
    part = Part(repair_task(SEEN, train, part="train"), repair_task(SEEN, test, part="valid"))
    tune(model, [part], labelled.tuning(lab, 2e-3), seed=run.run.seed)
    for kind, task in tasks.items():
        found["tuned", kind], found["other", kind] = loss(task), loss(shifted(task))
    return found


CLAIM = Claim(
    key="C29",
    title=Words("BART repairs noisy input", "BART 能修复含噪输入"),
    says=Words(
        "A model that was pretrained to restore damaged text (BART) handles noisy input better than others.",
        "以还原受损文本为预训练目标的模型（BART）比其他模型更能处理含噪输入。",
    ),
    literature=Words(
        "Lewis et al. 2020 (BART), section 4 and table 1: of one architecture under many objectives, text infilling with or "
        "without sentence shuffling does well throughout, while no objective is best everywhere. Damage at the level of letters "
        "and words is not part of its training.",
        "Lewis 等 2020（BART）第 4 节与表 1：同一架构比较多种目标，文本填充（无论是否打乱句子）整体表现稳定，但没有一种目标处处最好。字母与单词级的损坏不在其训练中。",
    ),
    sources=["Lewis et al. 2020, BART: Denoising Sequence-to-Sequence Pre-training, sections 2.2 and 4, table 1"],
    formulas=[
        Formula(
            r"L = -\frac{1}{|x|} \sum_i \ln p(x_i \mid \tilde x,\, x_{<i})",
            Words("x: the text as it was; with a tilde: damaged", "x：原文；带波浪号：受损文本"),
            "Lewis et al. 2020, section 2.2",
        )
    ],
    experiment=Words(
        "One encoder-decoder is trained under BART's noising, T5's span corruption and prefix LM on a made text of invented "
        "words: equal steps, rows and rate. Each is then tuned alike on pairs of damaged and undamaged passages, where the "
        "damage is words written twice, and measured on damage that neither training nor tuning had: typos, missing "
        "words, words that changed places. The same loss given another passage's damaged text says whether the input is "
        "read at all.",
        "同一编码器-解码器在虚构词文本上分别以 BART 加噪、T5 片段破坏与前缀语言模型训练：步数、批次与学习率相同。然后在“受损—原文”段落对上同样微调"
        "（损坏为单词重复），再以训练与微调均未见过的损坏测量：错字、缺词、邻词换位。给出另一段落的受损文本时的损失用来判断模型是否真的读了输入。",
    ),
    rule=Words(
        "95% intervals over seeds (paired t) of BART's loss minus that of the best other objective, for each damage. Supported if "
        "lower for all three, refuted if higher for all, depends on the damage if mixed; else undecided.",
        "对每种损坏，取 BART 的损失减其余最好目标的损失的 95% 配对 t 区间。三种皆更低则支持，皆更高则否定，有高有低则取决于损坏类型，否则未定。",
    ),
    questions={
        **{
            kind: Question(
                Words(f"loss under {kind}, BART minus the best other objective", f"{zh}下的损失：BART 减其余最好的目标"),
                Superiority(0.0, "lower"), "nats per token",
            )
            for kind, zh in zip(KINDS, ("错字", "缺词", "换位"), strict=True)
        },
        "reads": Question(
            Words("loss given another passage minus loss given the passage's own damaged text, BART",
                  "BART：给定另一段落时的损失减给定自身受损文本时的损失"),
            Threshold(0.0), "nats per token", decides=False,
        ),
    },
    runs=runs,
    measure=measure,
    changes=Words(
        "Longer training: at the quick tier an encoder-decoder hardly learns to copy, so that it takes the topic from its input "
        "more than the words. More of the damage in tuning makes the objectives alike.",
        "更长的训练：快速档的编码器-解码器几乎没有学会复制，从输入中取得的更多是主题而非单词。微调中加入相应损坏会使各目标趋同。",
    ),
    verdicts=tuple(Verdict),
    seconds=60.0,
)  # fmt: skip
