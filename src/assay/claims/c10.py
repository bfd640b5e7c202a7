"""C10: decoder-only wins at equal parameters and at equal inference cost."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from assay.claims import families
from assay.claims.base import Claim, Experiment, Formula, Measured, Picture, Question, Table, Tier, Words
from assay.claims.lab import Lab
from assay.stats import Superiority, Threshold, mean_interval

if TYPE_CHECKING:
    from assay.generation.model import Model
    from assay.spec.model import ModelSpec

NAMES = ("causal", "parameters", "inference")


def runs(tier: Tier) -> Mapping[str, Experiment]:
    """The decoder and its two partners."""
    return families.experiments(tier, *NAMES)


def answer_seconds(models: Mapping[str, Model], prompt: int, new: int, repeats: int) -> dict[str, list[float]]:
    """Seconds of one answer, each model in turn so that a busy machine hits all alike; a first round is thrown away."""
    import torch

    taken: dict[str, list[float]] = {name: [] for name in models}
    for repeat in range(repeats + 1):
        for name, model in models.items():
            low = 16
            ids = torch.randint(
                low, model.spec.vocab_size // 2, (1, prompt), generator=torch.Generator().manual_seed(0)
            )
            began = time.perf_counter()
            model.generate(ids, max_new_tokens=new, ignore_eos=True)
            if repeat:
                taken[name].append(time.perf_counter() - began)
    return taken


def measure(lab: Lab) -> Measured:
    """Loss at either kind of equality, with the latency of answers beside it."""
    from assay.generation.build import build

    found = families.cells(lab, *NAMES)
    specs = {"causal": families.standard_model(lab.tier)}
    specs |= {match: families.equal_partner(lab.tier, match).spec for match in NAMES[1:]}
    models = {name: build(spec.with_(**{"tokens.decoder_start": 0})) for name, spec in specs.items()}
    length = specs["causal"].context // 4
    seconds = answer_seconds(models, length, length, lab.by_tier(smoke=3, quick=7, full=15))
    ratios = {
        match: mean_interval([math.log2(a / b) for a, b in zip(seconds[match], seconds["causal"], strict=True)])
        for match in NAMES[1:]
    }
    points, table = families.losses(found)
    costs: list[list[str | float | int | None]] = []
    for name in NAMES:
        asked = families.equal_partner(lab.tier, "inference")
        flops = asked.wanted if name == "causal" else _answer(specs[name], asked.prompt)
        costs.append(
            [families.NAMES[name], int(specs[name].parameters()), flops, statistics.median(seconds[name]) * 1e3]
        )
    return Measured(
        answers={
            "parameters": found["parameters"].minus(found["causal"]),
            "inference": found["inference"].minus(found["causal"]),
            "latency_parameters": ratios["parameters"],
            "latency_inference": ratios["inference"],
            **{f"reads_{name}": families.reading(found[name], lab.by_tier(smoke=4, quick=48, full=256)) for name in NAMES},
        },
        pictures=[
            Picture(Words("Held-out loss at equal training FLOPs, 95% interval", "训练 FLOPs 相等时的留出损失，95% 区间"),
                    points, x="model", y="bits per byte", kind="points"),
            Picture(
                Words(f"Time of one answer on this machine: {length} + {length} tokens, median", f"本机一次回答的时间：{length} + {length} token，中位数"),
                [{"series": families.NAMES[n], "x": families.NAMES[n], "y": statistics.median(s) * 1e3}
                 for n, s in seconds.items()],
                x="model", y="milliseconds", kind="bars",
            ),
        ],
        tables=[
            table,
            Table(Words("What an answer costs", "一次回答的成本"),
                  ["model", "parameters", "FLOPs of an answer", "milliseconds, median"], costs),
        ],
        remarks=[
            *families.remarks(found),
            Words(f"Partners as found: {families.equal_partner(lab.tier, 'parameters')}; "
                  f"{families.equal_partner(lab.tier, 'inference')}.",
                  f"求解器找到的伙伴：{families.equal_partner(lab.tier, 'parameters')}；"
                  f"{families.equal_partner(lab.tier, 'inference')}。"),
        ],
    )  # fmt: skip


def _answer(spec: ModelSpec, length: int) -> float:
    from assay.spec.partner import answer_flops

    return answer_flops(spec, length, length)


def _loss(kind: Words) -> Question:
    return Question(
        Words(f"held-out loss, encoder-decoder of equal {kind.en} minus causal decoder", f"留出损失：{kind.zh}相等的编码器-解码器减去因果解码器"),
        Superiority(0.0, "higher"), "bits per byte",
    )  # fmt: skip


def _latency(kind: Words) -> Question:
    return Question(
        Words(f"time of an answer, encoder-decoder of equal {kind.en} over causal decoder, as doublings",
              f"一次回答的时间：{kind.zh}相等的编码器-解码器比因果解码器（以 2 为底的对数）"),
        Threshold(0.0, "above"), "doublings", decides=False,
    )  # fmt: skip


PARAMETERS, FLOPS = Words("parameters", "参数量"), Words("inference FLOPs", "推理 FLOPs ")

CLAIM = Claim(
    key="C10",
    title=Words("Decoder-only wins at equal parameters and inference cost", "同等参数量、同等推理成本下，Decoder-only 更优"),
    says=Words(
        "Given the same number of parameters, or the same cost of an answer, a causal decoder is better than an "
        "encoder-decoder.",
        "在参数量相同或推理成本相同的条件下，因果解码器优于编码器-解码器。",
    ),
    literature=Words(
        "Wang et al. 2022 compare an 11B encoder-decoder with a 4.8B decoder of equal FLOPs per token: zero-shot, the "
        "decoder leads (EAI 44.2 with full language modelling, against 39.9 for the encoder-decoder with prefix language "
        "modelling); after multitask tuning the encoder-decoder with masked language modelling does. Raffel et al. 2020, "
        "table 2, after fine-tuning on GLUE: encoder-decoder of equal parameters and half the FLOPs 80.88, language model "
        "74.70.",
        "Wang 等 2022 比较每 token FLOPs 相等的 11B 编码器-解码器与 4.8B 解码器：零样本时解码器领先（EAI：全语言模型 44.2，编码器-解码器 + 前缀语言模型 39.9）；"
        "多任务微调后，编码器-解码器 + 掩码语言模型领先。Raffel 等 2020 表 2（GLUE 微调后）：参数相等、FLOPs 减半的编码器-解码器 80.88，语言模型 74.70。",
    ),
    sources=["Wang et al. 2022, sections 3.1 and 4", "Raffel et al. 2020, table 2"],
    formulas=[
        Formula(
            r"N_{\text{partner}}=N\quad\text{or}\quad F_{\text{partner}}(p,m)=F(p,m)",
            Words("N: parameters; F: FLOPs of reading p tokens and writing m with the cache",
                  "N：参数量；F：读入 p 个 token 并借助缓存写出 m 个 token 的 FLOPs"),
            "assay cost SPEC --partner encoder_decoder --equal parameters|flops",
        )
    ],
    experiment=Words(
        "A solver finds the encoder-decoder with as many parameters as the standard causal decoder (half the layers on "
        "each side), and the one whose answers cost as many FLOPs (about twice the parameters). All are trained with equal "
        "FLOPs, each at its best rate, three seeds or more, the decoder with causal LM, the others with prefix LM, and "
        "judged by the loss on continuations of held-out text, without tuning. Beside it: the time of one answer on this "
        "machine, models in turn.",
        "求解器给出与标准因果解码器参数相等的编码器-解码器（每侧层数减半），以及一次回答 FLOPs 相等者（参数约两倍）。全部用相等的训练 FLOPs、各取最佳学习率、至少三个种子训练："
        "解码器用因果语言模型，其余用前缀语言模型；以留出文本续写的损失评判，不微调。另测本机上一次回答的时间（各模型轮流）。",
    ),
    rule=Words(
        "Supported if the 95% t intervals (paired by seed) of the encoder-decoder's loss minus the decoder's lie above 0 "
        "for both kinds of equality, refuted if both lie below; one of each: it depends on what is equal.",
        "两种“相等”下，编码器-解码器损失减去解码器损失的 95% t 区间（按种子配对）都在 0 以上为支持，都在 0 以下为否定，一正一反为取决于何者相等。",
    ),
    questions={
        "parameters": _loss(PARAMETERS),
        "inference": _loss(FLOPS),
        "latency_parameters": _latency(PARAMETERS),
        "latency_inference": _latency(FLOPS),
        **{f"reads_{name}": families.reading_question(name) for name in NAMES},
    },
    runs=runs,
    measure=measure,
    changes=Words(
        "Training long enough for the encoder-decoder to read its input at all: where what stands beside says that it does "
        "not, the verdict holds for that stage alone. Tuning on tasks before judging (C4, C5); prompts much longer than answers, which a half-deep encoder reads for "
        "half the cost.",
        "训练足够长，使编码器-解码器真正学会读取输入：若旁列数字表明尚未读取，则结论只适用于该阶段。评判前先做任务微调（C4、C5）；提示远长于回答的场景（半深的编码器读入成本减半）。",
    ),
    seconds=4.0,
)  # fmt: skip
