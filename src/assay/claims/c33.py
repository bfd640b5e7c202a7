"""C33: causal pretraining is identical to its use; other objectives leave a gap of format."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from assay.claims import families
from assay.claims.base import Claim, Experiment, Formula, Measured, Picture, Question, Table, Tier, Words
from assay.claims.lab import NEVER, Cell, Lab, Trained
from assay.claims.standard import study
from assay.spec.objective import ObjectiveKind
from assay.stats import Interval, Threshold, mean_interval

if TYPE_CHECKING:
    from assay.data.windows import Window
    from assay.generation.model import Model

CLOSE = 1e-4
FIRST = 4
MODELS = {
    "causal": (Words("causal decoder, causal LM", "因果解码器，因果语言模型"), ObjectiveKind.causal_lm),
    "prefix": (Words("prefix decoder, prefix LM", "前缀解码器，前缀语言模型"), ObjectiveKind.prefix_lm),
    "glm": (Words("prefix decoder, GLM", "前缀解码器，GLM"), ObjectiveKind.glm),
    "spans": (Words("encoder-decoder, span corruption", "编码器-解码器，片段损坏"), ObjectiveKind.span_corruption),
}


def runs(tier: Tier) -> Mapping[str, Experiment]:
    """Language models at their best rates (shared with other claims); denoisers at the standard rate: a gap is within
    a model, so none is compared with another.
    """
    train = {"budget": families.budget(tier)}
    glm = study(tier, model={"family": "prefix"}, objective="glm", train=train)
    two = families.equal_partner(tier, "parameters").spec
    spans = study(tier, objective="span_corruption", train=train).with_(model=two.to_dict())
    return {**families.experiments(tier, "causal", "prefix"), "glm": Experiment(glm), "spans": Experiment(spans)}


def gap(run: Trained, objective: ObjectiveKind, count: int, most: int | None) -> float:
    """Bits a token that a continuation loses when asked for bare instead of in the format of pretraining."""
    from assay.evaluation.formats import nats_in_format

    net, text = run.model().transformer, run.text()
    windows = text.windows(count)
    own = nats_in_format(net, windows, text.tokenizer.vocabulary, objective, most=most)
    bare = nats_in_format(net, windows, text.tokenizer.vocabulary, most=most)
    tokens = sum(len(window.continuation_ids[:most]) for window in windows)
    return float((bare - own).sum() / math.log(2) / tokens)


def stepwise(model: Model, window: Window, new: int) -> tuple[float, list[float]]:
    """Logits written token by token through the cache against those of one pass over the whole text.

    Returns:
        largest difference over the largest logit; the largest difference at each step.
    """
    import torch

    from assay.generation.decoding import Decoding
    from assay.generation.plan import plan_prompt

    prompt = torch.from_numpy(np.array(window.prefix_ids, dtype=np.int64))[None]
    answer = torch.from_numpy(np.array(window.continuation_ids[:new], dtype=np.int64))[None]
    whole = torch.cat((prompt, answer), 1)
    length = prompt.shape[1]
    with torch.inference_mode():
        at_once = model(whole).logits[0, length - 1 :]
        plan = plan_prompt(model.spec, prompt, None, None, None, answer.shape[1])
        decoding = Decoding(model.transformer, plan, answer.shape[1], cache=None)
        steps = [decoding.begin()[0]] + [decoding.step(token).clone()[0] for token in answer[0].unsqueeze(1)]
        decoding.finish()
    off = [float((a - b).abs().max()) for a, b in zip(at_once, steps, strict=True)]
    return max(off) / float(at_once.abs().max()), off


def differing(run: Trained) -> int:
    """Entries by which a text as causal LM trains on it differs from the same text as it is continued."""
    from assay.evaluation.formats import formatted
    from assay.objectives.base import Key
    from assay.objectives.registry import make

    text = run.text()
    vocabulary, (window,) = text.tokenizer.vocabulary, text.windows(1)
    prompt, answer = np.array(window.prefix_ids), np.array(window.continuation_ids)
    objective = make(run.run.objective, run.run.model.family.value, vocabulary)
    trained = objective.example(np.concatenate([prompt, answer]), Key(0), ends=False)
    used = formatted(prompt, answer, run.run.model.family.value, vocabulary)
    if len(trained.inputs) != len(used.inputs):
        return abs(len(trained.inputs) - len(used.inputs))
    asked = used.weights > 0
    different = (trained.inputs != used.inputs).sum() + (trained.targets[asked] != used.targets[asked]).sum()
    return int(different) + abs(trained.prefix - used.prefix) + int((trained.weights[asked] == 0).sum())


def measure(lab: Lab) -> Measured:
    """The gap of each objective, and whether use computes what training computed."""
    count = lab.by_tier(smoke=4, quick=48, full=256)
    cells: dict[str, Cell] = {name: lab.results(name).cell() for name in MODELS}
    gaps: dict[tuple[str, int | None], Interval] = {}
    rows = []
    table: list[list[str | float | int | None]] = []
    for name, (says, objective) in MODELS.items():
        done = [run for run in cells[name].runs if run.done]
        for most in (FIRST, None):
            found = mean_interval([gap(run, objective, count, most) for run in done]) if done else NEVER
            gaps[name, most] = found
            span = f"first {FIRST} tokens" if most else "whole continuation"
            table.append([says.en, span, found.estimate, found.low, found.high])
            rows.append({"series": span, "x": says.en, "y": found.estimate, "low": found.low, "high": found.high})
    causal = [run for run in cells["causal"].runs if run.done]
    off, curves = 0.0, []
    for run in causal:
        worst, steps = stepwise(run.model(), run.text().windows(1)[0], lab.by_tier(smoke=8, quick=64, full=128))
        off = max(off, worst)
        curves += [{"series": f"seed {run.run.seed}", "x": i, "y": max(x, 1e-9)} for i, x in enumerate(steps)]
    return Measured(
        answers={
            "stepwise": Interval.exact(off),
            "format": Interval.exact(sum(differing(run) for run in causal)),
            "glm": gaps["glm", FIRST], "spans": gaps["spans", FIRST],
            "glm_whole": gaps["glm", None], "spans_whole": gaps["spans", None],
        },
        pictures=[
            Picture(Words("What a continuation loses when asked for bare instead of in pretraining's format, 95% interval",
                          "不用预训练格式、直接续写时的损失增加，95% 区间"),
                    rows, x="model", y="bits per token", kind="points"),
            Picture(Words("Causal decoder: logits token by token through the cache against one pass over the text",
                          "因果解码器：经缓存逐 token 的 logits 与整段一次计算的最大差"),
                    curves, x="token of the answer", y="largest difference of logits", log_y=True),
        ],
        tables=[
            Table(Words("Gap of format", "格式差距"), ["model", "asked for", "bits per token", "low", "high"], table)
        ],
    )  # fmt: skip


def _gap(name: str, whole: bool) -> Question:
    says = MODELS[name][0]
    span = (
        Words("whole continuations", "整段续写")
        if whole
        else Words(f"the first {FIRST} tokens", f"前 {FIRST} 个 token")
    )
    return Question(
        Words(f"gap of format, {says.en}, {span.en}: bare minus pretraining's format",
              f"格式差距（{says.zh}，{span.zh}）：直接续写减去预训练格式"),
        Threshold(0.0, "above"), "bits per token", decides=not whole,
    )  # fmt: skip


CLAIM = Claim(
    key="C33",
    title=Words("Causal pretraining is identical to its use", "因果语言模型的预训练与使用方式完全一致"),
    says=Words(
        "A causal decoder is used exactly as it was trained, token after token; models that were trained to fill blanks "
        "meet another format when they are to write.",
        "因果解码器的使用方式与训练完全一致：逐 token 生成；以填空方式训练的模型在用于写作时会遇到与训练不同的格式。",
    ),
    literature=Words(
        "Lester et al. 2021, section 3.2: T5 has only seen targets with sentinels, which hinders prompting; 100,000 more "
        "steps of language modelling (LM adaptation) mend it. Wang et al. 2022 leave masked language models out of "
        "zero-shot comparison without such adaptation.",
        "Lester 等 2021 第 3.2 节：T5 只见过带哨兵标记的目标，不利于提示；再训练 10 万步语言模型目标（LM adaptation）可以弥补。"
        "Wang 等 2022 中，掩码语言模型未经适配不适合零样本续写。",
    ),
    sources=["Lester et al. 2021, section 3.2", "Wang et al. 2022, section 3.2", "Du et al. 2022 (GLM), section 2"],
    formulas=[
        Formula(
            r"\text{gap}=\frac{1}{m\ln 2}\sum_{i=1}^{m}\left[-\ln p(y_i\mid \text{bare}(x),y_{<i})"
            r"+\ln p(y_i\mid \text{pretraining}(x),y_{<i})\right]",
            Words("x: prompt; y: its continuation, m tokens; the same tokens in both formats",
                  "x：提示；y：其续写，共 m 个 token；两种格式下 token 相同"),
        )
    ],
    experiment=Words(
        "Exact, on trained causal decoders: the inputs, targets and visibility of a text in training against those in use; "
        "and the logits of an answer written token by token through the cache against those of one pass. Measured, at "
        "equal training FLOPs and three seeds or more: held-out continuations asked for bare (prompt, continuation) and in "
        "the format of pretraining (prompt, sentinel or [gMASK], continuation), the same tokens given and asked for, in "
        f"one and the same model. The first {FIRST} tokens decide, as many as a blank has in pretraining; whole "
        "continuations stand beside.",
        "精确部分（训练好的因果解码器）：同一文本在训练与使用时的输入、目标与可见性是否一致；经缓存逐 token 生成的 logits 与整段一次计算是否一致。"
        "测量部分（训练 FLOPs 相等，至少三个种子）：留出续写分别以“直接续写”与“预训练格式”（提示、哨兵或 [gMASK]、续写）提问，给出与要求的 token 相同、模型相同。"
        f"以前 {FIRST} 个 token（预训练中一个空的长度）判定，整段续写列在旁边。",
    ),
    rule=Words(
        f"Supported if no entry differs, the logits agree to {CLOSE:g} of the largest (rounding of float32), and the 95% t "
        "intervals of both denoisers' gaps lie above 0. A denoiser whose gap lies below 0 makes it depend on the objective. "
        "The gap of causal and of prefix LM is 0 by construction: both formats are one.",
        f"没有任何条目不同、logits 之差不超过最大值的 {CLOSE:g}（float32 舍入）、两个去噪目标的差距 95% t 区间都在 0 以上则支持；某个去噪目标的差距在 0 以下则取决于目标。"
        "因果与前缀语言模型的差距按构造为 0：两种格式相同。",
    ),
    questions={
        "stepwise": Question(
            Words("largest difference of logits, token by token against at once, over the largest logit",
                  "逐 token 与一次计算的 logits 最大差（相对最大 logit）"),
            Threshold(CLOSE, "below"),
        ),
        "format": Question(
            Words("entries of a text that differ between causal training and use", "同一文本在因果训练与使用之间不同的条目数"),
            Threshold(0.5, "below"), "entries",
        ),
        "glm": _gap("glm", False), "spans": _gap("spans", False),
        "glm_whole": _gap("glm", True), "spans_whole": _gap("spans", True),
    },
    runs=runs,
    measure=measure,
    changes=Words(
        "What training does not have in any family: the model's own tokens in place of the text's (exposure bias), prompts "
        "of another kind than the training text.",
        "任何家族训练时都没有的情况：上文是模型自己生成的 token（曝光偏差），或提示与训练文本类型不同。",
    ),
    seconds=12.0,
)  # fmt: skip
