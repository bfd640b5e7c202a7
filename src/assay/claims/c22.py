"""C22: 175B, 540B, 130B are counts of parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay.claims.base import Claim, Formula, Measured, Picture, Question, Table, Words
from assay.claims.lab import Lab
from assay.spec.model import ModelSpec
from assay.spec.norm_table import size_rows
from assay.spec.published import preset
from assay.stats import Equivalence, Interval, Threshold, Verdict

NAMED: Mapping[str, float] = {
    "gpt3-175b": 175e9,
    "palm-540b": 540e9,
    "bloom-176b": 176e9,
    "glm-130b": 130e9,
    "llama-65b": 65e9,
    "t5-xxl": 11e9,
    "chatglm-6b": 6e9,
}
"""The number in each name (T5's largest is known as T5-11B)."""

ROUNDING = 0.03
"""A name has two or three digits, and some are rounded down to a whole billion."""

SWITCH = {
    "family": "encoder_decoder", "layers": 15, "width": 2080, "vocab_size": 32128, "context": 512,
    "norm": {"kind": "rmsnorm"}, "positions": "relative", "attention": {"heads": 64, "head_width": 64},
    "feedforward": {"width": 6144, "gated": False, "bias": False, "activation": "relu",
                    "experts": {"count": 1, "active": 1}},
}  # fmt: skip
"""Switch-C (Fedus et al. 2021, table 9), with one expert instead of 2,048 in all 15 layers of both stacks."""
EXPERTS = 2048

BUILT = {
    "causal": {"family": "causal"},
    "prefix, DeepNorm": {"family": "prefix", "placement": "glm130b"},
    "encoder-decoder": {"family": "encoder_decoder"},
    "encoder": {"family": "encoder"},
}


def deviations(counts: Mapping[str, float], named: Mapping[str, float] = NAMED) -> dict[str, float]:
    """Count over the number in the name, minus 1."""
    return {name: counts[name] / value - 1 for name, value in named.items()}


def _built() -> int:
    """By how many parameters built models differ from what is counted from their descriptions, summed."""
    from assay.nn import build

    missed = 0
    for fields in BUILT.values():
        spec = ModelSpec.from_dict({**fields, "layers": 2, "width": 32, "vocab_size": 300, "attention": {"heads": 2}})
        missed += abs(sum(p.numel() for p in build(spec, seed=0).parameters()) - int(spec.parameters()))
    return missed


def _switch() -> int:
    """Switch-C's parameters: linear in the number of experts, so counted with one and with two."""
    fields: dict[str, Any] = {**SWITCH}
    one, two = (
        int(
            ModelSpec.from_dict(
                fields | {"feedforward": fields["feedforward"] | {"experts": {"count": n, "active": 1}}}
            ).parameters()
        )
        for n in (1, 2)
    )
    return one + (EXPERTS - 1) * (two - one)


def measure(lab: Lab) -> Measured:
    """Count."""
    counts = {name: float(int(preset(name).parameters())) for name in NAMED}
    found = deviations(counts)
    worst = max(found.values(), key=abs)
    switch = _switch()
    sizes = [row for row in size_rows() if row.total >= 1e8]
    points = [{"series": "one configuration", "x": row.model, "y": row.total} for row in size_rows()]
    points.append({"series": "one configuration", "x": "Switch-C", "y": switch})
    return Measured(
        answers={
            "named": Interval.exact(worst),
            "trillion": Interval.exact(switch),
            "built": Interval.exact(_built()),
            "above": Interval.exact(len(sizes) / len(size_rows())),
        },
        pictures=[
            Picture(
                Words(
                    "Parameters of every named configuration, counted without weights",
                    "每个具名配置的参数量，不需权重即可数出",
                ),
                points, x="model", y="parameters", kind="points", log_y=True,
            )
        ],
        tables=[
            Table(
                Words("The number in the name against the count", "名称中的数字与实际计数"),
                ["preset", "name says", "counted", "difference"],
                [[name, NAMED[name], counts[name], found[name]] for name in NAMED],
            )
        ],
        remarks=[
            Words(
                "GLM-130B is counted with tied matrices; untied it has 130.5e9. ChatGLM-6B has 6.17e9 tied and 6.71e9 as "
                "stored. '60B' names no system of the note, and that ChatGPT has 175e9 was never disclosed.",
                "GLM-130B 按共享矩阵计数；不共享时为 1305 亿。ChatGLM-6B 共享时 61.7 亿，按存储为 67.1 亿。笔记中的“60B”不对应任何系统；"
                "ChatGPT 有 1750 亿参数从未被公布。",
            )
        ],
    )  # fmt: skip


CLAIM = Claim(
    key="C22",
    title=Words("175B, 540B, 130B are parameter counts", "175B、540B、130B 指参数量"),
    says=Words(
        "The numbers in the names of models are their parameters, in billions; a model counts as large from 1e8 on, and "
        "some have more than 1e12.",
        "模型名中的数字是以十亿计的参数量；一般参数量达到一亿以上即称大模型，有的超过一万亿。",
    ),
    literature=Words(
        "GPT-3: 175 billion (Brown et al. 2020, table 2.1); PaLM: 540.35 billion (Chowdhery et al. 2022, table 1); BLOOM: "
        "176,247,271,424 (Le Scao et al. 2022); Switch-C: 1,571 billion (Fedus et al. 2021, table 9). Where 'large' "
        "begins is a convention.",
        "GPT-3：1750 亿（Brown 等 2020 表 2.1）；PaLM：5403.5 亿（Chowdhery 等 2022 表 1）；BLOOM：176,247,271,424（Le Scao 等 "
        "2022）；Switch-C：1.571 万亿（Fedus 等 2021 表 9）。“大”从何处起只是约定。",
    ),
    sources=[
        "Brown et al. 2020, table 2.1", "Chowdhery et al. 2022, table 1", "Le Scao et al. 2022",
        "Fedus et al. 2021, Switch Transformers, table 9",
    ],
    formulas=[
        Formula(
            r"N = V d + \sum_{\ell=1}^{L} \left( 4 d^2 + 2 d\, d_{\mathrm{ff}} \right) + \ldots \approx 12 L d^2 + V d",
            Words(
                "V: vocabulary; d: width; L: layers; d_ff = 4 d. Biases, norms, positions, gates and grouped queries are "
                "counted exactly, not by this rule",
                "V：词表；d：宽度；L：层数；d_ff = 4d。偏置、归一化、位置、门控与分组查询均按实际逐项计数，而非用此近似",
            ),
            "Kaplan et al. 2020, table 1",
        )
    ],
    experiment=Words(
        "No training. Parameters are counted from each configuration; Switch-C is described and counted too; small models "
        "of four families are built and their tensors counted, to hold the counting to what is built.",
        "不训练。由各配置逐项数出参数；Switch-C 也照其描述计数；另外构建四个家族的小模型并数其张量，以检验计数与实际构建一致。",
    ),
    rule=Words(
        f"Supported if no count is further than {ROUNDING:.0%} from the number in its name (a name has two or three "
        "digits), a published configuration has more than 1e12 parameters, and counts equal built models exactly; "
        "refuted where all fail; depends else. ChatGLM-6B's 6.17e9 is 2.9% above its name.",
        f"若所有计数与名称中数字的差都不超过 {ROUNDING:.0%}（名称只有两三位数字）、存在超过一万亿参数的公开配置、且计数与构建的模型完全一致，"
        "则支持；全部不成立则否定；否则视情况而定。ChatGLM-6B 的 61.7 亿比其名称高 2.9%。",
    ),
    questions={
        "named": Question(
            Words("largest deviation of a count from the number in the name", "计数与名称中数字的最大偏差"),
            Equivalence(ROUNDING), "of the name",
        ),
        "trillion": Question(
            Words("parameters of Switch-C, most of them in experts", "Switch-C 的参数量（绝大部分在专家中）"),
            Threshold(1e12), "parameters",
        ),
        "built": Question(
            Words("parameters by which built models differ from the count", "构建的模型与计数相差的参数个数"),
            Equivalence(0.5), "parameters",
        ),
        "above": Question(
            Words("share of the named configurations with 1e8 parameters or more", "参数量不低于一亿的具名配置所占比例"),
            Threshold(0.5), "of configurations", decides=False,
        ),
    },
    measure=measure,
    changes=Words(
        "Nothing random is in it. Counting tied matrices twice, or a mixture's active experts alone, gives other numbers.",
        "其中没有随机性。把共享矩阵计两次，或只计混合专家中被激活的部分，会得到不同的数字。",
    ),
    verdicts=(Verdict.SUPPORTED, Verdict.REFUTED, Verdict.DEPENDS),
    seconds=2.0,
)  # fmt: skip
