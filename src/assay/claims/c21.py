"""C21: which model uses which norm."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from assay.claims.base import Claim, Formula, Measured, Picture, Question, Table, Words
from assay.claims.lab import Lab
from assay.spec.norm_table import NormRow, norm_rows
from assay.stats import Equivalence, Interval, Verdict

LISTED: Mapping[str, tuple[str, str]] = {
    "GPT-3": ("layernorm", "pre"),
    "LLaMA 1": ("rmsnorm", "pre"),
    "Baichuan 1": ("rmsnorm", "pre"),
    "ChatGLM-6B": ("deepnorm", "post"),
    "ChatGLM2-6B": ("rmsnorm", "post"),
    "BLOOM": ("layernorm", "pre"),
    "Falcon": ("layernorm", "pre"),
}
"""The table as it circulates with the note: norm and placement."""

BIDIRECTIONAL = ("encoder", "encoder_decoder")


def read(row: NormRow) -> tuple[str, str]:
    """Norm and placement of a configuration in the words of the circulating table."""
    first = row.placement.partition(",")[0]
    if first.startswith("DeepNorm"):
        return "deepnorm", "post"
    return row.norm, first.partition(" ")[0]


def wrong(rows: Sequence[NormRow], listed: Mapping[str, tuple[str, str]] = LISTED) -> list[str]:
    """Models whose configuration says something else than the circulating table."""
    return [row.model for row in rows if row.model in listed and read(row) != listed[row.model]]


def exceptions(rows: Sequence[NormRow]) -> list[str]:
    """Models against 'LayerNorm for bidirectional models, RMSNorm for autoregressive ones'."""
    return [row.model for row in rows if (row.norm == "rmsnorm") == (row.family in BIDIRECTIONAL)]


def answers(rows: Sequence[NormRow]) -> dict[str, Interval]:
    """Counts of what does not agree."""
    found = wrong(rows)
    return {
        "others": Interval.exact(len([model for model in found if model != "ChatGLM2-6B"])),
        "chatglm2": Interval.exact(len([model for model in found if model == "ChatGLM2-6B"])),
        "suits": Interval.exact(len(exceptions(rows))),
    }


def measure(lab: Lab) -> Measured:
    """Read every preset."""
    rows = norm_rows()
    kinds = sorted({read(row)[1] for row in rows})
    counts = Counter((row.norm, read(row)[1], row.family in BIDIRECTIONAL) for row in rows)
    heat = [
        {
            "x": place,
            "y": f"{norm}, {'reads both ways' if both else 'autoregressive'}",
            "value": counts[norm, place, both],
        }
        for norm in ("layernorm", "rmsnorm")
        for both in (True, False)
        for place in kinds
    ]
    listed = {row.model: row for row in rows if row.model in LISTED}
    return Measured(
        answers=answers(rows),
        pictures=[
            Picture(
                Words(
                    f"How many of {len(rows)} named models have which norm, where it stands, and how they read",
                    f"{len(rows)} 个具名模型的归一化种类、位置与阅读方向：各有多少个",
                ),
                heat, x="placement", y="norm and reading", kind="heat",
            )
        ],
        tables=[
            Table(
                Words("The circulating table against the released configurations", "流传的表格与公开配置的对照"),
                ["model", "listed", "released norm", "released placement", "agrees"],
                [
                    [m, " ".join(reversed(LISTED[m])), r.norm, r.placement, "no" if m in wrong(rows) else "yes"]
                    for m, r in listed.items()
                ],
            ),
            Table(
                Words("Every named model, read from its configuration", "全部具名模型，读自其配置"),
                ["model", "norm", "placement", "eps", "bias", "positions", "activation", "family", "notes"],
                [
                    [r.model, r.norm, r.placement, r.eps, r.bias, r.positions, r.activation, r.family, r.notes]
                    for r in rows
                ],
            ),
        ],
        remarks=[
            Words(
                f"Against 'RMSNorm for autoregressive models, LayerNorm for bidirectional ones': "
                f"{', '.join(exceptions(rows))}.",
                f"与“自回归模型用 RMSNorm、双向模型用 LayerNorm”相反的模型：{'、'.join(exceptions(rows))}。",
            )
        ],
    )  # fmt: skip


CLAIM = Claim(
    key="C21",
    title=Words("Which model uses which norm", "哪个模型用哪种归一化"),
    says=Words(
        "GPT-3, BLOOM and Falcon: LayerNorm before the sublayer; LLaMA and Baichuan: RMSNorm before it; ChatGLM-6B: "
        "DeepNorm after it; ChatGLM2-6B: RMSNorm after it. RMSNorm suits GPT and autoregressive models, LayerNorm "
        "bidirectional ones such as BERT.",
        "GPT-3、BLOOM、Falcon 用 Pre LayerNorm；LLaMA、Baichuan 用 Pre RMSNorm；ChatGLM-6B 用 Post DeepNorm；ChatGLM2-6B "
        "用 Post RMSNorm。RMSNorm 适合 GPT 等自回归模型，LayerNorm 适合 BERT 等双向模型。",
    ),
    literature=Words(
        "The released configurations and code are the literature here. ChatGLM2-6B's block adds the sublayer's output "
        "to the stream that entered the norm: pre-RMSNorm, eps 1e-5. GPT-2 and GPT-3 have LayerNorm, T5's encoder "
        "RMSNorm (Raffel et al. 2020, section 2.1: no mean, no bias).",
        "此处的文献就是公开的配置与代码。ChatGLM2-6B 的模块把子层输出加到进入归一化之前的残差流上，即 Pre-RMSNorm，eps 为 "
        "1e-5。GPT-2、GPT-3 用 LayerNorm，而 T5 的编码器用 RMSNorm（Raffel 等 2020，2.1 节：不减均值、无偏置）。",
    ),
    sources=[
        "Released configurations and modelling code of every model in the table",
        "Raffel et al. 2020, Exploring the Limits of Transfer Learning, section 2.1",
        "Zeng et al. 2022, GLM-130B (DeepNorm after the sublayer, alpha = sqrt(2N))",
    ],
    formulas=[
        Formula(
            r"\text{Pre: } x \leftarrow x + f(\mathrm{Norm}(x)) \qquad \text{Post: } x \leftarrow \mathrm{Norm}(x + f(x))"
            r" \qquad \text{DeepNorm: } x \leftarrow \mathrm{LN}(\alpha x + f(x))",
            Words("x: the residual stream; f: a sublayer", "x：残差流；f：子层"),
            "Xiong et al. 2020; Wang et al. 2022",
        )
    ],
    experiment=Words(
        "No training. Every named model's configuration, as assay loads and builds it (logits are tested against the "
        "reference code), is read for its norm, placement, eps, biases, positions and activation; the circulating table "
        "and the sentence on who suits what are held against it.",
        "不训练。逐一读取 assay 加载并构建的具名模型配置（logits 已与参考实现核对）：归一化、位置、eps、偏置、位置编码与激活函数，"
        "并与流传的表格及“谁适合什么”的说法对照。",
    ),
    rule=Words(
        "Exact counts, and 0 is what the claim needs: rows of the circulating table that the configurations contradict "
        "(ChatGLM2 apart from the others), and models against the sentence on who suits what. All 0: supported; none 0: "
        "refuted; some 0: depends.",
        "精确计数，论断要求为 0：与配置矛盾的表格行数（ChatGLM2 单列），以及违背“谁适合什么”的模型数。全部为 0 则支持；全不为 0 "
        "则否定；部分为 0 则视情况而定。",
    ),
    questions={
        "others": Question(
            Words("wrong rows of the circulating table, ChatGLM2 left out", "流传表格中错误的行数（不计 ChatGLM2）"),
            Equivalence(0.5), "rows",
        ),
        "chatglm2": Question(
            Words("ChatGLM2-6B's row is wrong (1) or right (0)", "ChatGLM2-6B 一行错误（1）或正确（0）"),
            Equivalence(0.5), "rows",
        ),
        "suits": Question(
            Words(
                "models against 'RMSNorm for autoregressive, LayerNorm for bidirectional'",
                "违背“自回归用 RMSNorm、双向用 LayerNorm”的模型数",
            ),
            Equivalence(0.5), "models",
        ),
    },
    measure=measure,
    changes=Words(
        "Another release of a model under the same name. What a norm is fit for is measured in C36, not read off usage.",
        "同名模型的另一次发布会改变结果。某种归一化适合什么，由 C36 测量，而不由使用情况推断。",
    ),
    verdicts=(Verdict.SUPPORTED, Verdict.REFUTED, Verdict.DEPENDS),
    seconds=3.0,
)  # fmt: skip
