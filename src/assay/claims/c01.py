"""C1: the mask alone separates the families."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from assay.claims import families
from assay.claims.base import Claim, Experiment, Formula, Measured, Picture, Question, Table, Tier, Words
from assay.claims.lab import Lab
from assay.probes.flips import Reach
from assay.stats import Equivalence, Interval, Threshold

MARGIN = 0.02
LENGTH, PREFIX = 12, 5
MASKS = ("causal", "prefix", "bidirectional")


def runs(tier: Tier) -> Mapping[str, Experiment]:
    """The families as they are usually built, and the one that differs from either in a single thing."""
    return families.experiments(tier, "causal", "masked", "prefix")


def mistakes(found: Reach, kind: str) -> int:
    """Pairs (token flipped, output) that differ from what the mask lets through."""
    token, output = np.arange(len(found))[:, None], np.arange(len(found))[None]
    allowed = {
        "causal": token <= output,
        "prefix": (token <= output) | (token < PREFIX),
        "bidirectional": np.ones_like(found),
    }[kind]
    return int((found != allowed).sum())


def measure(lab: Lab) -> Measured:
    """Flips under three masks on one set of weights; what is left of the gap in loss once the mask is equal."""
    import torch

    from assay.nn.transformer import Transformer
    from assay.probes.flips import reach
    from assay.spec.masks import Bidirectional, Causal, Mask, MaskFacts, Prefix

    found = families.cells(lab, "causal", "masked", "prefix")
    run = next(run for run in found["masked"].runs if run.done)
    net = run.model().transformer
    ids = torch.from_numpy(np.array(run.text().windows(1)[0].prefix_ids[:LENGTH], dtype=np.int64))[None]
    shown = torch.arange(LENGTH)[None] < PREFIX
    rules = {
        "causal": Mask(Causal()),
        "prefix": Mask(Causal() | Prefix(), MaskFacts(prefix=shown)),
        "bidirectional": Mask(Bidirectional()),
    }

    def outputs(net: Transformer, mask: Mask, ids: torch.Tensor) -> torch.Tensor:
        return net.decode(ids, mask).hidden

    pictures, wrong = [], 0
    with torch.no_grad():
        for kind, mask in rules.items():
            changed = reach(partial(outputs, net, mask), ids, vocabulary=net.spec.vocab_size)
            wrong += mistakes(changed, kind)
            pictures.append(_picture(kind, changed))
    rest = found["masked"].minus(found["causal"])
    by_mask = found["prefix"].minus(found["masked"])
    gap = found["prefix"].minus(found["causal"])
    points, table = families.losses(found)
    steps: list[list[str | float | int | None]] = [
        ["causal to prefix decoder, as usually built", gap.estimate, gap.low, gap.high],
        ["of which objective (mask equal)", rest.estimate, rest.low, rest.high],
        ["of which mask (objective equal)", by_mask.estimate, by_mask.low, by_mask.high],
    ]
    losses = Picture(Words("Held-out loss of each, 95% interval", "各模型的留出损失，95% 区间"), points,
                     x="model", y="bits per byte", kind="points")  # fmt: skip
    return Measured(
        answers={"flips": Interval.exact(wrong), "rest": rest, "mask": by_mask},
        pictures=[losses, *pictures],
        tables=[
            table,
            Table(
                Words("The gap in loss, taken apart", "损失差距的分解"), ["from", "bits per byte", "low", "high"], steps
            ),
        ],
        remarks=families.remarks(found),
    )


def _picture(kind: str, changed: Reach) -> Picture:
    rows = [
        {"series": kind, "x": output, "y": token, "value": int(changed[token, output])}
        for token in range(LENGTH)
        for output in range(LENGTH)
    ]
    return Picture(
        Words(f"One set of weights, {kind} mask: outputs that a flipped token changes",
              f"同一组权重、{kind} 掩码：翻转一个 token 后改变的输出"),
        rows, x="output position", y="flipped token", kind="heat",
    )  # fmt: skip


CLAIM = Claim(
    key="C1",
    title=Words("The mask alone separates the families", "各家族之间只差一个注意力掩码"),
    says=Words(
        "Causal decoder, prefix decoder and bidirectional encoder are one network: only who may see whom differs.",
        "因果解码器、前缀解码器与双向编码器是同一个网络，差别只在于谁能看见谁。",
    ),
    literature=Words(
        "Raffel et al. 2020, section 3.2.1: the form of the mask is a major distinguishing factor of the architectures. "
        "Their table 2 changes nothing else between a language model and a prefix LM, both trained by denoising: GLUE "
        "74.70 and 81.82. The families as people use them differ in the objective as well: a causal decoder learns from "
        "every token, a prefix decoder from the part behind the prefix.",
        "Raffel 等 2020 第 3.2.1 节：掩码的形式是区分各架构的主要因素。其表 2 中语言模型与前缀语言模型（均用去噪目标训练）只差掩码："
        "GLUE 分别为 74.70 与 81.82。但实际使用的各家族在训练目标上也不同：因果解码器从每个 token 学习，前缀解码器只从前缀之后的部分学习。",
    ),
    sources=["Raffel et al. 2020, sections 3.2.1 and 3.2.4, table 2", "Wang et al. 2022, sections 2 and 3"],
    formulas=[
        Formula(
            r"\mathrm{visible}(q,k)=\begin{cases}k\le q&\text{causal}\\k\le q\ \lor\ k<p&\text{prefix}\\"
            r"\text{true}&\text{bidirectional}\end{cases}",
            Words("q: query position; k: key position; p: length of the prefix", "q：查询位置；k：键位置；p：前缀长度"),
            "Raffel et al. 2020, figure 3",
        )
    ],
    experiment=Words(
        "Exact: one trained set of weights is run under the three masks, each token is flipped in turn, and the outputs "
        "that change (bit for bit) are compared with the rule. Then in training, at equal FLOPs, each at its best rate: "
        "a causal decoder with causal LM, a prefix decoder with prefix LM, and in between a causal decoder with prefix "
        "LM. If the mask alone made the difference, the one in between would have the causal decoder's loss.",
        "精确部分：同一组训练好的权重在三种掩码下运行，逐个翻转 token，把（逐位比较）改变的输出与规则对照。训练部分（FLOPs 相等，各取最佳学习率）："
        "因果解码器 + 因果语言模型、前缀解码器 + 前缀语言模型，以及居中的因果解码器 + 前缀语言模型。若差别只来自掩码，居中者的损失应等于因果解码器。",
    ),
    rule=Words(
        "Flips: no pair (token, output) may differ from the rule. Loss: once the mask is made equal, the gap that is left "
        f"to the causal decoder (95% t interval, paired by seed) must lie within ±{MARGIN} bits per byte, as for norms "
        "that count as equally good (C12); outside refutes it. Both: supported; flips alone: it depends on what is meant "
        "by family.",
        f"翻转：不允许任何（token，输出）对与规则不符。损失：掩码相同之后，与因果解码器剩余的差距（95% t 区间，按种子配对）须落在 ±{MARGIN} "
        "比特每字节之内（与 C12 的等效界相同），完全落在之外则否定。两者都成立为支持；只有翻转成立则取决于“家族”的含义。",
    ),
    questions={
        "flips": Question(
            Words("pairs of token and output that differ from the rule, three masks on one set of weights",
                  "三种掩码、同一组权重：与规则不符的（token，输出）对数"),
            Threshold(0.5, "below"), "pairs",
        ),
        "rest": Question(
            Words("gap in held-out loss that an equal mask leaves: causal decoder with prefix LM minus with causal LM",
                  "掩码相同后剩余的损失差：因果解码器用前缀语言模型减去用因果语言模型"),
            Equivalence(MARGIN), "bits per byte",
        ),
        "mask": Question(
            Words("what the mask itself does to the loss: prefix minus causal attention, prefix LM in both",
                  "掩码本身的作用：同为前缀语言模型，前缀注意力减去因果注意力"),
            Equivalence(MARGIN), "bits per byte", decides=False,
        ),
    },
    runs=runs,
    measure=measure,
    changes=Words(
        "Objectives that put a loss on the same tokens would take the rest of the gap away. On larger models the loss "
        "on the prefix may matter less.",
        "若目标函数对相同的 token 计算损失，剩余差距会消失；在更大的模型上，前缀部分的损失可能影响更小。",
    ),
    seconds=3.0,
)  # fmt: skip
