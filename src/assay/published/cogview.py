"""CogView (Ding et al. 2021), in one file or as model-parallel ranks.

Sandwich-LN, whose norms first divide by the largest magnitude of the whole tensor over 8, and learned positions.
PB-relax in the softmax changes nothing in exact arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from assay.published import hf
from assay.published.base import Family, Fields, Given, Row
from assay.published.ranks import Along, Copies, Join, Parts
from assay.published.transforms import Stacked
from assay.spec.model import ModelSpec

BLOCK, LAYER = "decoder.blocks.{i}.", "transformer.layers.{i}."
QKV = tuple(f"{BLOCK}attention.{letter}" for letter in "qkv")
SCALE, RELAX = 8.0, 32.0


def table(spec: ModelSpec) -> Iterable[Row]:
    """Names."""
    return (
        Row("embedding", "word_embeddings"),
        Row("decoder.positions", "transformer.position_embeddings"),
        Row(f"{BLOCK}attention_before", f"{LAYER}input_layernorm"),
        Row(QKV, f"{LAYER}attention.query_key_value", Stacked()),
        Row(f"{BLOCK}attention.o", f"{LAYER}attention.dense"),
        Row(f"{BLOCK}attention_out", f"{LAYER}third_layernorm"),
        Row(f"{BLOCK}feedforward_before", f"{LAYER}post_attention_layernorm"),
        Row(f"{BLOCK}feedforward.up", f"{LAYER}mlp.dense_h_to_4h"),
        Row(f"{BLOCK}feedforward.down", f"{LAYER}mlp.dense_4h_to_h"),
        Row(f"{BLOCK}feedforward_out", f"{LAYER}fourth_layernorm"),
        Row("decoder.final_norm", "transformer.final_layernorm"),
    )


def joins(given: Given) -> Sequence[tuple[str, Join]]:
    """How ranks cut: every piece of query_key_value holds the thirds of its own heads."""
    return (
        (r".*query_key_value\.(weight|bias)", Parts(3)),
        (r".*(word_embeddings\.weight|dense_h_to_4h\.(weight|bias))", Along(0)),
        (r".*(attention\.dense|dense_4h_to_h)\.weight", Along(1)),
        (r".*", Copies()),
    )


def to_spec(given: Given) -> Fields:
    """From config.json.

    Raises:
        UserError: sparse attention, which only its training at higher resolution uses.
    """
    config = given.config
    if config.raw("is_sparse"):
        raise config.fail("is_sparse", "sparse attention is not supported.", "Use 0 where the weights allow it.")
    width, inner = config.size("hidden_size"), config.integer("inner_hidden_size", default=None)
    return {
        "vocab_size": config.integer("vocab_size"),
        "width": width,
        "layers": config.size("num_layers"),
        "context": config.integer("max_position_embeddings", "max_sequence_length", default=1089),
        "norm": {
            "kind": "layernorm",
            "eps": float(config.number("layernorm_epsilon", default=1e-5)),
            "max_scale": SCALE,
        },
        "placement": "sandwich",
        "positions": "learned",
        "attention": {
            "heads": config.size("num_attention_heads"),
            "qkv_bias": True,
            "out_bias": True,
            "relax": RELAX,
        },
        "feedforward": {
            "width": 4 * width if inner is None else inner,
            "activation": "gelu_tanh",
            "gated": False,
            "bias": True,
        },
        "head": {"tied": True},
        "tokens": hf.tokens(config),
    }


def from_spec(spec: ModelSpec) -> Fields:
    """To config.json."""
    inner = spec.feedforward_width("decoder")
    return {
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.width,
        "num_layers": spec.layers,
        "num_attention_heads": spec.heads("decoder"),
        "max_position_embeddings": spec.context,
        "layernorm_epsilon": spec.norm.eps,
        "is_sparse": 0,
        "model_parallel_size": 1,
        **({} if inner == 4 * spec.width else {"inner_hidden_size": inner}),
        **hf.tokens_of(spec),
    }


FAMILIES = (
    Family(
        name="CogView",
        model_types=("cogview",),
        files=("config.json", "model_config.json"),
        keys=("word_embeddings.weight", "transformer.layers.0.third_layernorm.weight"),
        to_spec=to_spec,
        from_spec=from_spec,
        table=table,
        joins=joins,
        transformers=False,
    ),
)
