"""C28: autoregressive generation is slow on long text; what the cache changes, within an answer and over turns."""

from __future__ import annotations

import math
import statistics
import time
from typing import TYPE_CHECKING, Any

from assay.claims.base import Claim, Formula, Measured, Picture, Question, Table, Tier, Words
from assay.claims.lab import Lab
from assay.spec.model import ModelSpec
from assay.stats import Interval, Threshold, mean_interval

if TYPE_CHECKING:
    from assay.generation.model import Model

LENGTHS = {
    Tier.smoke: (16, 32, 64),
    Tier.quick: (64, 128, 256, 512, 1024),
    Tier.full: (128, 256, 512, 1024, 2048, 4096),
}
STEPS = 8
SLOWER = 1.0
TURNS, ASKED, ANSWERED = 6, 48, 16


def spec_of(tier: Tier, family: str) -> ModelSpec:
    """A model of the claim's own: only its size matters, so its weights are random."""
    width, layers = {Tier.smoke: (32, 2), Tier.quick: (128, 4), Tier.full: (512, 8)}[tier]
    return ModelSpec.from_dict(
        {
            "family": family, "vocab_size": 2048, "width": width, "layers": layers, "context": 2 * LENGTHS[tier][-1],
            "attention": {"heads": width // 32},
        }
    )  # fmt: skip


def step_flops(spec: ModelSpec, length: int, *, cache: bool) -> float:
    """Exact FLOPs of one more token behind `length` of them: with the cache its own pass, without it the whole text's."""
    whole = float(spec.flops(length + 1, targets=1, prefix=0))
    return whole if not cache else whole - float(spec.flops(length, targets=0, prefix=0))


def step_seconds(model: Model, length: int, *, cache: bool) -> float:
    """Median seconds of one more token behind `length` of them."""
    import torch

    from assay.generation.decoding import Decoding
    from assay.generation.plan import plan_prompt

    ids = torch.randint(16, 2048, (1, length), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        plan = plan_prompt(model.spec, ids, None, None, None, STEPS)
        decoding = Decoding(model.transformer, plan, STEPS, cache=None, use_cache=cache)
        decoding.begin()
        taken = []
        for _ in range(STEPS):
            began = time.perf_counter()
            decoding.step(ids[:, 0])
            taken.append(time.perf_counter() - began)
        decoding.finish()
    return statistics.median(taken[1:])


def dialogue(model: Model) -> list[tuple[int, int, float]]:
    """(tokens of the prompt, of which computed anew, seconds) of every turn, the cache carried from turn to turn."""
    import torch

    from assay.generation.cache import Cache

    generator = torch.Generator().manual_seed(0)
    cache, rows = Cache(), []
    text = torch.randint(16, 2048, (1, 0), generator=generator)
    for _ in range(TURNS):
        text = torch.cat((text, torch.randint(16, 2048, (1, ASKED), generator=generator)), 1)
        began = time.perf_counter()
        answered = model.generate(text, max_new_tokens=ANSWERED, ignore_eos=True, cache=cache)
        rows.append((text.shape[1], text.shape[1] - cache.reused, time.perf_counter() - began))
        text = answered
    return rows


def prompt_flops(spec: ModelSpec, prompt: int, computed: int) -> float:
    """Exact FLOPs of reading the tokens of a prompt that are computed anew."""
    prefix = prompt if computed == prompt and spec.family == "prefix" else 0
    kept = prompt - computed
    return float(spec.flops(prompt, targets=1, prefix=prefix)) - float(
        spec.flops(kept, targets=0, prefix=0) if kept else 0
    )


def measure(lab: Lab) -> Measured:
    """Time and FLOPs of a token by length, with and without the cache; a dialogue with either mask."""
    from assay.generation.build import build

    lengths, repeats = LENGTHS[lab.tier], lab.by_tier(smoke=3, quick=5, full=10)
    spec = spec_of(lab.tier, "causal")
    model = build(spec)
    seconds: dict[tuple[bool, int], list[float]] = {(cache, n): [] for cache in (False, True) for n in lengths}
    for repeat in range(repeats + 1):
        for (cache, length), taken in seconds.items():
            found = step_seconds(model, length, cache=cache)
            if repeat:
                taken.append(found)
    growth = {
        cache: mean_interval(
            [math.log2(a / b) for a, b in zip(seconds[cache, lengths[-1]], seconds[cache, lengths[0]], strict=True)]
        )
        for cache in (False, True)
    }
    flops = {(cache, n): step_flops(spec, n, cache=cache) for cache, n in seconds}
    said = {False: "without cache", True: "with cache"}
    turns: dict[str, list[tuple[int, int, float]]] = {}
    specs = {family: spec_of(lab.tier, family) for family in ("causal", "prefix")}
    for family, described in specs.items():
        talking = build(described)
        dialogue(talking)
        turns[family] = dialogue(talking)
    computed = {family: sum(row[1] for row in rows) for family, rows in turns.items()}
    spent = {
        family: sum(prompt_flops(specs[family], prompt, anew) for prompt, anew, _ in rows)
        for family, rows in turns.items()
    }
    table: list[list[str | float | int | None]] = [
        [n, said[cache], statistics.median(taken) * 1e3, flops[cache, n]] for (cache, n), taken in seconds.items()
    ]
    talk: list[list[str | float | int | None]] = [
        [family, turn + 1, prompt, anew, prompt_flops(specs[family], prompt, anew), took * 1e3]
        for family, rows in turns.items() for turn, (prompt, anew, took) in enumerate(rows)
    ]  # fmt: skip
    return Measured(
        answers={
            "without": growth[False], "with": growth[True],
            "flops_without": Interval.exact(math.log2(flops[False, lengths[-1]] / flops[False, lengths[0]])),
            "flops_with": Interval.exact(math.log2(flops[True, lengths[-1]] / flops[True, lengths[0]])),
            "turns": Interval.exact(computed["prefix"] / computed["causal"]),
            "turns_flops": Interval.exact(spent["prefix"] / spent["causal"]),
        },
        pictures=[
            Picture(
                Words("Time of one more token by length of the text, median on this machine", "再生成一个 token 的时间随文本长度的变化（本机中位数）"),
                [{"series": said[cache], "x": n, "y": statistics.median(taken) * 1e3} for (cache, n), taken in seconds.items()],
                x="tokens before", y="milliseconds per token", log_x=True, log_y=True,
            ),
            Picture(
                Words("Prompt tokens computed anew in each turn of a dialogue, the cache carried along",
                      "多轮对话中每轮需重新计算的提示 token 数（缓存跨轮保留）"),
                [{"series": family, "x": turn + 1, "y": row[1]} for family, rows in turns.items() for turn, row in enumerate(rows)],
                x="turn", y="tokens computed",
            ),
        ],
        tables=[
            Table(Words("One more token", "再生成一个 token"), ["tokens before", "", "milliseconds, median", "FLOPs"], table),
            Table(Words("A dialogue", "一段对话"),
                  ["mask", "turn", "prompt tokens", "computed anew", "FLOPs of reading", "milliseconds with the answer"], talk),
        ],
        remarks=[_times(lengths)],
    )  # fmt: skip


def _times(lengths: tuple[int, ...]) -> Words:
    ratio = lengths[-1] // lengths[0]
    return Words(
        f"The longest text is {ratio} times the shortest; times are of whatever machine ran this page, FLOPs and counts are exact.",
        f"最长文本是最短的 {ratio} 倍；时间取决于运行本页的机器，FLOPs 与计数是精确值。",
    )


def _growth(cache: bool, exact: bool) -> Question:
    how = Words("with the cache", "有缓存") if cache else Words("without the cache", "无缓存")
    what = Words("FLOPs", "FLOPs") if exact else Words("time", "时间")
    return Question(
        Words(f"growth of a token's {what.en} from the shortest to the longest text, {how.en}, as doublings",
              f"从最短到最长文本，每个 token 的{what.zh}增长（{how.zh}，以 2 为底的对数）"),
        Threshold(SLOWER, "above"), "doublings", decides=not exact,
    )  # fmt: skip


def _ratio(what: Words) -> Question:
    return Question(
        Words(f"{what.en} computed for the prompts of a dialogue, prefix over causal mask", f"一段对话中为提示计算的{what.zh}：前缀掩码比因果掩码"),
        Threshold(1.0, "above"), "x", decides=False,
    )  # fmt: skip


def _questions() -> dict[str, Any]:
    return {
        "without": _growth(False, False), "with": _growth(True, False),
        "flops_without": _growth(False, True), "flops_with": _growth(True, True),
        "turns": _ratio(Words("tokens", " token 数")), "turns_flops": _ratio(Words("FLOPs", " FLOPs")),
    }  # fmt: skip


CLAIM = Claim(
    key="C28",
    title=Words("Autoregressive generation is slow on long text", "自回归生成在长文本上较慢"),
    says=Words(
        "Text is written one token at a time, each looking back at all before it: the longer the text, the slower each "
        "token.",
        "文本逐 token 生成，每个 token 都要回看此前全部内容：文本越长，每个 token 越慢。",
    ),
    literature=Words(
        "Shazeer 2019: with cached keys and values, decoding is bound by reading them from memory, which multi-query "
        "attention cuts. Pope et al. 2022, section 2, count what a step reads: weights once, keys and values in proportion "
        "to the length. A bidirectional prefix cannot reuse its cache over turns (arXiv 2408.00539): every turn changes "
        "the prefix.",
        "Shazeer 2019：有键值缓存时，解码受限于从内存读取缓存，multi-query 注意力可减少读取量。Pope 等 2022 第 2 节统计了每步读取量：权重一次，键值与长度成正比。"
        "双向前缀无法跨轮复用缓存（arXiv 2408.00539）：每一轮都会改变前缀。",
    ),
    sources=["Shazeer 2019", "Pope et al. 2022, section 2", "arXiv 2408.00539 (Intermittent Semi-working Mask), section 1"],
    formulas=[
        Formula(
            r"F_{\text{no cache}}(n)=\sum_{i\le n}(2N+4Ldi)=2Nn+2Ld\,n(n+1),\qquad F_{\text{cache}}(n)=2N+4Ldn",
            Words("FLOPs of the n-th token; N: parameters in matrix products (the head at one position only); L: layers; "
                  "d: width",
                  "第 n 个 token 的 FLOPs；N：矩阵乘法中的参数（输出头只算一个位置）；L：层数；d：宽度"),
        )
    ],
    experiment=Words(
        "A causal decoder with random weights (time depends on sizes alone) writes one more token behind texts of growing "
        "length, with the cache and without; median of the steps, lengths in turn, repeated, and the exact FLOPs beside. "
        f"Then a dialogue of {TURNS} turns ({ASKED} tokens asked, {ANSWERED} answered) with the cache carried from turn to "
        "turn, under a causal mask and under a prefix mask over the whole prompt: tokens and FLOPs computed anew, counted "
        "exactly, time beside.",
        f"随机权重的因果解码器（时间只取决于大小）在不断变长的文本之后再生成一个 token，分有缓存与无缓存；取各步中位数，各长度轮流、多次重复，并列出精确 FLOPs。"
        f"随后进行 {TURNS} 轮对话（每轮提问 {ASKED}、回答 {ANSWERED} 个 token），缓存跨轮保留，分别用因果掩码与覆盖整个提示的前缀掩码：精确统计重新计算的 token 与 FLOPs，另列时间。",
    ),
    rule=Words(
        "A token counts as slow on long text if it takes more than twice as long at the longest length as at the shortest "
        "(95% t interval of log2 of the ratio above 1). Supported if so with and without the cache, refuted if in neither; "
        "one of each: it depends on the cache.",
        "若最长文本处每个 token 的时间超过最短处的两倍（比值 log2 的 95% t 区间高于 1），即视为“长文本上慢”。有缓存与无缓存都如此为支持，都不如此为否定；一是一否则取决于缓存。",
    ),
    questions=_questions(),
    measure=measure,
    alone=True,
    changes=Words(
        "The width: the weights' share of a step grows with its square, the cache's in proportion, so that wider models "
        "hide the growth up to longer texts. A larger batch, which shares the weights and not the cache; windows, "
        "multi-query attention.",
        "宽度：每步中权重的份额随宽度平方增长，缓存的份额成正比增长，因此更宽的模型要到更长的文本才显出变慢。更大的批（权重共享而缓存不共享）；滑动窗口、multi-query 注意力。",
    ),
    seconds=25.0,
)  # fmt: skip
