"""C2: prefix tokens see each other, the suffix is causal: in a row, in packed rows, and through the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from assay.claims.base import Claim, Formula, Measured, Picture, Question, Table, Words, all_must_hold
from assay.claims.lab import Lab
from assay.stats import Interval, Threshold, Verdict

if TYPE_CHECKING:
    from assay.data.batch import Batch
    from assay.generation.model import Model
    from assay.probes.flips import Reach
    from assay.spec.masks import Mask

VOCABULARY = 61
PREFIX, LENGTH = 5, 12
POSITIONS = ("rope", "alibi", "learned", "relative")
WHERE = {
    "row": Words("a row of one document", "单文档的一行"),
    "packed": Words("a row of three packed documents", "打包三个文档的一行"),
    "border": Words("across borders between documents", "跨文档边界"),
    "cache": Words("through the cache, token by token", "经由缓存逐 token 生成"),
}


def allowed(lengths: list[int], prefixes: list[int], size: int) -> Reach:
    """[token, output] what the claim says of documents side by side in a row; padding reaches itself alone."""
    table = np.eye(size, dtype=bool)
    begin = 0
    for length, prefix in zip(lengths, prefixes, strict=True):
        token, output = np.arange(length)[:, None], np.arange(length)[None]
        table[begin : begin + length, begin : begin + length] = (token < prefix) | (token <= output)
        begin += length
    return table


def model_of(positions: str) -> Model:
    """A small prefix decoder with random weights."""
    from assay.generation.build import build
    from assay.spec.model import ModelSpec

    spec = ModelSpec.from_dict(
        {
            "family": "prefix", "vocab_size": VOCABULARY, "width": 32, "layers": 2, "context": 64,
            "positions": positions, "attention": {"heads": 2},
        }
    )  # fmt: skip
    return build(spec)


def in_row(model: Model, prefix: int | None = None) -> Reach:
    """Reach of a forward pass over one document; `prefix` replaces the right one, as a control."""
    from assay.probes.flips import reach

    shown = PREFIX if prefix is None else prefix
    return reach(lambda ids: _logits(model, ids, prefix_length=shown), _ids(LENGTH), vocabulary=VOCABULARY)


def packed_batch() -> tuple[Batch, list[int], list[int]]:
    """A row of three documents as prefix LM's batches come, with their lengths and prefixes."""
    from assay.data.batch import assemble
    from assay.objectives.base import Key, Lengths, Vocabulary
    from assay.objectives.prefix_lm import PrefixLM

    vocabulary = Vocabulary(size=VOCABULARY, pad=0, bos=1, eos=2)
    objective = PrefixLM("prefix", vocabulary, split=0.5)
    examples = [objective.example(np.arange(n) + 10 * n, Key(0, 0, i)) for i, n in enumerate((4, 3, 5))]
    batch = assemble([examples], Lengths(sum(len(e.inputs) for e in examples) + 2), "prefix", vocabulary)
    return batch, [len(e.inputs) for e in examples], [e.prefix for e in examples]


def in_packed(model: Model, batch: Batch, mask: Mask | None = None) -> Reach:
    """Reach of a packed row; `mask` replaces the batch's own, as a control."""
    import torch

    from assay.nn.masks import to_device
    from assay.probes.flips import reach

    rule = to_device(mask or batch.mask, "cpu")
    places = torch.from_numpy(batch.position_ids).long()

    def run(ids: torch.Tensor) -> torch.Tensor:
        return model.transformer.decode(ids, rule, position_ids=places).hidden

    with torch.no_grad():
        return reach(run, torch.from_numpy(batch.input_ids).long(), vocabulary=VOCABULARY)


def through_cache(model: Model) -> tuple[Reach, Reach]:
    """Reach on the last layer's cached keys, and on the logits, of a prefix that is read and an answer that is written.

    Returns:
        [tokens, LENGTH] keys; [tokens, outputs] logits of positions PREFIX - 1, PREFIX ...
    """
    import torch

    from assay.generation.decoding import Decoding
    from assay.generation.plan import plan_prompt
    from assay.probes.flips import reach

    def run(ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        plan = plan_prompt(model.spec, ids[:, :PREFIX], None, None, None, LENGTH - PREFIX)
        decoding = Decoding(model.transformer, plan, LENGTH - PREFIX, cache=None)
        logits = [decoding.begin()]
        logits += [decoding.step(ids[:, place]).clone() for place in range(PREFIX, LENGTH)]
        decoding.finish()
        assert decoding.cache is not None
        kept: Any = decoding.cache.layers[-1]["attention"]
        return kept.k[:, :, :LENGTH].transpose(1, 2).clone(), torch.stack(logits, 1)

    with torch.inference_mode():
        keys = reach(lambda ids: run(ids)[0], _ids(LENGTH), vocabulary=VOCABULARY)
        return keys, reach(lambda ids: run(ids)[1], _ids(LENGTH), vocabulary=VOCABULARY)


def measure(lab: Lab) -> Measured:
    """Mistakes of each path over all kinds of positions."""
    wrong = dict.fromkeys(WHERE, 0)
    pairs = dict.fromkeys(WHERE, 0)
    control = 0
    batch, lengths, prefixes = packed_batch()
    table = allowed(lengths, prefixes, batch.input_ids.shape[1])
    documents = batch.document_ids[0]
    apart = documents[:, None] != documents[None]
    one = allowed([LENGTH], [PREFIX], LENGTH)
    shown: Reach | None = None
    for positions in POSITIONS:
        model = model_of(positions)
        row, packed = in_row(model), in_packed(model, batch)
        keys, logits = through_cache(model)
        found = {
            "row": (row, one),
            "packed": (packed, table),
            "border": (packed[apart], np.zeros_like(packed[apart])),
            "cache": (np.hstack([keys, logits]), np.hstack([one, one[:, PREFIX - 1 :]])),
        }
        for name, (seen, rule) in found.items():
            wrong[name] += int((seen != rule).sum())
            pairs[name] += int(rule.size)
        control += int((in_row(model, prefix=0) != one).sum())
        shown = packed
    assert shown is not None
    size = len(shown)
    rows = [
        {"series": "packed", "x": output, "y": token, "value": int(shown[token, output])}
        for token in range(size)
        for output in range(size)
    ]
    return Measured(
        answers={name: Interval.exact(number) for name, number in (wrong | {"control": control}).items()},
        pictures=[
            Picture(
                Words("Three documents packed in a row: outputs that a flipped token changes",
                      "一行中打包三个文档：翻转一个 token 后改变的输出"),
                rows, x="output position", y="flipped token", kind="heat",
            )
        ],
        tables=[
            Table(
                Words("Pairs of token and output against the rule", "（token，输出）对与规则的对照"),
                ["where", "pairs", "wrong"], [[WHERE[name].en, pairs[name], wrong[name]] for name in WHERE],
            )
        ],
    )  # fmt: skip


def _ids(length: int) -> Any:
    import torch

    return torch.randint(3, VOCABULARY, (1, length), generator=torch.Generator().manual_seed(0))


def _logits(model: Model, ids: Any, **how: Any) -> Any:
    import torch

    with torch.no_grad():
        return model(ids, **how).logits


def _question(name: str) -> Question:
    where = WHERE[name]
    return Question(
        Words(f"pairs of token and output that differ from the rule, {where.en}", f"与规则不符的（token，输出）对数：{where.zh}"),
        Threshold(0.5, "below"), "pairs",
    )  # fmt: skip


CLAIM = Claim(
    key="C2",
    title=Words("Prefix tokens see each other, the suffix is causal", "前缀内部双向可见，后缀因果可见"),
    says=Words(
        "In a prefix decoder every token of the input sees the whole input; the output is written from left to right, "
        "each token seeing the input and what was written before it.",
        "在前缀解码器中，输入部分的 token 互相可见；输出部分自左向右生成，每个 token 只看见输入和此前已生成的内容。",
    ),
    literature=Words(
        "Dong et al. 2019 (UniLM), section 2.1, and Raffel et al. 2020, section 3.2.1, define the mask. Where fused "
        "attention, packing and caches meet it, implementations go wrong or refuse: this page tests those paths.",
        "Dong 等 2019（UniLM）第 2.1 节与 Raffel 等 2020 第 3.2.1 节给出该掩码的定义。实际问题多出在融合注意力、打包与缓存与该掩码相遇之处，本页检验这些路径。",
    ),
    sources=["Dong et al. 2019, section 2.1", "Raffel et al. 2020, section 3.2.1"],
    formulas=[
        Formula(
            r"\mathrm{visible}(q,k)=(d_q=d_k)\ \land\ (k\le q\ \lor\ k\in P_{d_k})",
            Words("q, k: positions of query and key; d: their documents; P: the document's prefix",
                  "q、k：查询与键的位置；d：所属文档；P：该文档的前缀"),
        )
    ],
    experiment=Words(
        "Exact, on small prefix decoders with random weights and each kind of positions (RoPE, ALiBi, learned, "
        "relative): flip every token in turn and compare, bit for bit, which outputs change. In a row; in a row of three "
        "packed documents, borders between them apart; and through the cache (the prefix read at once, the answer token "
        "by token): the last layer's cached keys and every step's logits. Control: the same under a causal mask must "
        "find mistakes.",
        "精确实验：随机权重的小型前缀解码器，四种位置编码（RoPE、ALiBi、可学习、相对）。逐个翻转 token，逐位比较哪些输出改变：单文档的一行；"
        "打包三个文档的一行（边界单独统计）；经由缓存（前缀一次读入，回答逐 token 生成），检查最后一层缓存的键与每步 logits。对照：换成因果掩码必须查出错误。",
    ),
    rule=Words(
        "Supported if not one pair differs from the rule on any path; refuted by a single one. Nothing is random.",
        "任何路径上都没有一对与规则不符则支持；出现一对即否定。无随机性。",
    ),
    questions={
        **{name: _question(name) for name in WHERE},
        "control": Question(
            Words("control: pairs that differ when the mask is causal", "对照：掩码换成因果时不符的对数"),
            Threshold(0.5, "above"), "pairs", decides=False,
        ),
    },
    measure=measure,
    judge=all_must_hold,
    changes=Words("A path that decides visibility by itself, beside the one rule.", "出现绕开统一规则、自行决定可见性的路径。"),
    verdicts=(Verdict.SUPPORTED, Verdict.REFUTED),
    seconds=4.0,
)  # fmt: skip
