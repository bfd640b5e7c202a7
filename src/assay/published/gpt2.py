"""GPT-2 (Radford et al. 2019): matrices stand as [in, out], queries, keys and values in one."""

from __future__ import annotations

from collections.abc import Iterable

from assay.published import hf
from assay.published.base import Family, Fields, Given, Row
from assay.published.transforms import Stacked, Transposed
from assay.spec.axes import Activation
from assay.spec.model import ModelSpec

BLOCK, LAYER = "decoder.blocks.{i}.", "transformer.h.{i}."
TURNED = Transposed()


def table(spec: ModelSpec) -> Iterable[Row]:
    """Names."""
    qkv = (f"{BLOCK}attention.q", f"{BLOCK}attention.k", f"{BLOCK}attention.v")
    return (
        Row("embedding", "transformer.wte"),
        Row("decoder.positions", "transformer.wpe"),
        Row(f"{BLOCK}attention_before", f"{LAYER}ln_1"),
        Row(qkv, f"{LAYER}attn.c_attn", Transposed(Stacked())),
        Row(f"{BLOCK}attention.o", f"{LAYER}attn.c_proj", TURNED),
        Row(f"{BLOCK}feedforward_before", f"{LAYER}ln_2"),
        Row(f"{BLOCK}feedforward.up", f"{LAYER}mlp.c_fc", TURNED),
        Row(f"{BLOCK}feedforward.down", f"{LAYER}mlp.c_proj", TURNED),
        Row("decoder.final_norm", "transformer.ln_f"),
        Row("head", "lm_head"),
    )


def to_spec(given: Given) -> Fields:
    """From config.json."""
    config = given.config
    if config.raw("add_cross_attention"):
        raise config.fail("add_cross_attention", "GPT-2 as a decoder of another model is not supported.")
    width = config.integer("n_embd", "hidden_size")
    drop = {name: float(config.number(name, default=0.1)) for name in ("attn_pdrop", "embd_pdrop", "resid_pdrop")}
    return {
        "vocab_size": config.integer("vocab_size"),
        "width": width,
        "layers": config.integer("n_layer", "num_hidden_layers"),
        "context": config.integer("n_positions", "n_ctx", "max_position_embeddings", default=1024),
        "norm": {"kind": "layernorm", "eps": float(config.number("layer_norm_epsilon", default=1e-5))},
        "placement": "pre",
        "positions": "learned",
        "attention": {
            "heads": config.integer("n_head", "num_attention_heads"),
            "qkv_bias": True,
            "out_bias": True,
            "dropout": drop["attn_pdrop"],
            "scale": None if config.flag("scale_attn_weights", default=True) else 1.0,
            "scale_by_layer": config.flag("scale_attn_by_inverse_layer_idx", default=False),
        },
        "feedforward": {
            "width": _unless(config.integer("n_inner", default=None), 4 * width),
            "activation": hf.activation(config, "activation_function", default="gelu_new"),
            "gated": False,
            "bias": True,
        },
        "embedding": {"dropout": drop["embd_pdrop"]},
        "dropout": drop["resid_pdrop"],
        "head": {"tied": config.flag("tie_word_embeddings", default=True)},
        "init": {"kind": "scaled_residual", "std": float(config.number("initializer_range", default=0.02))},
        "tokens": hf.tokens(config, bos=50256, eos=50256),
    }


def _unless(value: int | None, usual: int) -> int | None:
    return None if value == usual else value


def from_spec(spec: ModelSpec) -> Fields:
    """To config.json."""
    say = spec.attention
    activation = spec.feedforward.activation
    return {
        "vocab_size": spec.vocab_size,
        "n_embd": spec.width,
        "n_layer": spec.layers,
        "n_head": say.heads,
        "n_positions": spec.context,
        "n_ctx": spec.context,
        "n_inner": _unless(spec.feedforward_width("decoder"), 4 * spec.width),
        "activation_function": "gelu_new" if activation is Activation.gelu_tanh else hf.SPELLED[activation],
        "layer_norm_epsilon": spec.norm.eps,
        "attn_pdrop": say.dropout,
        "embd_pdrop": spec.embedding.dropout,
        "resid_pdrop": spec.dropout,
        "scale_attn_weights": say.scale != 1.0,
        "scale_attn_by_inverse_layer_idx": say.scale_by_layer,
        "tie_word_embeddings": spec.head.tied,
        "initializer_range": spec.init_std,
        **hf.tokens_of(spec),
    }


FAMILIES = (
    Family(
        name="GPT-2",
        model_types=("gpt2",),
        architectures=("GPT2LMHeadModel",),
        to_spec=to_spec,
        from_spec=from_spec,
        table=table,
        prefix="transformer.",
        extras=(r".*\.attn\.(masked_)?bias",),
        tied=("lm_head.weight",),
    ),
)
