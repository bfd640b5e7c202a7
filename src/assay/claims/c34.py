"""C34: bidirectional attention loses order."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from assay.claims import families
from assay.claims.base import Claim, Experiment, Formula, Measured, Picture, Question, Table, Tier, Words
from assay.claims.lab import NEVER, Lab, Trained
from assay.claims.ranks import measured
from assay.claims.standard import study
from assay.stats import Interval, Threshold, Verdict

EXACT, SEEN = 1e-9, 1e-3
"""Rounding in float64 stays far below the first; what sees order lies far above the second."""
MASKS = ("bidirectional", "causal")
POSITIONS = ("none", "rope", "learned", "alibi")


def runs(tier: Tier) -> Mapping[str, Experiment]:
    """Both masks at two depths: the deep ones are the families' own."""
    layers = study(tier).model.layers // 2
    shallow = study(tier, model={"layers": layers}, vary={"family": ("causal", "prefix")}, objective="prefix_lm")
    return {**families.experiments(tier, "masked", "prefix"), "shallow": Experiment(shallow)}


def errors() -> dict[tuple[str, str], float]:
    """(mask, positions): deviation from permutation equivariance, one set of fresh weights each position kind."""
    import torch

    from assay.nn import build
    from assay.probes.equivariance import permutation_error
    from assay.spec.masks import Bidirectional, Causal, Mask
    from assay.spec.model import ModelSpec

    ids = torch.randint(0, 64, (4, 16), generator=torch.Generator().manual_seed(34))
    rules = {"bidirectional": Mask(Bidirectional()), "causal": Mask(Causal())}
    found = {}
    for kind in POSITIONS:
        spec = ModelSpec.from_dict({"vocab_size": 64, "width": 64, "layers": 3, "positions": {"kind": kind}})
        net = build(spec, seed=0).double().eval()
        for mask in MASKS:
            found[mask, kind] = permutation_error(partial(_outputs, net, rules[mask]), ids)
    return found


def _outputs(net: Any, mask: Any, ids: Any) -> Any:
    return net.decode(ids, mask).hidden


def measure(lab: Lab) -> Measured:
    """Equivariance, exactly; then whether rank carries the mask's effect on generation loss."""
    found = errors()
    points, mediated, remarks = _mediation(lab)
    table: list[list[str | float | int | None]] = [[kind, *(found[mask, kind] for mask in MASKS)] for kind in POSITIONS]
    return Measured(
        answers={
            "bidirectional": Interval.exact(found["bidirectional", "none"]),
            "causal": Interval.exact(found["causal", "none"]),
            "positions": Interval.exact(max(found["bidirectional", kind] for kind in POSITIONS[1:])),
            "mediated": mediated,
        },
        pictures=[
            Picture(
                Words("Deviation from permutation equivariance (below 1e-9: order cannot be told)",
                      "对置换等变性的偏离（低于 1e-9 即无法分辨顺序）"),
                [{"series": mask, "x": kind, "y": max(value, 1e-17)} for (mask, kind), value in found.items()],
                x="positions", y="relative deviation", kind="points", log_y=True,
            ),
            Picture(
                Words("Rank of the representations against generation loss, a point a run", "表示的有效秩与生成损失，每点一次训练"),
                points, x="effective rank after the last layer", y="bits per byte", kind="points",
            ),
        ],
        tables=[
            Table(Words("Deviation from permutation equivariance", "对置换等变性的偏离"), ["positions", *MASKS], table)
        ],
        remarks=remarks,
    )  # fmt: skip


def _mediation(lab: Lab) -> tuple[list[dict[str, Any]], Interval, list[Words]]:
    from assay.errors import UserError
    from assay.stats.mediation import mediation

    length, rows = lab.by_tier(smoke=16, quick=64, full=128), lab.by_tier(smoke=1, quick=4, full=16)
    cells = families.cells(lab, "masked", "prefix")
    shallow = lab.results("shallow")
    runs: list[tuple[int, Trained]] = [(0, run) for run in cells["masked"].runs]
    runs += [(1, run) for run in cells["prefix"].runs]
    for bidirectional, family in enumerate(("causal", "prefix")):
        runs += [(bidirectional, run) for run in shallow.cell(family=family).runs]
    done = [(mask, run) for mask, run in runs if run.done]
    x = [mask for mask, _ in done]
    m = [measured(run, length=length, rows=rows, attention=False).effective[-1] for _, run in done]
    y = [run.bits_per_byte for _, run in done]
    depths = [run.run.model.layers for _, run in done]
    words = ("causal mask", "bidirectional prefix")
    points = [{"series": f"{words[a]}, {d} layers", "x": b, "y": c} for a, b, c, d in zip(x, m, y, depths, strict=True)]
    remarks = [*families.remarks(cells), *shallow.remarks()]
    try:
        effects = mediation(x, m, y, depths)
    except UserError as error:
        return points, NEVER, [*remarks, Words(f"No mediation could be told: {error}", f"无法判断中介作用：{error}")]
    said = f"total {effects.total} bits per byte, direct {effects.direct}, by way of rank {effects.indirect}"
    remarks.append(Words(f"Effect of the bidirectional prefix on loss: {said}.", f"双向前缀对损失的影响：{said}。"))
    return points, effects.indirect, remarks


CLAIM = Claim(
    key="C34",
    title=Words("Bidirectional attention loses order", "双向注意力丢失顺序"),
    says=Words(
        "Bidirectional attention cannot tell the order of what it reads, and its lower rank makes generation worse.",
        "双向注意力无法分辨输入的顺序，其较低的秩使生成变差。",
    ),
    literature=Words(
        "Vaswani et al. 2017, section 3.5: without recurrence or convolution, positions have to be put in. Haviv et al. "
        "2022: causal language models without any position encoding are competitive, and predict positions from "
        "within; masked language models without it fail to converge.",
        "Vaswani 等 2017 第 3.5 节：没有循环与卷积，必须加入位置信息。Haviv 等 2022：无位置编码的因果语言模型仍有竞争力，内部可预测出位置；而无位置编码的掩码语言模型无法收敛。",
    ),
    sources=[
        "Vaswani et al. 2017, Attention Is All You Need, section 3.5",
        "Haviv et al. 2022, Transformer Language Models without Positional Encodings Still Learn Positional Information",
        "Baron & Kenny 1986 (mediation)",
    ],
    formulas=[
        Formula(
            r"f(PX) = P f(X) \quad \text{for every permutation } P",
            Words(
                "equivariance: permuted tokens give permuted outputs, so order leaves no trace",
                "等变性：置换输入只置换输出，顺序不留痕迹",
            ),
            "exact for bidirectional attention without positions",
        )
    ],
    experiment=Words(
        "Exact: on one set of weights, tokens are permuted and the outputs compared in float64, under both masks, "
        "without positions and with three kinds of them. Then, beside it: over runs of two depths that differ in the "
        "mask of the prefix alone, how much of the mask's effect on generation loss goes by way of the effective rank of "
        "the representations (mediation, bootstrap over runs within depth and mask).",
        "精确部分：同一组权重下置换 token，以 float64 比较输出，两种掩码，无位置编码及三种位置编码。并列展示：在两种深度、仅前缀掩码不同的训练中，"
        "掩码对生成损失的影响有多少经由表示的有效秩传递（中介分析，在深度与掩码内自助抽样）。",
    ),
    rule=Words(
        f"Without positions: bidirectional outputs deviate from equivariance by less than {EXACT:g} (rounding), causal ones "
        f"by more than {SEEN:g}. With positions the claim expects the bidirectional deviation to stay below {SEEN:g}. "
        "Supported if all three hold, refuted if none; if order is lost without positions and kept with them, the "
        "claim depends on positions. The mediation stands beside and decides nothing.",
        f"无位置编码：双向输出对等变性的偏离小于 {EXACT:g}（舍入），因果大于 {SEEN:g}。加入位置编码后，该论断预期双向偏离仍小于 {SEEN:g}。"
        "三者皆成立则支持，皆不成立则否定；若无位置时丢失顺序而有位置时保留，则取决于位置编码。中介分析仅并列展示，不参与判定。",
    ),
    questions={
        "bidirectional": Question(
            Words("deviation of bidirectional attention without positions", "无位置编码时双向注意力的偏离"),
            Threshold(EXACT, "below"),
        ),
        "causal": Question(
            Words("deviation of causal attention without positions", "无位置编码时因果注意力的偏离"), Threshold(SEEN)
        ),
        "positions": Question(
            Words("deviation of bidirectional attention with positions, the largest of three kinds",
                  "有位置编码时双向注意力的偏离（三种中最大者）"),
            Threshold(SEEN, "below"),
        ),
        "mediated": Question(
            Words("effect of a bidirectional prefix on generation loss by way of effective rank",
                  "双向前缀经由有效秩对生成损失的影响"),
            Threshold(0.0), "bits per byte", decides=False,
        ),
    },
    runs=runs,
    measure=measure,
    changes=Words(
        "Nothing in the exact part. The mediation could change with more depths and longer training; a regression says "
        "nothing of causes.",
        "精确部分不会改变。中介分析可能随更多深度与更长训练而变化；回归并不说明因果。",
    ),
    verdicts=(Verdict.SUPPORTED, Verdict.REFUTED, Verdict.DEPENDS),
    seconds=8.0,
)  # fmt: skip
