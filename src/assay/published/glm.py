"""GLM-4 in transformers' own form (`glm`, `glm4`): LLaMA's names with gate and up in one matrix.

Half of every head rotates, in neighbouring pairs. The 0414 release (`glm4`) adds norms on what sublayers put out.
"""

from __future__ import annotations

from collections.abc import Iterable

from assay.published import hf, llama
from assay.published.base import Family, Fields, Given, Row
from assay.published.transforms import Stacked
from assay.spec.axes import Placement
from assay.spec.model import ModelSpec

BLOCK, LAYER = llama.BLOCK, llama.LAYER
EPS = 1.5625e-7

OUT_NORMS = (
    Row(f"{BLOCK}attention_out", f"{LAYER}post_self_attn_layernorm"),
    Row(f"{BLOCK}feedforward_out", f"{LAYER}post_mlp_layernorm"),
)
"""glm4's further two."""


def table(spec: ModelSpec) -> Iterable[Row]:
    """Names."""
    inward = (f"{BLOCK}feedforward.gate", f"{BLOCK}feedforward.up")
    return (
        *llama.ENDS,
        *llama.NORMS,
        *OUT_NORMS,
        *llama.ATTENTION,
        Row(inward, f"{LAYER}mlp.gate_up_proj", Stacked()),
        Row(f"{BLOCK}feedforward.down", f"{LAYER}mlp.down_proj"),
    )


def _fields(given: Given, placement: Placement) -> Fields:
    config = given.config
    context = config.integer("max_position_embeddings", default=131_072)
    positions = hf.rope(config, context=context)
    return {
        **llama.sizes(given),
        "context": context,
        "norm": {
            "kind": "rmsnorm",
            "eps": float(config.number("rms_norm_eps", default=EPS)),
            "cast": "before_weight",
        },
        "placement": placement.value,
        "positions": {"fraction": 0.5, **positions, "pairing": "interleaved"},
        "attention": {
            **hf.llama_heads(config, kv_heads=2, head_width=128),
            "qkv_bias": config.flag("attention_bias", default=True),
        },
        "feedforward": {
            "width": config.integer("intermediate_size"),
            "activation": hf.activation(config, "hidden_act", default="silu"),
        },
        "head": {"tied": config.flag("tie_word_embeddings", default=False)},
        "tokens": hf.tokens(config, pad=151_329, eos=151_329),
    }


def to_spec(given: Given) -> Fields:
    """From GLM's config.json."""
    return _fields(given, Placement.pre)


def four_to_spec(given: Given) -> Fields:
    """From GLM-4-0414's config.json."""
    return _fields(given, Placement.sandwich)


def from_spec(spec: ModelSpec) -> Fields:
    """To config.json."""
    return {
        **llama.sizes_of(spec),
        "partial_rotary_factor": spec.positions.fraction,
        "rms_norm_eps": spec.norm.eps,
        "attention_bias": spec.attention.qkv_bias,
    }


FAMILIES = (
    Family(
        name="GLM",
        model_types=("glm",),
        architectures=("GlmForCausalLM",),
        to_spec=to_spec,
        from_spec=from_spec,
        table=table,
        prefix="model.",
        extras=llama.EXTRAS,
        tied=("lm_head.weight",),
    ),
    Family(
        name="GLM-4",
        model_types=("glm4",),
        architectures=("Glm4ForCausalLM",),
        to_spec=four_to_spec,
        from_spec=from_spec,
        table=table,
        prefix="model.",
        extras=llama.EXTRAS,
        tied=("lm_head.weight",),
    ),
)
