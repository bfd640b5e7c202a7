"""C30: text-to-text unifies tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from assay.claims import labelled
from assay.claims.base import Claim, Experiment, Formula, Measured, Picture, Question, Table, Tier, Words
from assay.claims.lab import NEVER, Lab, Trained
from assay.stats import Superiority, Verdict, mean_interval, paired_difference

if TYPE_CHECKING:
    from assay.evaluation.tasks import Task, Three
    from assay.generation.model import Model

MARGIN = 0.05
"""Of an accuracy: what one model for all tasks may lose and still be called as good."""
TASKS, HELD_OUT = ("topic", "mood"), "match"
ARMS = {
    "one": "one model, text to text",
    "heads": "a model and a head for each task",
    "each": "a model for each task, text to text",
}


def runs(tier: Tier) -> Mapping[str, Experiment]:
    """C24's pretraining."""
    return {"text": labelled.pretraining(tier)}


def measure(lab: Lab) -> Measured:
    """Accuracy of the three arms on the tasks that they were tuned for, and of what goes on to a task that none saw."""
    results = lab.results("text")
    done = [run for run in results.cell().runs if run.done]
    if not done:
        return Measured(dict.fromkeys(("tasks", "apart", "transfer"), NEVER), remarks=results.remarks())
    count = lab.by_tier(smoke=16, quick=256, full=2000)
    tasks = {name: labelled.parts(lab, name, count) for name in TASKS}
    few = labelled.parts(lab, HELD_OUT, lab.by_tier(smoke=8, quick=128, full=256))
    rates = _rates(lab, done[0], tasks)
    found: dict[str, list[float]] = {f"{arm}:{name}": [] for arm in ARMS for name in TASKS}
    after: dict[str, list[float]] = {"multitask": [], "pretrained": []}
    for seed, run in enumerate(done):
        one = _one(lab, run, tasks, rates["one"], seed)
        for name, three in tasks.items():
            found[f"one:{name}"].append(_accuracy(one, three.test))
            found[f"heads:{name}"].append(_head(lab, run, three, rates["heads"], seed, three.test))
            found[f"each:{name}"].append(_accuracy(_one(lab, run, {name: three}, rates["one"], seed), three.test))
        for start, model in (("multitask", one), ("pretrained", run.model())):
            tuned = _tuned(lab, model, {HELD_OUT: few}, rates["one"], seed)
            after[start].append(_accuracy(tuned, few.test))
    means = {
        arm: [sum(found[f"{arm}:{name}"][s] for name in TASKS) / len(TASKS) for s in range(len(done))] for arm in ARMS
    }
    points = []
    table: list[list[str | float | int | None]] = []
    chance = {name: 1 / len(three.test.labels) for name, three in [*tasks.items(), (HELD_OUT, few)]}
    shown: list[tuple[str, str, Sequence[float]]] = [
        (ARMS[arm], name, found[f"{arm}:{name}"]) for arm in ARMS for name in TASKS
    ]
    shown += [(f"then tuned on it, from {start}", HELD_OUT, values) for start, values in after.items()]
    for arm, name, values in shown:
        at = mean_interval(values)
        points.append({"series": arm, "x": name, "y": at.estimate, "low": max(at.low, 0), "high": min(at.high, 1)})
        table.append([arm, name, chance[name], at.estimate, at.low, at.high])
    points += [{"series": "chance", "x": name, "y": value} for name, value in chance.items()]
    said = ", ".join(f"{arm} {rate:g}" for arm, rate in rates.items())
    return Measured(
        answers={
            "tasks": paired_difference(means["one"], means["heads"]),
            "apart": paired_difference(means["one"], means["each"]),
            "transfer": paired_difference(after["multitask"], after["pretrained"]),
        },
        pictures=[
            Picture(
                Words("Test accuracy by task and arm, 95% interval", "各任务各方案的测试准确率，95% 区间"),
                points, x="task", y="accuracy", kind="points",
            )
        ],
        tables=[
            Table(
                Words("Test accuracy", "测试准确率"), ["arm", "task", "chance", "accuracy", "low", "high"], table
            )
        ],
        remarks=[*results.remarks(), Words(f"Rates of tuning: {said}.", f"微调学习率：{said}。")],
    )  # fmt: skip


def _tuned(lab: Lab, model: Model, tasks: Mapping[str, Three], rate: float, seed: int) -> Model:
    from assay.training.tuning import Part, tune

    mixture = [Part(three.train, three.valid) for three in tasks.values()]
    tune(model, mixture, labelled.tuning(lab, rate, times=len(tasks)), seed=seed)
    return model


def _one(lab: Lab, run: Trained, tasks: Mapping[str, Three], rate: float, seed: int) -> Model:
    return _tuned(lab, run.model(), tasks, rate, seed)


def _accuracy(model: Model, task: Task) -> float:
    from assay.evaluation.evaluate import evaluate_task
    from assay.evaluation.pairs import Codec

    return float(evaluate_task(Codec(model, length=96), task, end=True, written=False)["accuracy"]["value"])


def _head(lab: Lab, run: Trained, three: Three, rate: float, seed: int, judged: Task) -> float:
    from assay.training.heads import tune_head
    from assay.training.tuning import Part

    return tune_head(run.model(), Part(three.train, three.valid), labelled.tuning(lab, rate), seed=seed).accuracy(
        judged
    )


def _rates(lab: Lab, run: Trained, tasks: Mapping[str, Three]) -> dict[str, float]:
    """Each arm's best rate by mean accuracy on validation examples, seed 0; the text-to-text arms share one."""

    def words(rate: float) -> float:
        model = _one(lab, run, tasks, rate, 0)
        return sum(_accuracy(model, three.valid) for three in tasks.values())

    def heads(rate: float) -> float:
        return sum(_head(lab, run, three, rate, 0, three.valid) for three in tasks.values())

    arms: dict[str, Callable[[float], float]] = {"one": words, "heads": heads}
    return {arm: labelled.best_rate(labelled.RATES[lab.tier], score) for arm, score in arms.items()}


CLAIM = Claim(
    key="C30",
    title=Words("Text-to-text unifies tasks", "文本到文本统一各类任务"),
    says=Words(
        "Put as text that answers text, tasks of all kinds are learned by one model with one loss, which carries over to "
        "tasks that it did not see.",
        "把任务都写成“输入文本、输出文本”，一个模型、一种损失即可学会各类任务，并能迁移到未见过的任务。",
    ),
    literature=Words(
        "Raffel et al. 2020 (T5), sections 2.4 and 3.5: one text-to-text model for translation, question answering, "
        "classification and regression; multitask pretraining with tuning after it performs about as well as "
        "unsupervised pretraining with tuning. Sanh et al. 2022 (T0): multitask training on prompts makes an 11B "
        "encoder-decoder answer held-out tasks without examples, often better than GPT-3, 16 times its size.",
        "Raffel 等 2020（T5）第 2.4、3.5 节：一个文本到文本模型用于翻译、问答、分类与回归；多任务预训练后微调与无监督预训练后微调大致相当。"
        "Sanh 等 2022（T0）：在提示上多任务训练使 11B 编码器-解码器能零样本完成未见任务，常优于大 16 倍的 GPT-3。",
    ),
    sources=[
        "Raffel et al. 2020, Exploring the Limits of Transfer Learning, sections 2.4 and 3.5",
        "Sanh et al. 2022, Multitask Prompted Training Enables Zero-Shot Task Generalization",
        "Radford et al. 2018, section 3.2 (a head for each task)",
    ],
    formulas=[
        Formula(
            r"L = -\frac{1}{\sum_i |a_i|} \sum_i \sum_j \ln p(a_{i,j} \mid q_i, a_{i,<j})",
            Words(
                "q: prompt, a: answer, whatever task they belong to",
                "q：提示，a：答案，不论属于哪个任务",
            ),
            "Raffel et al. 2020, section 2.4",
        )
    ],
    experiment=Words(
        "The standard decoder, pretrained on a made text with topics and moods, is tuned on labelled passages: once as "
        "one model that answers both tasks in words, and as a model with a linear head for each task (and, beside them, "
        "as a model for each task in words), with the same examples and as many steps in all; each form at its best "
        "rate. Then one model and the pretrained one are tuned on few examples of a third task, whether two "
        "passages share their topic.",
        "在带主题与情绪的构造文本上预训练的标准解码器，再用标注段落微调：一种是一个模型以文字回答两个任务，另一种是每个任务一个模型加线性头（并列：每个任务一个模型、以文字回答），"
        "样本与总步数相同，各自取最佳学习率。然后让前者与仅预训练的模型在第三个任务（两段是否同主题）的少量样本上微调。",
    ),
    rule=Words(
        f"95% intervals over seeds (paired t). Supported if one model's mean accuracy is not lower than that of separate "
        f"heads by {MARGIN} or more, and the held-out task is learned better from it than from pretraining alone; refuted "
        "if neither; depends if one holds and the other does not.",
        f"各种子配对的 95% t 区间。若单一模型的平均准确率不比独立的头低 {MARGIN} 以上，且从它出发学习未见任务优于仅预训练，则支持；两者皆否则否定；一是一否则视情况而定。",
    ),
    questions={
        "tasks": Question(
            Words("mean accuracy, one model minus a head for each task", "平均准确率：单一模型减每任务一个头"),
            Superiority(-MARGIN),
        ),
        "transfer": Question(
            Words("accuracy on the held-out task, from the multitask model minus from pretraining alone",
                  "未见任务的准确率：从多任务模型出发减从仅预训练出发"),
            Superiority(0.0),
        ),
        "apart": Question(
            Words("mean accuracy, one model minus a model for each task, all in words",
                  "平均准确率：单一模型减每任务一个模型（均以文字回答）"),
            Superiority(-MARGIN), decides=False,
        ),
    },
    runs=runs,
    measure=measure,
    changes=Words(
        "More and less related tasks: what they share decides both halves. The tasks here share a text and its words.",
        "更多或更不相关的任务：任务之间共享什么决定两个方面的结果。此处任务共享同一文本与词汇。",
    ),
    verdicts=tuple(Verdict),
    seconds=70.0,
)  # fmt: skip
