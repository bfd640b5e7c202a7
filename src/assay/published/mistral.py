"""Mistral (Jiang et al. 2023) and Mixtral (Jiang et al. 2024): LLaMA's block with a sliding window; experts."""

from __future__ import annotations

from collections.abc import Iterable

from assay.published import hf, llama
from assay.published.base import Family, Fields, Given, Row
from assay.spec.model import ModelSpec

EXPERTS = (
    Row("decoder.blocks.{i}.feedforward.router", "model.layers.{i}.block_sparse_moe.gate"),
    *(
        Row(
            f"decoder.blocks.{{i}}.feedforward.experts.{{e}}.{ours}",
            f"model.layers.{{i}}.block_sparse_moe.experts.{{e}}.{theirs}",
        )
        for ours, theirs in {"gate": "w1", "up": "w3", "down": "w2"}.items()
    ),
)
"""Mixtral's feed-forward."""


def mixtral_table(spec: ModelSpec) -> Iterable[Row]:
    """Names."""
    return (*llama.ENDS, *llama.NORMS, *llama.ATTENTION, *EXPERTS)


def decoder(given: Given, *, theta: float, eps: float, window: int | None) -> Fields:
    """What both say, with a class's defaults."""
    config = given.config
    context = config.integer("max_position_embeddings", default=131_072)
    size = config.integer("sliding_window", default=None if "sliding_window" in config else window)
    return {
        **llama.sizes(given),
        "context": context,
        "norm": {
            "kind": "rmsnorm",
            "eps": float(config.number("rms_norm_eps", default=eps)),
            "cast": "before_weight",
        },
        "placement": "pre",
        "positions": hf.rope(config, theta=theta, context=context),
        "attention": {**hf.llama_heads(config, kv_heads=8), **hf.windows(size, None)},
        "feedforward": {
            "width": config.integer("intermediate_size"),
            "activation": hf.activation(config, "hidden_act", default="silu"),
        },
        "head": {"tied": config.flag("tie_word_embeddings", default=False)},
        "tokens": hf.tokens(config, bos=1, eos=2),
    }


def to_spec(given: Given) -> Fields:
    """From Mistral's config.json."""
    return decoder(given, theta=10_000.0, eps=1e-6, window=4096)


def from_spec(spec: ModelSpec) -> Fields:
    """To Mistral's config.json."""
    return {**llama.sizes_of(spec), "rms_norm_eps": spec.norm.eps, "sliding_window": spec.window(0)}


def mixtral_to_spec(given: Given) -> Fields:
    """From Mixtral's config.json."""
    fields = decoder(given, theta=1e6, eps=1e-5, window=None)
    fields["feedforward"]["experts"] = {
        "count": given.config.integer("num_local_experts", default=8),
        "active": given.config.integer("num_experts_per_tok", default=2),
    }
    return fields


def mixtral_from_spec(spec: ModelSpec) -> Fields:
    """To Mixtral's config.json."""
    experts = spec.feedforward.experts
    return {
        **from_spec(spec),
        "num_local_experts": experts.count if experts else 1,
        "num_experts_per_tok": experts.active if experts else 1,
    }


FAMILIES = (
    Family(
        name="Mistral",
        model_types=("mistral",),
        architectures=("MistralForCausalLM",),
        to_spec=to_spec,
        from_spec=from_spec,
        table=llama.table,
        prefix="model.",
        extras=llama.EXTRAS,
        tied=("lm_head.weight",),
    ),
    Family(
        name="Mixtral",
        model_types=("mixtral",),
        architectures=("MixtralForCausalLM",),
        to_spec=mixtral_to_spec,
        from_spec=mixtral_from_spec,
        table=mixtral_table,
        prefix="model.",
        extras=llama.EXTRAS,
        tied=("lm_head.weight",),
    ),
)
