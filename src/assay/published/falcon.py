"""Falcon (Almazrouei et al. 2023): 7B, 40B, 180B, RW and the legacy configurations.

One attention layout serves all: queries grouped by key-value head, each group with its key and value. 7B has one
key-value head and one norm for both sublayers; the newer architecture two norms; RW is serial with ALiBi, whose bias
stands inside the 1/sqrt(d) scale.
"""

from __future__ import annotations

from collections.abc import Iterable

from assay.published import hf
from assay.published.base import Family, Fields, Given, Row
from assay.published.transforms import Grouped
from assay.spec.axes import Parallel, PositionKind
from assay.spec.model import ModelSpec

BLOCK, LAYER = "decoder.blocks.{i}.", "transformer.h.{i}."

NORMS = {
    Parallel.none: {"attention_before": "input_layernorm", "feedforward_before": "post_attention_layernorm"},
    Parallel.one_norm: {"shared_before": "input_layernorm"},
    Parallel.two_norms: {"attention_before": "ln_attn", "feedforward_before": "ln_mlp"},
}


def table(spec: ModelSpec) -> Iterable[Row]:
    """Names."""
    qkv = (f"{BLOCK}attention.q", f"{BLOCK}attention.k", f"{BLOCK}attention.v")
    return (
        Row("embedding", "transformer.word_embeddings"),
        *(Row(f"{BLOCK}{ours}", f"{LAYER}{theirs}") for ours, theirs in NORMS[spec.parallel].items()),
        Row(qkv, f"{LAYER}self_attention.query_key_value", Grouped(spec.kv_heads("decoder"))),
        Row(f"{BLOCK}attention.o", f"{LAYER}self_attention.dense"),
        Row(f"{BLOCK}feedforward.up", f"{LAYER}mlp.dense_h_to_4h"),
        Row(f"{BLOCK}feedforward.down", f"{LAYER}mlp.dense_4h_to_h"),
        Row("decoder.final_norm", "transformer.ln_f"),
        Row("head", "lm_head"),
    )


def to_spec(given: Given) -> Fields:
    """From config.json, of today's form or the legacy ones (RefinedWebModel, RefinedWeb)."""
    config = given.config
    heads = config.integer("num_attention_heads", "n_head")
    width = config.integer("hidden_size", "n_embed")
    # Legacy 40B files do not say that they are of the newer architecture; their grouped heads do.
    grouped = config.raw("model_type") == "RefinedWeb"
    newer = config.flag("new_decoder_architecture", default=grouped)
    together = config.flag("parallel_attn", default=True)
    kv = 1 if config.flag("multi_query", default=True) else heads
    if newer:
        kv = config.integer("num_kv_heads", "n_head_kv", default=heads)
    parallel = Parallel.one_norm if together else Parallel.none
    if newer:
        norms = config.integer("num_ln_in_parallel_attn", default=2)
        parallel = Parallel.two_norms if norms == 2 else Parallel.one_norm
    biased = config.flag("bias", default=False)
    context = config.integer("max_position_embeddings", default=2048)
    alibi = config.flag("alibi", default=False)
    inner = config.integer("ffn_hidden_size", default=None)
    return {
        "vocab_size": config.integer("vocab_size"),
        "width": width,
        "layers": config.integer("num_hidden_layers", "n_layer"),
        "context": context,
        "norm": {"kind": "layernorm", "eps": float(config.number("layer_norm_epsilon", default=1e-5))},
        "placement": "pre",
        "parallel": parallel.value,
        "positions": {"kind": "alibi", "scaled_bias": True} if alibi else hf.rope(config, context=context),
        "attention": {
            "heads": heads,
            "kv_heads": None if kv == heads else kv,
            "qkv_bias": biased,
            "out_bias": biased,
            "dropout": float(config.number("attention_dropout", default=0.0)),
        },
        "feedforward": {
            "width": None if inner == 4 * width else inner,
            "activation": hf.activation(config, "activation", default="gelu"),
            "gated": False,
            "bias": biased,
        },
        "dropout": float(config.number("hidden_dropout", default=0.0)),
        "head": {"tied": config.flag("tie_word_embeddings", default=True)},
        "init": {"kind": "normal", "std": float(config.number("initializer_range", default=0.02))},
        "tokens": hf.tokens(config, bos=11, eos=11),
    }


def from_spec(spec: ModelSpec) -> Fields:
    """To today's config.json."""
    heads, kv = spec.heads("decoder"), spec.kv_heads("decoder")
    newer = spec.parallel is Parallel.two_norms or kv not in (1, heads)
    return {
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.width,
        "num_hidden_layers": spec.layers,
        "num_attention_heads": heads,
        "num_kv_heads": kv,
        "multi_query": kv == 1,
        "new_decoder_architecture": newer,
        "num_ln_in_parallel_attn": {Parallel.two_norms: 2, Parallel.one_norm: 1}.get(spec.parallel) if newer else None,
        "parallel_attn": spec.parallel is not Parallel.none,
        "bias": spec.attention.qkv_bias,
        "alibi": spec.positions.kind is PositionKind.alibi,
        "max_position_embeddings": spec.context,
        "ffn_hidden_size": spec.feedforward_width("decoder"),
        "activation": hf.SPELLED[spec.feedforward.activation],
        "layer_norm_epsilon": spec.norm.eps,
        "attention_dropout": spec.attention.dropout,
        "hidden_dropout": spec.dropout,
        "tie_word_embeddings": spec.head.tied,
        "initializer_range": spec.init_std,
        **hf.tokens_of(spec),
        **hf.rope_fields(spec),
    }


FAMILIES = (
    Family(
        name="Falcon",
        model_types=("falcon", "RefinedWebModel", "RefinedWeb"),
        architectures=("FalconForCausalLM", "RWForCausalLM"),
        to_spec=to_spec,
        from_spec=from_spec,
        table=table,
        prefix="transformer.",
        extras=(r".*rotary_emb\.inv_freq", r".*\.maybe_rotary\.inv_freq"),
        tied=("lm_head.weight",),
    ),
)
