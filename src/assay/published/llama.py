"""LLaMA 1, 2 and 3 in Hugging Face form, and what took its form (SmolLM2, Yi, ...).

Touvron et al. 2023 (both), Dubey et al. 2024. First versions lack num_key_value_heads, head_dim and rope_theta, and
their files may hold rotary frequencies.
"""

from __future__ import annotations

from collections.abc import Iterable

from assay.published import hf
from assay.published.base import Family, Fields, Given, Row
from assay.spec.model import ModelSpec

BLOCK = "decoder.blocks.{i}."
LAYER = "model.layers.{i}."

ENDS = (
    Row("embedding", "model.embed_tokens"),
    Row("decoder.final_norm", "model.norm"),
    Row("head", "lm_head"),
)
"""What stands around the layers."""

ATTENTION = tuple(
    Row(f"{BLOCK}attention.{ours}", f"{LAYER}self_attn.{theirs}")
    for ours, theirs in {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "o_proj"}.items()
)
"""Attention, as its successors have it too."""

MLP = tuple(
    Row(f"{BLOCK}feedforward.{ours}", f"{LAYER}mlp.{theirs}")
    for ours, theirs in {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"}.items()
)
"""The gated feed-forward."""

NORMS = (
    Row(f"{BLOCK}attention_before", f"{LAYER}input_layernorm"),
    Row(f"{BLOCK}feedforward_before", f"{LAYER}post_attention_layernorm"),
)
"""Pre-LN under LLaMA's names."""

EXTRAS = (r".*rotary_emb\.inv_freq",)


def table(spec: ModelSpec) -> Iterable[Row]:
    """Names."""
    return (*ENDS, *NORMS, *ATTENTION, *MLP)


def sizes(given: Given) -> Fields:
    """The sizes that LLaMA's successors name alike."""
    config = given.config
    return {
        "vocab_size": config.integer("vocab_size"),
        "width": config.integer("hidden_size"),
        "layers": config.layers("num_hidden_layers"),
        "init": {"kind": "normal", "std": float(config.number("initializer_range", default=0.02))},
    }


def sizes_of(spec: ModelSpec) -> Fields:
    """The way back of `sizes`, with what all share: context, feed-forward, head, tokens."""
    return {
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.width,
        "num_hidden_layers": spec.layers,
        "initializer_range": spec.init_std,
        "max_position_embeddings": spec.context,
        "intermediate_size": spec.feedforward_width("decoder"),
        "hidden_act": hf.SPELLED[spec.feedforward.activation],
        "tie_word_embeddings": spec.head.tied,
        **hf.tokens_of(spec),
        **hf.rope_fields(spec),
        **hf.heads_of(spec),
    }


def to_spec(given: Given) -> Fields:
    """From config.json."""
    config = given.config
    context = config.integer("max_position_embeddings", default=2048)
    biased = config.flag("attention_bias", default=False)
    return {
        **sizes(given),
        "context": context,
        "norm": {
            "kind": "rmsnorm",
            "eps": float(config.number("rms_norm_eps", default=1e-6)),
            "cast": "before_weight",
        },
        "placement": "pre",
        "positions": hf.rope(config, context=context),
        "attention": {**hf.llama_heads(config), "qkv_bias": biased, "out_bias": biased},
        "feedforward": {
            "width": config.integer("intermediate_size"),
            "activation": hf.activation(config, "hidden_act", default="silu"),
            "bias": config.flag("mlp_bias", default=False),
        },
        "head": {"tied": config.flag("tie_word_embeddings", default=False)},
        "tokens": hf.tokens(config, bos=1, eos=2),
    }


def from_spec(spec: ModelSpec) -> Fields:
    """To config.json."""
    return {
        **sizes_of(spec),
        "rms_norm_eps": spec.norm.eps,
        "attention_bias": spec.attention.qkv_bias,
        "mlp_bias": spec.feedforward.bias,
    }


FAMILIES = (
    Family(
        name="LLaMA",
        model_types=("llama",),
        architectures=("LlamaForCausalLM", "LLaMAForCausalLM"),
        to_spec=to_spec,
        from_spec=from_spec,
        table=table,
        prefix="model.",
        extras=EXTRAS,
        tied=("lm_head.weight",),
    ),
)
