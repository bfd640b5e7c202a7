"""BLOOM (Le Scao et al. 2022): ALiBi, a norm after the embedding, fused queries, keys and values a head."""

from __future__ import annotations

from collections.abc import Iterable

from assay.published import hf
from assay.published.base import Family, Fields, Given, Row
from assay.published.transforms import Grouped
from assay.spec.axes import Skip
from assay.spec.model import ModelSpec

BLOCK, LAYER = "decoder.blocks.{i}.", "transformer.h.{i}."


def table(spec: ModelSpec) -> Iterable[Row]:
    """Names."""
    qkv = (f"{BLOCK}attention.q", f"{BLOCK}attention.k", f"{BLOCK}attention.v")
    return (
        Row("embedding", "transformer.word_embeddings"),
        Row("decoder.embedding_norm", "transformer.word_embeddings_layernorm"),
        Row(f"{BLOCK}attention_before", f"{LAYER}input_layernorm"),
        Row(qkv, f"{LAYER}self_attention.query_key_value", Grouped(spec.kv_heads("decoder"))),
        Row(f"{BLOCK}attention.o", f"{LAYER}self_attention.dense"),
        Row(f"{BLOCK}feedforward_before", f"{LAYER}post_attention_layernorm"),
        Row(f"{BLOCK}feedforward.up", f"{LAYER}mlp.dense_h_to_4h"),
        Row(f"{BLOCK}feedforward.down", f"{LAYER}mlp.dense_4h_to_h"),
        Row("decoder.final_norm", "transformer.ln_f"),
        Row("head", "lm_head"),
    )


def to_spec(given: Given) -> Fields:
    """From config.json; older files say n_embed and num_attention_heads."""
    config = given.config
    normed = config.flag("apply_residual_connection_post_layernorm", default=False)
    return {
        "vocab_size": config.integer("vocab_size"),
        "width": config.integer("n_embed", "hidden_size"),
        "layers": config.integer("n_layer", "num_hidden_layers"),
        "context": config.integer("seq_length", default=2048),
        "norm": {"kind": "layernorm", "eps": float(config.number("layer_norm_epsilon", default=1e-5))},
        "placement": {"kind": "pre", "embedding_norm": True, "skip": "normed" if normed else None},
        "positions": "alibi",
        "attention": {
            "heads": config.integer("num_attention_heads", "n_head"),
            "qkv_bias": True,
            "out_bias": True,
            "dropout": float(config.number("attention_dropout", default=0.0)),
        },
        "feedforward": {"activation": "gelu_tanh", "gated": False, "bias": True},
        "dropout": float(config.number("hidden_dropout", default=0.0)),
        "head": {"tied": config.flag("tie_word_embeddings", default=True)},
        "init": {"kind": "scaled_residual", "std": float(config.number("initializer_range", default=0.02))},
        "tokens": hf.tokens(config, bos=1, eos=2),
    }


def from_spec(spec: ModelSpec) -> Fields:
    """To config.json."""
    return {
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.width,
        "n_layer": spec.layers,
        "n_head": spec.attention.heads,
        "seq_length": spec.context,
        "layer_norm_epsilon": spec.norm.eps,
        "apply_residual_connection_post_layernorm": spec.placement.skip is Skip.normed,
        "attention_dropout": spec.attention.dropout,
        "hidden_dropout": spec.dropout,
        "tie_word_embeddings": spec.head.tied,
        "initializer_range": spec.init_std,
        **hf.tokens_of(spec),
    }


FAMILIES = (
    Family(
        name="BLOOM",
        model_types=("bloom",),
        architectures=("BloomForCausalLM", "BloomModel"),
        to_spec=to_spec,
        from_spec=from_spec,
        table=table,
        prefix="transformer.",
        tied=("lm_head.weight",),
    ),
)
