"""BART (Lewis et al. 2020) and mBART (Liu et al. 2020).

Both have a norm after the embedding and learned positions that begin at row 2. BART is Post-LN; mBART is Pre-LN with
a norm after the last layer. Raw files (bart-base) leave out `model.` and the bias on the logits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from assay.published import hf
from assay.published.base import Family, Fields, Given, Row
from assay.published.transforms import Flattened
from assay.spec.axes import Placement
from assay.spec.model import ModelSpec, StackName

ATTENTION = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "out_proj"}
OFFSET = 2
"""Rows of the position table before position 0."""


def table(spec: ModelSpec) -> Iterable[Row]:
    """Names."""
    yield Row("embedding", "model.shared")
    yield Row("head.weight", "lm_head.weight")
    yield Row("head.bias", "final_logits_bias", Flattened())
    for stack in spec.stacks:
        yield from _stack(spec, stack)


def _stack(spec: ModelSpec, stack: StackName) -> Iterator[Row]:
    slot = "after" if spec.placement.kind is Placement.post else "before"
    ours, theirs = f"{stack}.blocks.{{i}}.", f"model.{stack}.layers.{{i}}."
    yield Row(f"{stack}.positions", f"model.{stack}.embed_positions")
    yield Row(f"{stack}.embedding_norm", f"model.{stack}.layernorm_embedding")
    yield Row(f"{stack}.final_norm", f"model.{stack}.layer_norm")
    sublayers = {"attention": "self_attn"} | ({"cross_attention": "encoder_attn"} if stack == "decoder" else {})
    for mine, name in sublayers.items():
        for letter, projection in ATTENTION.items():
            yield Row(f"{ours}{mine}.{letter}", f"{theirs}{name}.{projection}")
        yield Row(f"{ours}{mine}_{slot}", f"{theirs}{name}_layer_norm")
    yield Row(f"{ours}feedforward.up", f"{theirs}fc1")
    yield Row(f"{ours}feedforward.down", f"{theirs}fc2")
    yield Row(f"{ours}feedforward_{slot}", f"{theirs}final_layer_norm")


def _fields(given: Given, placement: Fields) -> Fields:
    config = given.config
    width = config.size("d_model")
    depth, layers = config.size("encoder_layers"), config.size("decoder_layers")
    heads, own_heads = config.size("decoder_attention_heads"), config.size("encoder_attention_heads")
    inner, own_inner = config.integer("decoder_ffn_dim"), config.integer("encoder_ffn_dim")
    encoder: Fields = {"layers": depth} if depth != layers else {}
    encoder |= {"heads": own_heads} if own_heads != heads else {}
    encoder |= {"feedforward_width": own_inner} if own_inner != inner else {}
    dropout = float(config.number("dropout", default=0.1))
    # A published file without the bias has it at 0: then there is none.
    shapes = given.shapes()
    biased = "final_logits_bias" in shapes if shapes else config.raw(BIAS) is not False
    special = hf.tokens(config, pad=1, bos=0, eos=2)
    start = special["decoder_start"] if "decoder_start" in special else next(iter(special["eos"]), None)
    return {
        "family": "encoder_decoder",
        "vocab_size": config.integer("vocab_size"),
        "width": width,
        "layers": layers,
        "context": config.integer("max_position_embeddings", default=1024),
        "norm": {"kind": "layernorm", "eps": 1e-5},
        "placement": {**placement, "embedding_norm": True},
        "positions": {"kind": "learned", "offset": OFFSET},
        "attention": {
            "heads": heads,
            "qkv_bias": True,
            "out_bias": True,
            "dropout": float(config.number("attention_dropout", default=0.0)),
        },
        "feedforward": {
            "width": inner,
            "activation": hf.activation(config, "activation_function", default="gelu"),
            "gated": False,
            "bias": True,
            "dropout": float(config.number("activation_dropout", default=0.0)),
        },
        "embedding": {
            "scale": width**0.5 if config.flag("scale_embedding", default=False) else None,
            "dropout": dropout,
        },
        "head": {"tied": config.flag("tie_word_embeddings", default=True), "bias": biased},
        "dropout": dropout,
        "encoder": encoder,
        "init": {"kind": "normal", "std": float(config.number("init_std", default=0.02))},
        "tokens": {**special, "decoder_start": start},
    }


BIAS = "assay_logits_bias"
"""Where an export of ours says that there is no bias on the logits; the published class always has one, then 0."""


def to_spec(given: Given) -> Fields:
    """From BART's config.json.

    Raises:
        UserError: the fields of early files that make it another network.
    """
    for name in ("normalize_before", "add_final_layer_norm"):
        if given.config.raw(name):
            raise given.config.fail(
                name, "BART is Post-LN, and its class does not read this.", 'Use model_type "mbart".'
            )
    return _fields(given, {"kind": "post"})


def mbart_to_spec(given: Given) -> Fields:
    """From mBART's config.json."""
    return _fields(given, {"kind": "pre"})


def from_spec(spec: ModelSpec) -> Fields:
    """To config.json."""
    return {
        "vocab_size": spec.vocab_size,
        "d_model": spec.width,
        "encoder_layers": spec.depth("encoder"),
        "decoder_layers": spec.depth("decoder"),
        "num_hidden_layers": spec.depth("encoder"),
        "encoder_attention_heads": spec.heads("encoder"),
        "decoder_attention_heads": spec.heads("decoder"),
        "encoder_ffn_dim": spec.feedforward_width("encoder"),
        "decoder_ffn_dim": spec.feedforward_width("decoder"),
        "max_position_embeddings": spec.context,
        "activation_function": hf.SPELLED[spec.feedforward.activation],
        "dropout": spec.dropout,
        "attention_dropout": spec.attention.dropout,
        "activation_dropout": spec.feedforward.dropout,
        "init_std": spec.init_std,
        "scale_embedding": spec.embedding.scale is not None,
        "tie_word_embeddings": spec.head.tied,
        "is_encoder_decoder": True,
        "decoder_start_token_id": spec.tokens.decoder_start,
        **hf.tokens_of(spec),
        **({} if spec.head.bias else {BIAS: False}),
    }


def copies(spec: ModelSpec) -> dict[str, str]:
    """With an untied output, the published class shares the embedding with no stack: each wants its own."""
    stacks = () if spec.head.tied else spec.stacks
    return {f"model.{stack}.embed_tokens.weight": "model.shared.weight" for stack in stacks}


COPIES = (
    "model.encoder.embed_tokens.weight",
    "model.decoder.embed_tokens.weight",
    "encoder.embed_tokens.weight",
    "decoder.embed_tokens.weight",
    "lm_head.weight",
)
EXTRAS = (r"(model\.)?(encoder|decoder)\.version",)

FAMILIES = (
    Family(
        name="BART",
        model_types=("bart",),
        architectures=("BartForConditionalGeneration", "BartModel"),
        to_spec=to_spec,
        from_spec=from_spec,
        table=table,
        prefix="model.",
        extras=EXTRAS,
        tied=COPIES,
        copies=copies,
    ),
    Family(
        name="mBART",
        model_types=("mbart",),
        architectures=("MBartForConditionalGeneration", "MBartModel"),
        to_spec=mbart_to_spec,
        from_spec=from_spec,
        table=table,
        prefix="model.",
        extras=EXTRAS,
        tied=COPIES,
        copies=copies,
    ),
)
