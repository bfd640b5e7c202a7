"""C12: RMSNorm is as good as LayerNorm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from assay.claims.base import Claim, Experiment, Formula, Measured, Picture, Question, Table, Tier, Words
from assay.claims.lab import Lab
from assay.claims.standard import RATES, study
from assay.stats import Equivalence, Interval, Threshold, Verdict

MARGIN = 0.02


def runs(tier: Tier) -> Mapping[str, Experiment]:
    """Both norms in the standard decoder, each at its own best rate."""
    return {"norms": Experiment(study(tier, vary={"norm": ("layernorm", "rmsnorm")}), RATES[tier])}


def measure(lab: Lab) -> Measured:
    """The paired difference of held-out loss."""
    found = lab.results("norms")
    layer, rms = found.cell(norm="layernorm"), found.cell(norm="rmsnorm")
    rows = []
    table: list[list[str | float | int | None]] = []
    for name, cell in (("LayerNorm", layer), ("RMSNorm", rms)):
        mean = cell.mean
        rows.append({"series": name, "x": name, "y": mean.estimate, "low": mean.low, "high": mean.high})
        table.append([name, cell.rate, mean.estimate, mean.low, mean.high])
    changes = {f"{kind}_{what}": found for kind in ("layernorm", "rmsnorm") for what, found in invariance(kind).items()}
    return Measured(
        answers={"loss": rms.minus(layer), **{name: Interval.exact(value) for name, value in changes.items()}},
        pictures=[
            Picture(
                Words("Held-out loss of both norms, 95% interval", "两种归一化的留出损失，95% 区间"),
                rows, x="norm", y="bits per byte", kind="points",
            )
        ],
        tables=[
            Table(
                Words("Each at its own best rate", "各自取最佳学习率"),
                ["norm", "rate", "bits per byte", "low", "high"], table,
            ),
            Table(
                Words("Largest change of the output (float64, eps 0) when the input is shifted by 3, or doubled",
                      "输入平移 3 或加倍时输出的最大变化（float64，eps 为 0）"),
                ["norm", "shifted", "doubled"],
                [[name, changes[f"{kind}_shift"], changes[f"{kind}_scale"]]
                 for kind, name in (("layernorm", "LayerNorm"), ("rmsnorm", "RMSNorm"))],
            ),
        ],
        remarks=found.remarks(),
    )  # fmt: skip


def invariance(kind: str) -> dict[str, float]:
    """Largest change of a norm's output when its input is shifted by 3 ("shift") and doubled ("scale"), eps 0."""
    import torch

    from assay.nn.norms import Norm
    from assay.spec.parts import NormSpec

    norm = Norm(NormSpec.model_validate({"kind": kind, "eps": 0.0, "weight": False}), 64)
    x = torch.randn(32, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = norm(x)
    return {"shift": float((norm(x + 3) - y).abs().max()), "scale": float((norm(2 * x) - y).abs().max())}


def _exact(what: str, zh: str, side: Literal["above", "below"]) -> Question:
    return Question(
        Words(f"largest change of the output: {what}", f"输出的最大变化：{zh}"), Threshold(1e-9, side), decides=False
    )


CLAIM = Claim(
    key="C12",
    title=Words("RMSNorm is as good as LayerNorm", "RMSNorm 与 LayerNorm 效果相当"),
    says=Words(
        "Leaving out the mean costs nothing: a model with RMSNorm ends at about the loss of one with LayerNorm.",
        "去掉减均值的步骤几乎没有代价：使用 RMSNorm 的模型与使用 LayerNorm 的模型最终损失基本相同。",
    ),
    literature=Words(
        "Zhang & Sennrich 2019: translation within 0.2 BLEU of LayerNorm. Narang et al. 2021, table 1 (T5 variants): "
        "final loss 1.821 with RMSNorm, 1.838 with LayerNorm.",
        "Zhang & Sennrich 2019：翻译任务与 LayerNorm 相差不超过 0.2 BLEU。Narang 等 2021 表 1（T5 变体）：RMSNorm 最终损失 "
        "1.821，LayerNorm 为 1.838。",
    ),
    sources=["Zhang & Sennrich 2019, Root Mean Square Layer Normalization", "Narang et al. 2021, section 3"],
    formulas=[
        Formula(
            r"\mathrm{RMSNorm}(x)_i = \frac{x_i}{\sqrt{\frac{1}{d}\sum_{j=1}^{d} x_j^2 + \epsilon}}\, g_i",
            Words(
                "x: features of one token; g: learned gain; d: width", "x：一个 token 的特征；g：可学习增益；d：宽度"
            ),
            "Zhang & Sennrich 2019, equation 4",
        )
    ],
    experiment=Words(
        "The standard causal decoder is trained with both norms, equal in everything else; each at its best rate out of "
        "a sweep on one seed, then three seeds or more, paired by seed (same data order, same first weights); Student t. "
        "Beside it, exactly: what each norm's output does when its input is shifted or scaled.",
        "标准因果解码器分别使用两种归一化训练，其余全部相同；各自先在一个种子上扫描得到最佳学习率，再用三个以上种子配对比较（相同数据顺序与初始权重），t 区间。另外精确给出输入平移或缩放时各归一化输出的变化。",
    ),
    rule=Words(
        f"Supported if the 95% interval of RMSNorm's loss minus LayerNorm's lies within ±{MARGIN} bits per byte, refuted "
        "if it lies outside; else undecided. The margin is a sixth of what parts causal from prefix decoders in the "
        "default comparison (0.12). The invariances stand beside it and decide nothing.",
        f"若 RMSNorm 与 LayerNorm 损失之差的 95% 区间落在 ±{MARGIN} 比特每字节之内则支持，完全落在之外则否定，否则未定。该界限为默认比较中因果与前缀解码器差距（0.12）的六分之一。不变性另列，不参与判定。",
    ),
    questions={
        "loss": Question(
            Words("held-out loss, RMSNorm minus LayerNorm", "留出损失：RMSNorm 减 LayerNorm"),
            Equivalence(MARGIN),
            "bits per byte",
        ),
        "layernorm_shift": _exact("LayerNorm, input shifted by 3", "LayerNorm，输入平移 3", "below"),
        "layernorm_scale": _exact("LayerNorm, input doubled", "LayerNorm，输入加倍", "below"),
        "rmsnorm_shift": _exact("RMSNorm, input shifted by 3: it does change", "RMSNorm，输入平移 3：会改变", "above"),
        "rmsnorm_scale": _exact("RMSNorm, input doubled", "RMSNorm，输入加倍", "below"),
    },
    runs=runs,
    measure=measure,
    changes=Words(
        "More seeds narrow the interval; a deeper or longer training could open a gap that a small model does not show.",
        "更多种子会收窄区间；更深的模型或更长的训练可能出现小模型看不到的差距。",
    ),
    verdicts=(Verdict.SUPPORTED, Verdict.REFUTED, Verdict.UNDECIDED),
)
