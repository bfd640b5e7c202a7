"""C27: bidirectional input brings generation nothing; the encoder-decoder's edge is its double parameters."""

from __future__ import annotations

from collections.abc import Mapping

from assay.claims import families
from assay.claims.base import Claim, Experiment, Measured, Picture, Question, Table, Tier, Words
from assay.claims.lab import Lab
from assay.stats import Superiority, Threshold

MARGIN = 0.02
NAMES = ("masked", "prefix", "inference", "parameters")


def runs(tier: Tier) -> Mapping[str, Experiment]:
    """Prefix LM under every mask, and in encoder-decoders of double and of equal parameters."""
    return families.experiments(tier, *NAMES)


def measure(lab: Lab) -> Measured:
    """What each gains over the causal decoder that learns the same objective."""
    found = families.cells(lab, *NAMES)
    base = found["masked"]
    gains = {name: base.minus(found[other]) for name, other in
             (("mask", "prefix"), ("double", "inference"), ("equal", "parameters"))}  # fmt: skip
    points, table = families.losses(found)
    said = {"mask": "bidirectional input alone", "double": "encoder-decoder, double parameters",
            "equal": "encoder-decoder, equal parameters"}  # fmt: skip
    rows = [
        {"series": said[name], "x": said[name], "y": gain.estimate, "low": gain.low, "high": gain.high}
        for name, gain in gains.items()
    ]
    brief: list[list[str | float | int | None]] = [
        [said[name], gain.estimate, gain.low, gain.high] for name, gain in gains.items()
    ]
    return Measured(
        answers=gains
        | {f"reads_{name}": families.reading(found[name], lab.by_tier(smoke=4, quick=48, full=256)) for name in NAMES},
        pictures=[
            Picture(
                Words("Gain in held-out loss over the causal decoder with prefix LM, 95% interval",
                      "相对“因果解码器 + 前缀语言模型”的留出损失收益，95% 区间"),
                rows, x="what is changed", y="bits per byte gained", kind="points",
            ),
            Picture(Words("Held-out loss of each, 95% interval", "各模型的留出损失，95% 区间"), points,
                    x="model", y="bits per byte", kind="points"),
        ],
        tables=[
            Table(Words("Gain over the causal decoder with prefix LM", "相对“因果解码器 + 前缀语言模型”的收益"),
                  ["what is changed", "bits per byte", "low", "high"], brief),
            table,
        ],
        remarks=families.remarks(found),
    )  # fmt: skip


CLAIM = Claim(
    key="C27",
    title=Words("Bidirectional input brings generation nothing", "双向的输入对生成没有实质帮助"),
    says=Words(
        "For writing text it does not matter whether the input is read in both directions; where encoder-decoders are "
        "ahead, it is because they have twice the parameters.",
        "对生成文本而言，输入是否双向可见并无实质影响；编码器-解码器若占优，只是因为参数多了一倍。",
    ),
    literature=Words(
        "The argument is a well-known blog conjecture in Chinese (Su 2023, why are current LLMs all decoder-only?), with "
        "an experiment of its own. Against it stands Raffel et al. 2020, table 2, after fine-tuning: a mask change alone "
        "(language model to prefix LM, denoising) raises GLUE from 74.70 to 81.82; an encoder-decoder with twice the "
        "parameters has 83.28, one with as many parameters and half the FLOPs 80.88.",
        "该论点源自知名中文博文（苏剑林 2023，《为什么现在的 LLM 都是 Decoder-only 的架构？》）。相反证据见 Raffel 等 2020 表 2（微调后）：仅换掩码"
        "（去噪目标，语言模型换为前缀语言模型）GLUE 从 74.70 升到 81.82；参数加倍的编码器-解码器为 83.28，参数相等、FLOPs 减半者为 80.88。",
    ),
    sources=["Raffel et al. 2020, section 3.2.4, table 2", "Su 2023 (kexue.fm)"],
    experiment=Words(
        "Everything learns prefix LM on the same text at equal training FLOPs, each at its best rate, three seeds or "
        "more. Against a causal decoder stand: the same network with a bidirectional prefix (equal tokens with a loss); "
        "the encoder-decoder of equal inference FLOPs (about twice the parameters, equal tokens with a loss); the "
        "encoder-decoder of equal parameters (about twice the text at equal FLOPs). Sizes are found by the equal-cost "
        "solver. Measured is the loss on continuations of held-out text.",
        "所有模型用前缀语言模型目标、同一文本、相等训练 FLOPs，各取最佳学习率，至少三个种子。与因果解码器对照的是：同一网络但前缀双向（有损失的 token 数相等）；"
        "推理 FLOPs 相等的编码器-解码器（参数约两倍，有损失的 token 数相等）；参数相等的编码器-解码器（相等 FLOPs 下文本约两倍）。大小由等成本求解器给出。度量为留出文本续写的损失。",
    ),
    rule=Words(
        f"Gains over the causal decoder, 95% t intervals paired by seed. Supported if the mask gains less than {MARGIN} bits "
        f"per byte (C12's margin), the doubled encoder-decoder gains more than 0, and with equal parameters less than {MARGIN}. "
        "The opposite of all three refutes. If even double parameters give no edge, there is nothing to explain, and the "
        "claim holds in part: depends.",
        f"相对因果解码器的收益，按种子配对的 95% t 区间。掩码收益低于 {MARGIN} 比特每字节（同 C12 的界）、参数加倍的编码器-解码器收益大于 0、参数相等时收益低于 "
        f"{MARGIN}，三者成立为支持；三者皆反为否定。若参数加倍也无优势，则无可解释，只部分成立：取决。",
    ),
    questions={
        "mask": Question(
            Words("gain in held-out loss by bidirectional input alone", "仅双向输入带来的留出损失收益"),
            Threshold(MARGIN, "below"), "bits per byte",
        ),
        "double": Question(
            Words("gain of the encoder-decoder with double parameters", "参数加倍的编码器-解码器的收益"),
            Superiority(0.0, "higher"), "bits per byte",
        ),
        "equal": Question(
            Words("gain of the encoder-decoder with equal parameters", "参数相等的编码器-解码器的收益"),
            Threshold(MARGIN, "below"), "bits per byte",
        ),
        **{f"reads_{name}": families.reading_question(name) for name in NAMES},
    },
    runs=runs,
    measure=measure,
    changes=Words(
        "Training long enough for the encoder-decoders to read their input at all (it stands beside). Tasks whose input must be "
        "understood rather than continued (C4, C26), longer training, larger models.",
        "训练足够长，使编码器-解码器真正读取输入（旁列）。需要理解而非续写输入的任务（C4、C26）、更长的训练、更大的模型。",
    ),
    seconds=1.0,
)  # fmt: skip
