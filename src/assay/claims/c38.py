"""C38: step = rate x gradient."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from assay.claims.base import Claim, Experiment, Formula, Measured, Picture, Question, Table, Tier, Words
from assay.claims.lab import Lab
from assay.claims.standard import study
from assay.stats import Interval, Threshold, Verdict, mean_interval

SCALE = 1e-4
RATES = {"gd": 0.3, "adam": 3e-3}
"""Rates at which either rule learns in so few steps."""
SEEDS = 3


def runs(tier: Tier) -> Mapping[str, Experiment]:
    """The standard decoder's text and model; its runs are other claims' too."""
    return {"standard": Experiment(study(tier, seeds=1))}


def decades(scaled: Sequence[float], plain: Sequence[float]) -> Interval:
    """log10 of the ratio of steps, mean over seeds."""
    return mean_interval(np.log10(np.asarray(scaled) / np.asarray(plain)))


def kept(scaled: Sequence[float], plain: Sequence[float]) -> Interval:
    """Share of the loss's fall that is left under the scaled gradient, mean over seeds."""
    return mean_interval(np.asarray(scaled) / np.asarray(plain))


def measure(lab: Lab) -> Measured:
    """Steps and falls of fresh models, with the gradient as it is and scaled."""
    from assay.nn import build
    from assay.probes.descent import descend
    from assay.training.setup import make_loader
    from assay.training.text import resolve

    standard = lab.results("standard").cells[0].runs[0]
    text, run = standard.text(), resolve(standard.run)
    run = run.model_copy(update={"train": run.train.with_(batch_size=4, length=64)})
    steps = lab.by_tier(smoke=4, quick=40, full=200)
    scales = lab.by_tier(
        smoke=(1.0, SCALE), quick=(1.0, 1e-2, SCALE, 1e-6, 1e-8), full=tuple(10.0**-k for k in range(9))
    )
    falls: dict[tuple[str, float], list[float]] = {}
    first: dict[tuple[str, float], list[float]] = {}
    rows = []
    for seed in range(SEEDS):
        loader = make_loader(run.model_copy(update={"seed": seed}), text)
        batches = [loader.batch(0, step) for step in range(4)]
        model = build(run.model, seed=seed)
        for rule, rate in RATES.items():
            for scale in scales:
                long = scale in (1.0, SCALE)
                found = descend(model, batches, rule=rule, rate=rate, steps=steps if long else 1, scale=scale)
                first.setdefault((rule, scale), []).append(found.first_step)
                if long:
                    falls.setdefault((rule, scale), []).append(found.fall)
            exact = descend(model, batches, rule=rule, rate=rate, steps=1, scale=SCALE, eps=1e-30)
            first.setdefault((f"{rule}, eps 1e-30", SCALE), []).append(exact.first_step)
    names = {"gd": "gradient descent", "adam": "Adam, eps 1e-8"}
    for rule, name in names.items():
        for scale in scales:
            ratio = decades(first[rule, scale], first[rule, 1.0])
            rows.append({"series": name, "x": scale, "y": 10**ratio.estimate})
    table: list[list[str | float | int | None]] = [
        [name, float(np.mean(first[rule, SCALE]) / np.mean(first[rule, 1.0])), float(np.mean(falls[rule, 1.0])),
         float(np.mean(falls[rule, SCALE]))]
        for rule, name in names.items()
    ]  # fmt: skip
    without = float(np.mean(first["adam, eps 1e-30", SCALE]) / np.mean(first["adam", 1.0]))
    return Measured(
        answers={
            "gd_step": decades(first["gd", SCALE], first["gd", 1.0]),
            "gd_training": kept(falls["gd", SCALE], falls["gd", 1.0]),
            "adam_step": decades(first["adam", SCALE], first["adam", 1.0]),
            "adam_training": kept(falls["adam", SCALE], falls["adam", 1.0]),
        },
        pictures=[
            Picture(
                Words(
                    "First step under a scaled gradient, over the step under the gradient itself",
                    "梯度缩放后的第一步与未缩放时第一步之比",
                ),
                rows, x="gradient multiplied by", y="step, relative", log_x=True, log_y=True,
            )
        ],
        tables=[
            Table(
                Words(
                    f"The gradient times {SCALE:g}, mean of {SEEDS} seeds, {steps} steps",
                    f"梯度乘以 {SCALE:g}，{SEEDS} 个种子的平均，{steps} 步",
                ),
                ["rule", "first step, relative", "loss fell by (nats)", "the same, scaled gradient"], table,
            )
        ],
        remarks=[
            Words(
                f"With Adam's eps at 1e-30 instead of 1e-8 the first step under {SCALE:g} of the gradient is {without:.4f} "
                "of the step under the gradient itself: what Adam loses at small gradients is eps's doing.",
                f"将 Adam 的 eps 从 1e-8 改为 1e-30，梯度乘以 {SCALE:g} 后的第一步为原来的 {without:.4f}：Adam 在小梯度下的缩短来自 eps。",
            )
        ],
    )  # fmt: skip


def judge(each: Mapping[str, Verdict]) -> Verdict:
    """Supported where it holds for both rules, refuted where for neither, depends where for one alone."""
    by_rule = {
        rule: [verdict for name, verdict in each.items() if name.startswith(rule)] for rule in ("gd", "adam")
    }  # fmt: skip
    found = []
    for verdicts in by_rule.values():
        if len(set(verdicts)) != 1 or verdicts[0] is Verdict.UNDECIDED:
            return Verdict.UNDECIDED
        found.append(verdicts[0])
    return found[0] if found[0] is found[1] else Verdict.DEPENDS


def _questions(rule: str, name: str) -> dict[str, Question]:
    return {
        f"{rule}_step": Question(
            Words(
                f"{name}: log10 of the first step under {SCALE:g} of the gradient over the plain step; the claim says -4",
                f"{name}：梯度乘以 {SCALE:g} 后第一步与原步长之比的 log10；论断要求 -4",
            ),
            Threshold(math.log10(SCALE) / 2, "below"), "decades",
        ),
        f"{rule}_training": Question(
            Words(
                f"{name}: share of the loss's fall that is left under {SCALE:g} of the gradient; the claim says near 0",
                f"{name}：梯度乘以 {SCALE:g} 后损失下降所保留的比例；论断要求接近 0",
            ),
            Threshold(0.5, "below"), "of the fall",
        ),
    }  # fmt: skip


CLAIM = Claim(
    key="C38",
    title=Words("The step is the rate times the gradient", "步长等于学习率乘以梯度"),
    says=Words(
        "What moves a weight is the learning rate times the gradient, so vanishing gradients and a small rate compound: "
        "the product is smaller still, and training stops.",
        "权重的移动量是学习率与梯度之积，因此梯度消失与过小的学习率会叠加：乘积更小，训练停滞。",
    ),
    literature=Words(
        "Kingma & Ba 2015, section 2.1: Adam's effective step is invariant to the scale of the gradients: scaling g by c "
        "scales m by c and v by c squared, and they cancel. Its size is bounded by about the rate.",
        "Kingma & Ba 2015，2.1 节：Adam 的有效步长不随梯度缩放而变：g 乘以 c 时 m 乘以 c、v 乘以 c 的平方，二者相消；步长大小约以学习率为界。",
    ),
    sources=["Kingma & Ba 2015, Adam, section 2.1"],
    formulas=[
        Formula(
            r"\theta_{t+1} = \theta_t - \eta\, \nabla_\theta \mathbb{E}\left[ \mathcal{L}(\theta_t) \right]",
            Words("eta: the learning rate; gradient descent", "η：学习率；梯度下降"),
            "gradient descent",
        ),
        Formula(
            r"\theta_{t+1} = \theta_t - \eta\, \frac{\hat m_t}{\sqrt{\hat v_t} + \epsilon}, \qquad "
            r"\frac{c\, \hat m_t}{\sqrt{c^2 \hat v_t} + \epsilon} \approx \frac{\hat m_t}{\sqrt{\hat v_t}}"
            r"\quad \text{for } c \sqrt{\hat v_t} \gg \epsilon",
            Words("c: what every gradient is multiplied by", "c：所有梯度同乘的因子"),
            "Kingma & Ba 2015, section 2.1",
        ),
    ],
    experiment=Words(
        f"Every gradient is multiplied by {SCALE:g}, as if it had vanished on its way. On fresh standard decoders: the norm of "
        "the first step, and by how much the loss falls in a few dozen bare steps, under gradient descent and under Adam "
        "(eps 1e-8, no clipping), at the same rate with and without the factor; three seeds.",
        f"把所有梯度乘以 {SCALE:g}，相当于梯度在途中消失。在新初始化的标准解码器上，比较有无该因子、同一学习率下第一步的范数，以及数十步内损失的下降量；"
        "分别用梯度下降与 Adam（eps 1e-8，不裁剪），三个种子。",
    ),
    rule=Words(
        "For each of the two rules the claim holds if the step shrinks by more than half of the four decades and less than "
        "half of the loss's fall is left (95% intervals), and fails if neither. Holds for both: supported; for neither: "
        "refuted; for one alone: depends; else undecided.",
        "对两种更新规则分别判断：若步长缩小超过四个数量级的一半、且保留的损失下降不足一半（95% 区间），则成立；两者都不然则不成立。都成立为支持，"
        "都不成立为否定，只有其一成立为视情况而定，其余为未定。",
    ),
    questions=_questions("gd", "gradient descent") | _questions("adam", "Adam"),
    runs=runs,
    measure=measure,
    judge=judge,
    changes=Words(
        "Gradients so small that they come near Adam's eps (the picture's left end); clipping, which also removes scale. "
        "A rate 1e-4 times as large shrinks every rule's step.",
        "当梯度小到接近 Adam 的 eps 时（图左端）会改变；裁剪同样会去除尺度。而学习率乘以 1e-4 会使任何规则的步长缩小。",
    ),
    seconds=25.0,
)  # fmt: skip
