"""C5: causal is best zero-shot; denoising with multitask tuning turns the order round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.claims.base import Claim, Measured, Picture, Question, Table, Tier, Words
from assay.claims.lab import NEVER, Lab
from assay.stats import Interval, Superiority, Verdict, mean_interval, paired_difference

if TYPE_CHECKING:
    from assay.studies.six_pairs_spec import SixPairs

BASE, DENOISER = "causal:causal_lm", "encoder_decoder:mlm"
STAGES = {"zero": "zero-shot", "tuned": "after multitask tuning"}
Accuracies = Mapping[str, Mapping[str, Sequence[float]]]
"""Pair to task to accuracy by seed."""

SMOKE: dict[str, Any] = {
    "tokens": 2000, "seeds": 2, "items": 8, "train_items": 24, "tune.steps": 2, "tune.heldout": 8,
    "model.width": 16, "model.layers": 1, "train.batch_size": 2, "train.evaluations": 1,
}  # fmt: skip

QUICK: dict[str, Any] = {"tokens": 160_000, "tasks": ["copy", "recall"], "others": [], "tune.steps": 80, "items": 64}
"""What is learned at this size: of the study's other tasks, nothing."""


def described(tier: Tier) -> SixPairs:
    """The study of six pairs at a tier: equal tokens, as published; no adaptations, which are another question."""
    from assay.studies.six_pairs import load_study

    study, only = load_study(None), {"equal": ["tokens"], "adaptation": 0}
    if tier is Tier.full:
        return study.with_(**only)
    quick = study.form("quick").with_(**only, **QUICK)
    return quick.with_(**SMOKE) if tier is Tier.smoke else quick


def beaten(found: Accuracies, stage: str, tasks: Sequence[str], chance: Mapping[str, float], items: int) -> list[str]:
    """Tasks on which all runs of all pairs together are above chance: of the others no order can be told."""
    from assay.studies.six_pairs import beaten
    from assay.studies.six_pairs_unit import CLOZE

    fixed = {f"chance:{task}": level for task, level in chance.items()}
    fixed |= {f"items:{task}": float(items * (CLOZE if task == "cloze" else 1)) for task in chance}
    runs = [
        fixed | {f"{stage}:{task}": float(value) for task, value in zip(by, values, strict=True)}
        for by in found.values()
        for values in zip(*by.values(), strict=True)
    ]
    return beaten(runs, stage, [task for task in tasks if task in chance])


def means(found: Accuracies, tasks: Sequence[str]) -> dict[str, list[float]]:
    """Pair to mean accuracy over tasks, by seed."""
    return {pair: [float(x) for x in np.mean([by[task] for task in tasks], axis=0)] for pair, by in found.items()}


def lead(found: Accuracies, tasks: Sequence[str], pair: str) -> Interval:
    """A pair's accuracy less that of the best other one, paired by seed; NEVER where chance is beaten on no task."""
    if not tasks or pair not in found:
        return NEVER
    values = means(found, tasks)
    others = {name: by for name, by in values.items() if name != pair}
    best = max(others, key=lambda name: float(np.mean(others[name])))
    return paired_difference(values[pair], others[best])


def gap(found: Accuracies, tasks: Sequence[str], a: str, b: str) -> Interval:
    """One pair's accuracy less another's, paired by seed."""
    if not tasks or a not in found or b not in found:
        return NEVER
    values = means(found, tasks)
    return paired_difference(values[a], values[b])


def measure(lab: Lab) -> Measured:
    """Do the study, or what is left of it, and read the order off before and after tuning."""
    study = described(lab.tier)
    rows, failures = _study(lab, study)
    answers: dict[str, Interval] = {}
    pictures, table, remarks = [], [], []
    for stage, words in STAGES.items():
        found = {pair: by[stage] for pair, by in rows.items()}
        chance = {task: level for by in rows.values() for task, level in by[f"{stage} chance"].items()}
        judged = study.tasks if stage == "tuned" else tuple(chance)
        tasks = beaten(found, stage, judged, chance, study.items)
        answers[stage] = lead(found, tasks, BASE) if stage == "zero" else gap(found, tasks, DENOISER, BASE)
        if stage == "tuned":
            answers["first"] = lead(found, tasks, DENOISER)
        points: list[dict[str, Any]] = []
        for pair, by in found.items():
            for task in chance:
                at = mean_interval(by[task])
                points.append({"series": pair, "x": task, "y": at.estimate, "low": at.low, "high": at.high})
                table.append([words, pair, task, chance[task], at.estimate, at.low, at.high])
        points += [{"series": "chance", "x": task, "y": level} for task, level in chance.items()]
        title = Words(
            f"Accuracy {words}, 95% interval", f"准确率（{'零样本' if stage == 'zero' else '多任务微调后'}），95% 区间"
        )
        pictures.append(Picture(title, points, x="task", y="accuracy", kind="points"))
        counted, left = ", ".join(tasks) or "none", ", ".join(t for t in judged if t not in tasks) or "none"
        remarks.append(
            Words(
                f"{words.capitalize()}: chance is beaten on {counted}; left out: {left}.",
                f"{'零样本' if stage == 'zero' else '微调后'}：高于随机水平的任务为 {counted}；不计入：{left}。",
            )
        )
    remarks += [Words(f"{name} failed: {why}.", f"{name} 失败：{why}。") for name, why in failures.items()]
    return Measured(
        answers=answers,
        pictures=pictures,
        tables=[
            Table(
                Words("Every pair on every task", "各组合在各任务上的准确率"),
                ["stage", "pair", "task", "chance", "accuracy", "low", "high"], table,
            )
        ],
        remarks=remarks,
    )  # fmt: skip


def _study(lab: Lab, study: SixPairs) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """(pair to stage to task to accuracies by seed, and each stage's chance; what failed). Finished units are kept."""
    from assay.runs import StudyFolder, read_json
    from assay.studies.six_pairs import plan_units, six_pairs
    from assay.studies.six_pairs_unit import RESULT, do_unit
    from assay.training.text import load_text

    folder, failures = StudyFolder(lab.scratch), {}
    first, _ = plan_units(study, load_text(study.data))
    if lab.tier is Tier.full:
        six_pairs(study, lab.scratch)
    for unit in first:  # here, since a claim is measured in a process of its own, beside others
        why = do_unit(study, unit.run, folder.run(unit.folder), None, None)
        if why is not None:
            failures[f"{unit.name}, seed {unit.seed}"] = why
    rows: dict[str, dict[str, Any]] = {}
    for pair in study.pairs:
        units = [u for u in first if u.name == pair and f"{u.name}, seed {u.seed}" not in failures]
        told = [read_json(folder.run(u.folder).path / RESULT) for u in units]
        if len(units) < study.seeds:
            continue
        by: dict[str, Any] = {}
        for stage in STAGES:
            by[stage] = {row["task"]: [_of(t[stage], row["task"])["accuracy"] for t in told] for row in told[0][stage]}
            by[f"{stage} chance"] = {row["task"]: row["chance"] for row in told[0][stage]}
        rows[pair] = by
    return rows, failures


def _of(rows: Sequence[Mapping[str, Any]], task: str) -> Mapping[str, Any]:
    return next(row for row in rows if row["task"] == task)


CLAIM = Claim(
    key="C5",
    title=Words(
        "Causal is best zero-shot; denoising and multitask tuning turn the order round",
        "零样本时因果模型最好，去噪加多任务微调则次序反转",
    ),
    says=Words(
        "After pretraining alone a causal decoder is the best zero-shot; after multitask tuning, models pretrained by "
        "denoising, an encoder-decoder first, are ahead of it.",
        "仅预训练时，因果解码器的零样本能力最好；多任务微调之后，以去噪预训练的模型（首先是编码器-解码器）反超。",
    ),
    literature=Words(
        "Wang et al. 2022, figure 3 (EAI / T0 averages, zero-shot): causal decoder with language modelling 44.2 / 42.4, prefix "
        "decoder 43.5 / 41.8, encoder-decoder 39.9 / 41.7, random 32.9 / 41.7. After multitask tuning on 13B tokens the "
        "encoder-decoder with masked LM is best, the prefix decoder with masked LM next. 4.8B decoders and an 11B "
        "encoder-decoder, 168B tokens of C4.",
        "Wang 等 2022 图 3（零样本，EAI / T0 平均）：因果解码器语言模型 44.2 / 42.4，前缀解码器 43.5 / 41.8，编码器-解码器 39.9 / 41.7，随机 32.9 / 41.7。"
        "13B token 多任务微调后，掩码语言模型的编码器-解码器最好，其次是掩码语言模型的前缀解码器。4.8B 解码器与 11B 编码器-解码器，C4 的 168B token。",
    ),
    sources=[
        "Wang et al. 2022, What Language Model Architecture and Pretraining Objective Work Best for Zero-Shot "
        "Generalization?",
    ],
    experiment=Words(
        "The six pairs of family and objective are pretrained on equal tokens (as published: an encoder-decoder has about "
        "twice the parameters), measured on choices among four answers, tuned on a mixture of made tasks, and "
        "measured again (`assay six-pairs`). Tasks count where all runs of all pairs together are above chance (95% t, and by more than the luck of so "
        "many items): on the others nothing has been learned, and ranks would be noise. After tuning, those of the mixture. One learning rate for all pairs.",
        "六种架构与目标的组合以相同 token 数预训练（与论文一致：编码器-解码器参数约两倍），以四选一任务测量，再在构造任务的混合上微调并重新测量"
        "（`assay six-pairs`）。仅计入所有组合的全部运行合起来高于随机水平（95% t 区间，且超过题目数量所允许的运气）的任务，其余任务尚未学到任何东西，名次只是噪声；微调后只看混合中的任务。所有组合使用同一学习率。",
    ),
    rule=Words(
        "95% intervals over seeds (paired t) on the tasks where chance is beaten. Zero-shot: causal LM in a causal decoder "
        "minus the best other pair lies above 0. Tuned: the encoder-decoder with masked LM minus causal LM lies "
        "above 0. Supported if both, refuted if both lie below, depends if one and one; undecided where an interval "
        "straddles or chance is beaten nowhere.",
        "在高于随机水平的任务上取各种子配对的 95% t 区间。零样本：因果解码器的因果语言模型减其余最好的组合大于 0；微调后：编码器-解码器掩码语言模型减因果语言模型大于 0。"
        "两者皆成立则支持，皆相反则否定，一是一否则视情况而定；区间跨零或无任务高于随机水平则未定。",
    ),
    questions={
        "zero": Question(
            Words("zero-shot accuracy, causal LM minus the best other pair", "零样本准确率：因果语言模型减其余最好的组合"),
            Superiority(0.0),
        ),
        "tuned": Question(
            Words("accuracy after tuning, encoder-decoder with masked LM minus causal LM",
                  "微调后准确率：编码器-解码器掩码语言模型减因果语言模型"),
            Superiority(0.0),
        ),
        "first": Question(
            Words("accuracy after tuning, encoder-decoder with masked LM minus the best other pair",
                  "微调后准确率：编码器-解码器掩码语言模型减其余最好的组合"),
            Superiority(0.0), decides=False,
        ),
    },
    measure=measure,
    changes=Words(
        "Scale: at the size of the quick tier a model learns the tasks' form before their content. `assay six-pairs --form "
        "standard` and the full tier take more.",
        "规模：在快速档的规模下，模型先学到任务的形式而非内容。`assay six-pairs --form standard` 与完整档使用更多计算。",
    ),
    verdicts=tuple(Verdict),
    seconds=230.0,
)  # fmt: skip
