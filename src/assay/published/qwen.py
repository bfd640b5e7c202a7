"""Qwen 2 (Yang et al. 2024) and Qwen 3 (Yang et al. 2025).

2: biases on queries, keys and values. 3: a norm on each head's queries and keys instead, and a free head width.
Windows hold from layer `max_window_layers` on, or where `layer_types` says, and only with `use_sliding_window`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from assay.published import hf, llama
from assay.published.base import Family, Fields, Given, Row
from assay.spec.model import ModelSpec

QK_NORMS = tuple(
    Row(f"decoder.blocks.{{i}}.attention.{n}", f"model.layers.{{i}}.self_attn.{n}") for n in ("q_norm", "k_norm")
)


def table(spec: ModelSpec) -> Iterable[Row]:
    """Names."""
    return (*llama.table(spec), *QK_NORMS)


def decoder(given: Given, attention: Fields) -> Fields:
    """What both say."""
    config = given.config
    context = config.integer("max_position_embeddings", default=32_768)
    return {
        **llama.sizes(given),
        "context": context,
        "norm": {
            "kind": "rmsnorm",
            "eps": float(config.number("rms_norm_eps", default=1e-6)),
            "cast": "before_weight",
        },
        "placement": "pre",
        "positions": hf.rope(config, context=context),
        "attention": {**attention, **_windows(given)},
        "feedforward": {
            "width": config.integer("intermediate_size"),
            "activation": hf.activation(config, "hidden_act", default="silu"),
        },
        "head": {"tied": config.flag("tie_word_embeddings", default=False)},
        "tokens": hf.tokens(config),
    }


def _windows(given: Given) -> Fields:
    config = given.config
    if not config.flag("use_sliding_window", default=False):
        return {}
    size: Any = config.integer("sliding_window", default=None if "sliding_window" in config else 4096)
    layers = config.layers("num_hidden_layers")
    said = hf.window_layers(config, layers)
    first = config.integer("max_window_layers", default=28)
    return hf.windows(size, list(range(first, layers)) if said is None else said)


def from_spec(spec: ModelSpec) -> Fields:
    """What both say, as config.json."""
    sizes = {spec.window(layer) for layer in range(spec.layers)} - {None}
    types = hf.layer_types(spec)
    full = types.index("sliding_attention") if sizes else spec.layers
    return {
        **llama.sizes_of(spec),
        "rms_norm_eps": spec.norm.eps,
        "use_sliding_window": bool(sizes),
        "sliding_window": next(iter(sizes), None),
        "max_window_layers": full,
        "layer_types": types,
    }


def two(given: Given) -> Fields:
    """From Qwen 2's config.json."""
    return decoder(given, {**hf.llama_heads(given.config, kv_heads=32), "qkv_bias": True})


def three(given: Given) -> Fields:
    """From Qwen 3's config.json."""
    biased = given.config.flag("attention_bias", default=False)
    heads = hf.llama_heads(given.config, kv_heads=32, head_width=128)
    return decoder(given, {**heads, "qkv_bias": biased, "out_bias": biased, "qk_norm": "head"})


def three_from_spec(spec: ModelSpec) -> Fields:
    """To Qwen 3's config.json."""
    return {**from_spec(spec), "attention_bias": spec.attention.qkv_bias}


FAMILIES = (
    Family(
        name="Qwen 2",
        model_types=("qwen2",),
        architectures=("Qwen2ForCausalLM",),
        to_spec=two,
        from_spec=from_spec,
        table=table,
        prefix="model.",
        extras=llama.EXTRAS,
        tied=("lm_head.weight",),
    ),
    Family(
        name="Qwen 3",
        model_types=("qwen3",),
        architectures=("Qwen3ForCausalLM",),
        to_spec=three,
        from_spec=three_from_spec,
        table=table,
        prefix="model.",
        extras=llama.EXTRAS,
        tied=("lm_head.weight",),
    ),
)
