"""C25: the family of each named model, by token flips under its released mask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.claims.base import Claim, Measured, Picture, Question, Table, Words
from assay.claims.lab import Lab
from assay.spec.axes import Family, PromptRule
from assay.spec.model import ModelSpec
from assay.stats import Interval, Threshold, Verdict

if TYPE_CHECKING:
    from assay.probes.flips import Reach

LISTED: Mapping[str, tuple[str, str]] = {
    "ChatGLM2-6B": ("chatglm2-6b", "prefix"),
    "ChatGLM-6B": ("chatglm-6b", "prefix"),
    "U-PaLM": ("u-palm-540b", "prefix"),
    "LLaMA": ("llama-7b", "causal"),
    "T5": ("t5-base", "encoder_decoder"),
    "Flan-T5": ("flan-t5-base", "encoder_decoder"),
    "BART": ("bart-base", "encoder_decoder"),
    "BERT": ("bert-base", "encoder"),
}
"""Named model to its preset and the family under which the note lists it."""
BESIDE: Mapping[str, str] = {"GLM-130B": "glm-130b", "PaLM": "palm-540b", "GPT-2": "gpt2-124m", "BLOOM": "bloom-176b",
                             "GLM-4": "glm-4-9b"}  # fmt: skip
"""Further models, which the note places in no family."""
UNRELEASED = ("U-PaLM",)
"""No mask was released: what is flipped is the paper's description."""
PROMPT, LENGTH, VOCABULARY = 7, 12, 64


def small(spec: ModelSpec) -> ModelSpec:
    """A published description at a size that builds in no time: what decides visibility is kept, numbers shrink.

    Special tokens get small ids. Windows are left out: they are longer than the text that is flipped.
    """
    fields = spec.to_dict()
    attention: dict[str, Any] = dict(fields.get("attention", {}))
    for name in ("window", "window_layers", "scale"):
        attention.pop(name, None)
    attention |= {"heads": 2, "head_width": 16, "kv_heads": 1 if attention.get("kv_heads") else None}
    fields |= {"vocab_size": VOCABULARY, "width": 32, "layers": 2, "context": 64, "attention": attention}
    fields["feedforward"] = {**fields.get("feedforward", {}), "width": 48}
    embedding = dict(fields.get("embedding", {}))
    embedding.pop("width", None)
    fields["embedding"] = embedding
    if "encoder" in fields:
        fields["encoder"] = {"layers": 2, "heads": 2, "feedforward_width": 48}
    ids: dict[int, int] = {}
    for part in ("tokens", "prompt"):
        fields[part] = {name: _remapped(value, ids) for name, value in dict(fields.get(part, {})).items()}
    return ModelSpec.from_dict(fields, source=spec.name)


def _remapped(value: Any, ids: dict[int, int]) -> Any:
    """A special token's id, or several, as small numbers from 1."""
    if isinstance(value, list | tuple):
        return [_remapped(token, ids) for token in value]
    return ids.setdefault(value, len(ids) + 1) if isinstance(value, int) else value


def family_by_flips(spec: ModelSpec) -> tuple[str, Reach]:
    """The family that a model's own visibility makes it, and the reach of its tokens on its outputs.

    The model decides by itself: only where there is no released rule (U-PaLM) is the prefix given.

    Returns:
        a value of `Family`, or "other"; [tokens, outputs] of the stack that reads the prompt.
    """
    import torch

    from assay.generation.build import build
    from assay.probes.flips import reach, shape

    model = build(small(spec))
    say = model.spec.prompt
    kept = [token for token in (say.sop, say.mask, say.gmask, model.spec.tokens.pad) if token is not None]
    free = [token for token in range(16, VOCABULARY)]
    ids = torch.tensor([[free[(7 * place) % len(free)] for place in range(LENGTH)]])
    prefix = PROMPT
    if say.rule is not PromptRule.none:
        assert say.gmask is not None and say.sop is not None
        ids[0, PROMPT - 1], ids[0, PROMPT] = say.gmask, say.sop
    told: dict[str, Any] = {}
    if model.spec.family is Family.prefix and say.rule is PromptRule.none:
        told["prefix_length"] = PROMPT
    fixed = [place for place, token in enumerate(ids[0].tolist()) if token in kept]
    with torch.no_grad():
        if len(model.spec.stacks) == 1:
            seen = reach(lambda x: model(x, **told).last_hidden_state, ids, vocabulary=VOCABULARY, keep=kept)
            kind = shape(seen, prefix=prefix, ignore=fixed)
            names = {"causal": Family.causal, "prefix": Family.prefix, "bidirectional": Family.encoder}
            return str(names[kind]) if kind in names else "other", seen
        answer = torch.tensor([free[:PROMPT]])
        source = reach(lambda x: model(x).encoder_last_hidden_state, ids, vocabulary=VOCABULARY, keep=kept)
        across = reach(lambda x: model(x, decoder_input_ids=answer).last_hidden_state, ids,
                       vocabulary=VOCABULARY, keep=kept)  # fmt: skip
        own = reach(lambda y: model(ids, decoder_input_ids=y).last_hidden_state, answer,
                    vocabulary=VOCABULARY, keep=kept)  # fmt: skip
    two = shape(source, prefix=prefix) == "bidirectional" and across.all() and shape(own, prefix=0) == "causal"
    return str(Family.encoder_decoder) if two else "other", source


def measure(lab: Lab) -> Measured:
    """Every named model's family by flips, beside the note's."""
    from assay.spec.published import preset

    answers: dict[str, Interval] = {}
    rows: list[list[str | float | int | None]] = []
    pictures = []
    for name, (source, listed) in LISTED.items():
        found, seen = family_by_flips(preset(source))
        answers[name] = Interval.exact(float(found == listed))
        rows.append([name, listed, found, "as listed" if found == listed else "not as listed"])
        if name in ("ChatGLM-6B", "ChatGLM2-6B"):
            pictures.append(_picture(name, seen))
    for name, source in BESIDE.items():
        rows.append([name, None, family_by_flips(preset(source))[0], ""])
    return Measured(
        answers=answers,
        pictures=pictures,
        tables=[
            Table(
                Words("Family in the note and by flips", "笔记所列家族与翻转所见家族"),
                ["model", "in the note", "by flips", ""], rows,
            )
        ],
        remarks=[
            Words(
                "The models are published descriptions at a small size with random weights: visibility is a matter of code, "
                "not of weights. U-PaLM's mask was never released; it is taken from the paper and decides nothing.",
                "模型为已发布描述的缩小版、随机权重：可见性由代码决定，与权重无关。U-PaLM 的掩码从未公开，取自论文描述，不参与判定。",
            )
        ],
    )  # fmt: skip


def _picture(name: str, seen: Reach) -> Picture:
    rows = [
        {"series": name, "x": output, "y": token, "value": int(seen[token, output])}
        for token in range(len(seen)) for output in range(seen.shape[1]) if np.any(seen[token])
    ]  # fmt: skip
    return Picture(
        Words(f"{name}: outputs that a flipped token changes ([gMASK] and <sop> are left alone)",
              f"{name}：翻转一个 token 后改变的输出（[gMASK] 与 <sop> 不翻转）"),
        rows, x="output position", y="flipped token", kind="heat",
    )  # fmt: skip


def _question(name: str, listed: str) -> Question:
    return Question(
        Words(f"{name} is of the family that the note lists it under, {listed} (1: yes, 0: no)",
              f"{name} 属于笔记所列的家族 {listed}（1：是，0：否）"),
        Threshold(0.5, "above"), decides=name not in UNRELEASED,
    )  # fmt: skip


CLAIM = Claim(
    key="C25",
    title=Words("The family of each named model", "各具名模型所属的家族"),
    says=Words(
        "ChatGLM, ChatGLM2 and U-PaLM are prefix decoders, the LLaMA series causal decoders, T5, Flan-T5 and BART "
        "encoder-decoders, BERT a bidirectional encoder.",
        "ChatGLM、ChatGLM2、U-PaLM 是前缀解码器，LLaMA 系列是因果解码器，T5、Flan-T5、BART 是编码器-解码器，BERT 是双向编码器。",
    ),
    literature=Words(
        "ChatGLM-6B's and GLM-130B's released code opens the mask before <sop> (Zeng et al. 2022, section 2.2). "
        "ChatGLM2-6B's released modeling_chatglm.py builds a plain lower triangle (get_masks: ones().tril_()) and passes "
        "is_causal=True to scaled-dot-product attention where no mask is needed: it is a causal decoder, whatever lists "
        "say. U-PaLM (Tay et al. 2022, Transcending scaling laws) goes on training PaLM with UL2's objectives, prefix LM "
        "among them; neither weights nor code are public.",
        "ChatGLM-6B 与 GLM-130B 的公开代码在 <sop> 之前放开掩码（Zeng 等 2022 第 2.2 节）。ChatGLM2-6B 公开的 modeling_chatglm.py 构造的是普通"
        "下三角掩码（get_masks：ones().tril_()），无需掩码时以 is_causal=True 调用注意力：它是因果解码器，许多列表（包括笔记）写错了。"
        "U-PaLM（Tay 等 2022）用 UL2 目标（含前缀语言模型）继续训练 PaLM，权重与代码均未公开。",
    ),
    sources=[
        "Zeng et al. 2022 (GLM-130B), section 2.2; released code of ChatGLM-6B and ChatGLM2-6B (modeling_chatglm.py)",
        "Tay et al. 2022, Transcending Scaling Laws with 0.1% Extra Compute",
        "Raffel et al. 2020; Lewis et al. 2020; Devlin et al. 2019; Touvron et al. 2023",
    ],
    experiment=Words(
        "Each model's published description is built small with random weights, under the visibility that its loader "
        "gives it (for ChatGLM-6B and GLM-130B: derived from [gMASK] and <sop> in the prompt). Every token is flipped in "
        "turn, and the family is read off the outputs that change, bit for bit.",
        "按每个模型已发布的描述构建缩小版（随机权重），可见性取其加载器给出的规则（ChatGLM-6B 与 GLM-130B 由提示中的 [gMASK] 与 <sop> 决定）。"
        "逐个翻转 token，从（逐位比较）改变的输出读出其家族。",
    ),
    rule=Words(
        "A model counts as listed right if its flips show the family of the list. All right: supported; all wrong: "
        "refuted; some of each: it depends on the model. U-PaLM is shown and does not decide.",
        "翻转所见家族与笔记一致即为列对。全部正确：支持；全部错误：否定；有对有错：取决于模型。U-PaLM 只展示，不参与判定。",
    ),
    questions={name: _question(name, listed) for name, (_, listed) in LISTED.items()},
    measure=measure,
    changes=Words("Other code released under the same names.", "同名模型发布了不同的代码。"),
    verdicts=(Verdict.SUPPORTED, Verdict.REFUTED, Verdict.DEPENDS),
    seconds=4.0,
)  # fmt: skip
