"""GLM-130B (Zeng et al. 2022), in one file or as tensor-parallel ranks.

A prefix decoder whose residual carries the normed stream times (2 x layers)^1/2. The gated feed-forward multiplies
its first half by gelu of its second; in ranks, every piece has its own two halves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from assay.published import hf
from assay.published.base import Family, Fields, Given, Row
from assay.published.ranks import Along, Copies, Join, Parts
from assay.published.transforms import Grouped, Stacked
from assay.spec.model import ModelSpec

BLOCK, LAYER = "decoder.blocks.{i}.", "transformer.layers.{i}."
QKV = tuple(f"{BLOCK}attention.{letter}" for letter in "qkv")


def table(spec: ModelSpec) -> Iterable[Row]:
    """Names."""
    inward = (f"{BLOCK}feedforward.up", f"{BLOCK}feedforward.gate")
    return (
        Row("embedding", "transformer.word_embeddings"),
        Row(f"{BLOCK}attention_before", f"{LAYER}input_layernorm"),
        Row(QKV, f"{LAYER}attention.query_key_value", Grouped(spec.heads("decoder"))),
        Row(f"{BLOCK}attention.o", f"{LAYER}attention.dense"),
        Row(f"{BLOCK}feedforward_before", f"{LAYER}post_attention_layernorm"),
        Row(inward, f"{LAYER}mlp.dense_h_to_4h", Stacked()),
        Row(f"{BLOCK}feedforward.down", f"{LAYER}mlp.dense_4h_to_h"),
        Row("decoder.final_norm", "transformer.final_layernorm"),
    )


def joins(given: Given) -> Sequence[tuple[str, Join]]:
    """How ranks cut: heads and inner features; what is added after a sum over ranks is a copy."""
    return (
        (r".*\.mlp\.dense_h_to_4h\.(weight|bias)", Parts(2)),
        (r".*(word_embeddings\.weight|query_key_value\.(weight|bias))", Along(0)),
        (r".*(attention\.dense|dense_4h_to_h)\.weight", Along(1)),
        (r".*", Copies()),
    )


def to_spec(given: Given) -> Fields:
    """From config.json.

    Raises:
        UserError: another order of norms than the published one.
    """
    config = given.config
    if config.text("layernorm_order", default="post") != "post":
        raise config.fail("layernorm_order", "GLM-130B's is post.")
    special = hf.tokens(config)
    sop, mask = config.integer("sop_token_id", default=150_004), config.integer("mask_token_id", default=150_000)
    end = config.integer("eop_token_id", default=150_005)
    width = config.size("hidden_size")
    return {
        "family": "prefix",
        "vocab_size": config.integer("vocab_size"),
        "width": width,
        "layers": config.size("num_layers"),
        "context": config.integer("max_sequence_length", default=2048),
        "norm": {"kind": "layernorm", "eps": float(config.number("layernorm_epsilon", default=1e-5))},
        "placement": "glm130b",
        "positions": {"kind": "rope", "half_frequencies": True},
        "attention": {"heads": config.size("num_attention_heads"), "qkv_bias": True, "out_bias": True},
        "feedforward": {
            "width": config.integer("inner_hidden_size", default=32 * (width * 8 // 3 // 32)),
            "activation": "gelu",
            "gated": True,
            "bias": True,
        },
        "embedding": {"gradient_shrink": 0.1},
        "head": {"tied": True},
        "tokens": {**special, "bos": sop, "eos": special["eos"] or [end], "mask": mask},
        "prompt": {
            "rule": "glm130b",
            "sop": sop,
            "mask": mask,
            "gmask": config.integer("gmask_token_id", default=150_001),
        },
    }


def from_spec(spec: ModelSpec) -> Fields:
    """To config.json."""
    tokens = hf.tokens_of(spec)
    return {
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.width,
        "inner_hidden_size": spec.feedforward_width("decoder"),
        "num_layers": spec.layers,
        "num_attention_heads": spec.heads("decoder"),
        "max_sequence_length": spec.context,
        "layernorm_order": "post",
        "layernorm_epsilon": spec.norm.eps,
        "model_parallel_size": 1,
        "mask_token_id": spec.prompt.mask,
        "gmask_token_id": spec.prompt.gmask,
        "sop_token_id": spec.prompt.sop,
        "eop_token_id": spec.tokens.eos[0] if spec.tokens.eos else None,
        "pad_token_id": tokens["pad_token_id"],
        "eos_token_id": tokens["eos_token_id"],
    }


FUSED = "transformer.layers.0.mlp.dense_h_to_4h.weight"


def _is_gated(given: Given) -> bool:
    """Told by its name, or by a first matrix of the feed-forward that is twice as high as the second is wide."""
    first, second = given.shape(FUSED), given.shape("transformer.layers.0.mlp.dense_4h_to_h.weight")
    return given.config.raw("model_type") is not None or bool(first and second and first[0] == 2 * second[1])


FAMILIES = (
    Family(
        name="GLM-130B",
        model_types=("glm-130b", "glm130b"),
        files=("config.json", "model_config.json"),
        keys=("transformer.word_embeddings.weight", FUSED),
        when=_is_gated,
        to_spec=to_spec,
        from_spec=from_spec,
        table=table,
        prefix="transformer.",
        extras=(r".*rotary_emb\.inv_freq", r"(transformer\.)?position_embeddings\.weight"),
        tied=("lm_head.weight",),
        joins=joins,
        transformers=False,
        states_before_norm=True,
    ),
)
