"""C37: the printed DeepNorm code, and depth without DeepNorm."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from assay.claims.base import Claim, Experiment, Formula, Measured, Picture, Question, Table, Tier, Words
from assay.claims.lab import Lab
from assay.claims.placements import NAMES, deep, grid, mean_of
from assay.spec.model import ModelSpec
from assay.spec.parameters import layout
from assay.stats import Interval, Threshold

MARGIN = 0.02
SCALED = ["ffn", "v_proj", "out_proj"]
"""The names that the printed initializer looks for, to scale by beta."""

Matches = Callable[[str], bool]


def printed(name: str) -> bool:
    """As printed: `w is ['ffn', 'v_proj', 'out_proj']`. Nothing is the same object as a list made on the spot."""
    fresh: object = list(SCALED)
    return name is fresh


def member(name: str) -> bool:
    """`in` in place of `is`: a whole name would have to be "ffn"; a parameter's name is longer."""
    return name in SCALED


def inside(name: str) -> bool:
    """What was meant: one of the names stands inside of the parameter's name."""
    return any(wanted in name for wanted in SCALED)


READINGS: dict[str, Matches] = {"is, as printed": printed, "in": member, "name inside of name": inside}


def common_names(spec: ModelSpec) -> list[str]:
    """The weight matrices of a model's blocks under the names that the printed code speaks of.

    `decoder.layers.0.self_attn.v_proj.weight`, `decoder.layers.0.ffn.down.weight`.
    """
    new = {"attention.q": "self_attn.q_proj", "attention.k": "self_attn.k_proj", "attention.v": "self_attn.v_proj",
           "attention.o": "self_attn.out_proj", "feedforward": "ffn", "blocks": "layers"}  # fmt: skip
    found = []
    for parameter in layout(spec):
        if ".blocks." in parameter.name and len(parameter.shape) == 2:
            name = parameter.name
            for old, said in new.items():
                name = name.replace(f".{old}.", f".{said}.")
            found.append(name)
    return found


def matched(names: Sequence[str], rule: Matches) -> float:
    """Share of the matrices that beta belongs to which a rule finds."""
    meant = [name for name in names if inside(name)]
    return sum(rule(name) for name in meant) / len(meant)


def runs(tier: Tier) -> Mapping[str, Experiment]:
    """The runs of C14: Post-LN and DeepNorm at two depths, equal training FLOPs."""
    return {
        f"{placement}-{depth}": deep(tier, placement, shallow=depth == "shallow")
        for placement in ("post", "deepnet")
        for depth in ("shallow", "deep")
    }


def measure(lab: Lab) -> Measured:
    """What the printed rule matches, and what depth brings with and without DeepNorm."""
    grids = {name: grid(lab, name) for name in runs(lab.tier)}
    names = common_names(grids["deepnet-deep"].cells[0].runs[0].run.model)
    shares = {reading: matched(names, rule) for reading, rule in READINGS.items()}
    gains = {p: [a - b for a, b in zip(grids[f"{p}-deep"].best.bits, grids[f"{p}-shallow"].best.bits, strict=True)]
             for p in ("post", "deepnet")}  # fmt: skip
    points = []
    for name, found in grids.items():
        at = found.best.mean
        points.append(
            {"series": NAMES[name.split("-")[0]], "x": found.best.runs[0].run.model.layers, "y": at.estimate,
             "low": at.low, "high": at.high}
        )  # fmt: skip
    return Measured(
        answers={
            "code": Interval.exact(shares["is, as printed"]),
            "saturates": mean_of([a - b for a, b in zip(gains["post"], gains["deepnet"], strict=True)]),
        },
        pictures=[
            Picture(Words("Share of the matrices meant that each reading of the printed rule finds", "印刷代码的各种读法找到的目标矩阵比例"),
                    [{"series": "found", "x": reading, "y": share} for reading, share in shares.items()],
                    x="reading of the rule", y="share", kind="bars"),
            Picture(Words("Held-out loss by depth at equal training FLOPs, each at its best rate", "相同训练 FLOPs 下留出损失随深度的变化（各取最佳学习率）"),
                    points, x="layers", y="bits per byte"),
        ],
        tables=[
            Table(Words("The matrices of one layer, and what each reading does", "一层中的各矩阵与各读法的结果"),
                  ["matrix", *READINGS],
                  [[name, *("beta" if rule(name) else "-" for rule in READINGS.values())]
                   for name in names if ".layers.0." in name])
        ],
        remarks=[remark for found in grids.values() for remark in found.remarks],
    )  # fmt: skip


CLAIM = Claim(
    key="C37",
    title=Words("The printed DeepNorm code; depth saturates without it", "印出的 DeepNorm 代码；没有它深度会饱和"),
    says=Words(
        "The printed initializer scales feed-forward, value and output weights by beta; and without DeepNorm more depth soon "
        "brings nothing.",
        "印出的初始化代码把前馈、value 与输出权重乘以 beta；没有 DeepNorm 时，加深很快不再有收益。",
    ),
    literature=Words(
        "Wang et al. 2022 (DeepNet), figure 2 prints `if w is ['ffn', 'v_proj', 'out_proj']` as pseudo-code, and notes copy it "
        "as if it were code. In their figures on depth Post-LN fails beyond some tens of layers, DeepNet gains up to 1,000.",
        "Wang 等 2022（DeepNet）图 2 以伪代码形式印出 `if w is ['ffn', 'v_proj', 'out_proj']`，笔记把它当作代码抄录。在其深度实验中，Post-LN 超过几十层即失败，DeepNet "
        "直到 1000 层仍有收益。",
    ),
    sources=["Wang et al. 2022, DeepNet, figure 2 and section 5"],
    formulas=[
        Formula(
            r"W_{\mathrm{ffn}},W_V,W_O\sim\beta\cdot\mathrm{Xavier},\qquad W_Q,W_K\sim\mathrm{Xavier}",
            Words("beta = (8M)^(-1/4) in a decoder of M layers", "M 层解码器中 beta = (8M)^(-1/4)"),
            "Wang et al. 2022, figure 2",
        )
    ],
    experiment=Words(
        "Exact: the printed test is run on the names of every matrix of a model's blocks, as printed (`is`: the same object, "
        "which a fresh list never is), with `in` (a whole name in the list), and as meant (a listed name inside of the "
        "parameter's name). In assay (`nn/init.py`) beta goes by the end of the name. Then quality by depth: Post-LN and "
        "DeepNorm at two depths, equal training FLOPs, each at its own best rate, seeds paired (the runs of C14).",
        "精确部分：对模型各块所有矩阵的名称运行印出的条件：按原文（`is`：同一对象，新建的列表绝不可能是）、改为 `in`（整个名称在列表中）、以及其本意（列表中的名字包含于参数名）。"
        "assay（`nn/init.py`）按名称结尾决定 beta。随后比较不同深度的效果：Post-LN 与 DeepNorm 各两种深度，训练 FLOPs 相同，各取最佳学习率，种子配对（即 C14 的训练）。",
    ),
    rule=Words(
        "Code: supported if the printed rule finds every matrix meant (share above 0.99), refuted otherwise; exact. "
        f"Saturates: depth brings Post-LN at least {MARGIN} bits per byte less than DeepNorm, by the whole 95% interval "
        "(Student t); refuted under that. Parts that disagree: depends.",
        f"代码：印出的规则找到全部目标矩阵（比例高于 0.99）则支持，否则否定；精确判定。饱和：加深给 Post-LN 的收益比 DeepNorm 至少少 {MARGIN} 比特每字节（整个 95% 区间，t），"
        "低于则否定。不一致为“视情况而定”。",
    ),
    questions={
        "code": Question(
            Words("share of the matrices meant that the printed rule finds", "印出的规则找到的目标矩阵比例"), Threshold(0.99), "share"
        ),
        "saturates": Question(
            Words("what depth changes in the loss of Post-LN, minus the same of DeepNorm", "加深对损失的改变：Post-LN 减 DeepNorm"),
            Threshold(MARGIN), "bits per byte",
        ),
    },
    runs=runs,
    measure=measure,
    changes=Words(
        "Nothing changes the first part. The second needs more depth and a longer training than seconds.",
        "第一部分不会改变。第二部分需要更大的深度与更长的训练。",
    ),
)  # fmt: skip
