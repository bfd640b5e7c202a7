"""OLMo 1 (Groeneveld et al. 2024) and OLMo 2 (OLMo team 2025).

1: LayerNorm without a gain, clipped queries, keys and values. 2: RMSNorm on what sublayers put out, and on queries
and keys over their whole width.
"""

from __future__ import annotations

from collections.abc import Iterable

from assay.published import hf, llama, qwen
from assay.published.base import Family, Fields, Given, Row
from assay.spec.model import ModelSpec

OUT_NORMS = (
    Row("decoder.blocks.{i}.attention_out", "model.layers.{i}.post_attention_layernorm"),
    Row("decoder.blocks.{i}.feedforward_out", "model.layers.{i}.post_feedforward_layernorm"),
)
"""OLMo 2's norms; post_attention_layernorm is another one than LLaMA's."""


def table(spec: ModelSpec) -> Iterable[Row]:
    """Names of OLMo 1; its norms have nothing to name."""
    return (*llama.ENDS, *llama.ATTENTION, *llama.MLP)


def two_table(spec: ModelSpec) -> Iterable[Row]:
    """Names of OLMo 2."""
    return (*llama.ENDS, *OUT_NORMS, *llama.ATTENTION, *qwen.QK_NORMS, *llama.MLP)


def decoder(given: Given) -> Fields:
    """What both say."""
    config = given.config
    context = config.integer("max_position_embeddings", default=2048)
    biased = config.flag("attention_bias", default=False)
    return {
        **llama.sizes(given),
        "context": context,
        "positions": hf.rope(config, context=context),
        "attention": {**hf.llama_heads(config), "qkv_bias": biased, "out_bias": biased},
        "feedforward": {
            "width": config.integer("intermediate_size"),
            "activation": hf.activation(config, "hidden_act", default="silu"),
        },
        "head": {"tied": config.flag("tie_word_embeddings", default=False)},
        "tokens": hf.tokens(config, pad=1, eos=50279),
    }


def to_spec(given: Given) -> Fields:
    """From OLMo 1's config.json; eps is fixed in its code."""
    fields = decoder(given)
    fields["attention"]["clip_qkv"] = given.config.number("clip_qkv", default=None)
    return {**fields, "norm": {"kind": "layernorm", "eps": 1e-5, "weight": False}, "placement": "pre"}


def from_spec(spec: ModelSpec) -> Fields:
    """To OLMo 1's config.json."""
    biased = spec.attention.qkv_bias
    return {**llama.sizes_of(spec), "attention_bias": biased, "clip_qkv": spec.attention.clip_qkv}


def two_to_spec(given: Given) -> Fields:
    """From OLMo 2's config.json."""
    fields = decoder(given)
    fields["attention"]["qk_norm"] = "full"
    eps = float(given.config.number("rms_norm_eps", default=1e-5))
    return {**fields, "norm": {"kind": "rmsnorm", "eps": eps, "cast": "after_weight"}, "placement": "reordered"}


def two_from_spec(spec: ModelSpec) -> Fields:
    """To OLMo 2's config.json."""
    return {**llama.sizes_of(spec), "attention_bias": spec.attention.qkv_bias, "rms_norm_eps": spec.norm.eps}


FAMILIES = (
    Family(
        name="OLMo",
        model_types=("olmo",),
        architectures=("OlmoForCausalLM",),
        to_spec=to_spec,
        from_spec=from_spec,
        table=table,
        prefix="model.",
        extras=llama.EXTRAS,
        tied=("lm_head.weight",),
    ),
    Family(
        name="OLMo 2",
        model_types=("olmo2",),
        architectures=("Olmo2ForCausalLM",),
        to_spec=two_to_spec,
        from_spec=two_from_spec,
        table=two_table,
        prefix="model.",
        extras=llama.EXTRAS,
        tied=("lm_head.weight",),
    ),
)
