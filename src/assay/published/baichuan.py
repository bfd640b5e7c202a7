"""Baichuan 1 and 2 (Yang et al. 2023): LLaMA's block with q, k and v in one matrix.

The 13B sizes use ALiBi, and Baichuan 2 scales the rows of its output matrix to length 1; no configuration says
either. Published loaders go by the sizes, and so does this one; elsewhere a hint must tell:
`{"position": "rope" | "alibi", "norm_head": true | false}`.
"""

from __future__ import annotations

from collections.abc import Iterable

from assay.errors import UserError
from assay.published import hf, llama
from assay.published.base import Family, Fields, Given, Row
from assay.published.transforms import Stacked
from assay.spec.axes import PositionKind
from assay.spec.model import ModelSpec

QKV = tuple(f"decoder.blocks.{{i}}.attention.{letter}" for letter in "qkv")
HINT = "assay_hint"
"""Where an export of ours keeps the hint, so that it loads again by itself."""

POSITIONS = {4096: "rope", 5120: "alibi"}
"""By width: 7B and 13B."""

NORM_HEAD = {64000: False, 125696: True}
"""By vocabulary: Baichuan 1 and 2."""


def table(spec: ModelSpec) -> Iterable[Row]:
    """Names."""
    layer = "model.layers.{i}.self_attn."
    out = Row("decoder.blocks.{i}.attention.o", f"{layer}o_proj")
    return (*llama.ENDS, *llama.NORMS, Row(QKV, f"{layer}W_pack", Stacked()), out, *llama.MLP)


def to_spec(given: Given) -> Fields:
    """From config.json and a hint.

    Raises:
        UserError: neither hint nor a published size tells positions or output head.
    """
    config = given.config
    sizes = llama.sizes(given)
    context = config.integer("max_position_embeddings", "model_max_length", default=4096)
    kept = config.raw(HINT) or {}
    if not isinstance(kept, dict):
        raise config.fail(HINT, "an object with position and norm_head belongs here.")
    hint = {**kept, **given.hint}
    position = hint.get("position", POSITIONS.get(sizes["width"]))
    if position is None and any(name.endswith("rotary_emb.inv_freq") for name in given.shapes()):
        position = "rope"
    norm_head = hint.get("norm_head", NORM_HEAD.get(sizes["vocab_size"]))
    if position not in ("rope", "alibi") or not isinstance(norm_head, bool):
        raise UserError(
            f"{config.place}: Baichuan's configuration says neither its positions nor its output head, and sizes of "
            f"{sizes['width']} and {sizes['vocab_size']} are no published ones.",
            'Give hint={"position": "rope" or "alibi", "norm_head": True or False}.',
        )
    return {
        **sizes,
        "context": context,
        "norm": {
            "kind": "rmsnorm",
            "eps": float(config.number("rms_norm_eps", default=1e-6)),
            "cast": "before_weight",
        },
        "placement": "pre",
        "positions": hf.rope(config, context=context) if position == "rope" else "alibi",
        "attention": {"heads": config.integer("num_attention_heads")},
        "feedforward": {
            "width": config.integer("intermediate_size"),
            "activation": hf.activation(config, "hidden_act", default="silu"),
        },
        "head": {"tied": config.flag("tie_word_embeddings", default=False), "normalised": norm_head},
        "tokens": hf.tokens(config, pad=0, bos=1, eos=2),
    }


def from_spec(spec: ModelSpec) -> Fields:
    """To config.json, with the hint beside."""
    rope = spec.positions.kind is PositionKind.rope
    fields = llama.sizes_of(spec)
    for name in ("num_key_value_heads", "head_dim", "attention_dropout"):
        fields.pop(name)
    hint = {"position": "rope" if rope else "alibi", "norm_head": spec.head.normalised}
    return {**fields, "model_max_length": spec.context, "rms_norm_eps": spec.norm.eps, HINT: hint}


FAMILIES = (
    Family(
        name="Baichuan",
        model_types=("baichuan",),
        architectures=("BaichuanForCausalLM", "BaiChuanForCausalLM"),
        to_spec=to_spec,
        from_spec=from_spec,
        table=table,
        prefix="model.",
        extras=(*llama.EXTRAS, r".*rotary_emb\.(cos|sin)_cached"),
        tied=("lm_head.weight",),
        hints=("position", "norm_head"),
        transformers=False,
    ),
)
