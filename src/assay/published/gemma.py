"""Gemma 1 and 2 (both Gemma team 2024).

Gains are 1 + w and embeddings are multiplied by sqrt(width). 2 adds norms on what sublayers put out, two soft-caps,
a scale of its own, and a window in every other layer, beginning with the first.
"""

from __future__ import annotations

from collections.abc import Iterable

from assay.published import hf, llama
from assay.published.base import Family, Fields, Given, Row
from assay.spec.model import ModelSpec

NORMS = tuple(
    Row(f"decoder.blocks.{{i}}.{ours}", f"model.layers.{{i}}.{theirs}")
    for ours, theirs in {
        "attention_before": "input_layernorm",
        "attention_out": "post_attention_layernorm",
        "feedforward_before": "pre_feedforward_layernorm",
        "feedforward_out": "post_feedforward_layernorm",
    }.items()
)
"""Gemma 2's four norms; post_attention_layernorm is another one than LLaMA's."""


def two_table(spec: ModelSpec) -> Iterable[Row]:
    """Names."""
    return (*llama.ENDS, *NORMS, *llama.ATTENTION, *llama.MLP)


def decoder(given: Given, kv_heads: int, *names: str) -> Fields:
    """What both say; `names` are the activation's fields."""
    config = given.config
    if config.raw("use_bidirectional_attention"):
        raise config.fail("use_bidirectional_attention", "Gemma as an encoder is not supported.")
    context = config.integer("max_position_embeddings", default=8192)
    biased = config.flag("attention_bias", default=False)
    heads = hf.llama_heads(config, kv_heads=kv_heads, head_width=256)
    sizes = llama.sizes(given)
    return {
        **sizes,
        "context": context,
        "norm": {
            "kind": "rmsnorm",
            "eps": float(config.number("rms_norm_eps", default=1e-6)),
            "plus_one": True,
            "cast": "after_weight",
        },
        "placement": "pre",
        "positions": hf.rope(config, context=context),
        "attention": {**heads, "qkv_bias": biased, "out_bias": biased},
        "feedforward": {
            "width": config.integer("intermediate_size"),
            "activation": hf.activation(config, *names, default="gelu_pytorch_tanh"),
        },
        "embedding": {"scale": sizes["width"] ** 0.5},
        "head": {"tied": config.flag("tie_word_embeddings", default=True)},
        "tokens": hf.tokens(config, pad=0, bos=2, eos=1),
    }


def to_spec(given: Given) -> Fields:
    """From Gemma 1's config.json; `hidden_activation` overrides the legacy `hidden_act`."""
    return decoder(given, 16, "hidden_activation", "hidden_act")


def from_spec(spec: ModelSpec) -> Fields:
    """To config.json."""
    fields = {**llama.sizes_of(spec), "rms_norm_eps": spec.norm.eps, "attention_bias": spec.attention.qkv_bias}
    return {**fields, "hidden_activation": fields["hidden_act"]}


def two_to_spec(given: Given) -> Fields:
    """From Gemma 2's config.json."""
    config, fields = given.config, decoder(given, 4, "hidden_activation")
    layers = fields["layers"]
    said = hf.window_layers(config, layers)
    window = config.integer("sliding_window", default=None if "sliding_window" in config else 4096)
    attention, caps = fields["attention"], {}
    for name, default in (("attn_logit_softcapping", 50.0), ("final_logit_softcapping", 30.0)):
        caps[name] = config.number(name, default=None if name in config else default)
    attention |= hf.windows(window, list(range(0, layers, 2)) if said is None else said)
    scalar = config.number("query_pre_attn_scalar", default=256)
    if scalar <= 0:
        raise config.fail("query_pre_attn_scalar", "a number above 0 belongs here.")
    attention["scale"] = scalar**-0.5
    attention["softcap"] = caps["attn_logit_softcapping"]
    fields["head"]["softcap"] = caps["final_logit_softcapping"]
    return {**fields, "placement": "sandwich"}


def two_from_spec(spec: ModelSpec) -> Fields:
    """To Gemma 2's config.json."""
    return {
        **from_spec(spec),
        "query_pre_attn_scalar": spec.attention_scale("decoder", 0) ** -2,
        "attn_logit_softcapping": spec.attention.softcap,
        "final_logit_softcapping": spec.head.softcap,
        "sliding_window": spec.attention.window,
        "layer_types": hf.layer_types(spec),
    }


FAMILIES = (
    Family(
        name="Gemma",
        model_types=("gemma",),
        architectures=("GemmaForCausalLM",),
        to_spec=to_spec,
        from_spec=from_spec,
        table=llama.table,
        prefix="model.",
        extras=llama.EXTRAS,
        tied=("lm_head.weight",),
    ),
    Family(
        name="Gemma 2",
        model_types=("gemma2",),
        architectures=("Gemma2ForCausalLM",),
        to_spec=two_to_spec,
        from_spec=two_from_spec,
        table=two_table,
        prefix="model.",
        extras=llama.EXTRAS,
        tied=("lm_head.weight",),
    ),
)
