"""T5 v1.0, v1.1, Flan-T5, UL2 and UMT5 (Raffel et al. 2020, Chung et al. 2022, Tay et al. 2022, Chung et al. 2023).

Scores are not scaled, and a table of relative biases stands in the first block of each stack (UMT5: in every block).
A tied output multiplies hidden states by width^-1/2. Configurations of v1.0 leave out feed_forward_proj, the largest
distance and the tie.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from assay.published import hf
from assay.published.base import Family, Fields, Given, Row
from assay.published.config import Config
from assay.spec.axes import Activation
from assay.spec.model import ModelSpec, StackName

GELU = "gelu_new"
"""What `gated-gelu` means in the published code; a plain `gelu` is the exact one."""


def table(spec: ModelSpec) -> Iterable[Row]:
    """Names."""
    yield Row("embedding", "shared")
    yield Row("head", "lm_head")
    for stack in spec.stacks:
        yield from _stack(spec, stack)


def _stack(spec: ModelSpec, stack: StackName) -> Iterator[Row]:
    ours, theirs = f"{stack}.blocks.{{i}}.", f"{stack}.block.{{i}}.layer."
    sublayers = {"attention": "SelfAttention"}
    if stack == "decoder":
        sublayers["cross_attention"] = "EncDecAttention"
    for number, (mine, name) in enumerate(sublayers.items()):
        yield Row(f"{ours}{mine}_before", f"{theirs}{number}.layer_norm")
        for letter in "qkvo":
            yield Row(f"{ours}{mine}.{letter}", f"{theirs}{number}.{name}.{letter}")
    last = len(sublayers)
    yield Row(f"{ours}feedforward_before", f"{theirs}{last}.layer_norm")
    gated = spec.feedforward.gated
    inward = {"gate": "wi_0", "up": "wi_1"} if gated else {"up": "wi"}
    for mine, name in (inward | {"down": "wo"}).items():
        yield Row(f"{ours}feedforward.{mine}", f"{theirs}{last}.DenseReluDense.{name}")
    bias = "0.SelfAttention.relative_attention_bias"
    yield Row(f"{stack}.relative", f"{stack}.block.0.layer.{bias}")
    yield Row(f"{ours}attention.relative", f"{theirs}{bias}")
    yield Row(f"{stack}.final_norm", f"{stack}.final_layer_norm")


def _fields(given: Given, *, per_layer: bool, projection: str) -> Fields:
    config = given.config
    width, heads, depth = config.size("d_model"), config.size("num_heads"), config.size("num_layers")
    head = config.size("d_kv", default=64)
    layers = config.integer("num_decoder_layers", default=depth)
    dropout = float(config.number("dropout_rate", default=0.1))
    tied = config.flag("tie_word_embeddings", default=True)
    activation, gated = _projection(config, projection)
    special = {"pad": 0, "decoder_start": 0, **hf.tokens(config, pad=0, eos=1)}
    return {
        "family": "encoder_decoder",
        "vocab_size": config.integer("vocab_size"),
        "width": width,
        "layers": layers,
        "context": config.integer("n_positions", default=512),
        "norm": {
            "kind": "rmsnorm",
            "eps": float(config.number("layer_norm_epsilon", default=1e-6)),
            "cast": "before_weight",
        },
        "placement": "pre",
        "positions": {
            "kind": "relative",
            "buckets": config.integer("relative_attention_num_buckets", default=32),
            "max_distance": config.integer("relative_attention_max_distance", default=128),
            "per_layer": per_layer,
        },
        "attention": {
            "heads": heads,
            "head_width": None if head * heads == width else head,
            "scale": 1.0,
            "dropout": dropout,
        },
        "feedforward": {
            "width": config.integer("d_ff"),
            "activation": activation,
            "gated": gated,
            "dropout": dropout,
        },
        "embedding": {"dropout": dropout},
        "head": {"tied": tied, "scale": width**-0.5 if tied else None},
        "dropout": dropout,
        "encoder": {} if depth == layers else {"layers": depth},
        "init": "t5",
        "tokens": special,
    }  # fmt: skip


def _projection(config: Config, default: str) -> tuple[str, bool]:
    """The activation and whether it is gated, from `feed_forward_proj`: "relu", "gated-gelu", "gated-silu", ...

    Raises:
        UserError: a word that is no such thing.
    """
    said = config.text("feed_forward_proj", default=default)
    first, _, name = said.partition("-")
    gated = first == "gated" and bool(name)
    name = name if gated else said
    if said == "gated-gelu":
        name = GELU
    if name not in hf.ACTIVATIONS:
        known = ", ".join(hf.ACTIVATIONS)
        raise config.fail(
            "feed_forward_proj", "is not supported.", f"Supported: gated- or nothing before one of {known}."
        )
    return hf.ACTIVATIONS[name].value, gated


def to_spec(given: Given) -> Fields:
    """From T5's config.json."""
    return _fields(given, per_layer=False, projection="relu")


def umt5_to_spec(given: Given) -> Fields:
    """From UMT5's config.json, whose output is tied and gated by default."""
    return _fields(given, per_layer=True, projection="gated-gelu")


def from_spec(spec: ModelSpec) -> Fields:
    """To config.json."""
    say, tokens = spec.positions, hf.tokens_of(spec)
    tokens.pop("bos_token_id")
    return {
        "vocab_size": spec.vocab_size,
        "d_model": spec.width,
        "d_kv": spec.head_width("decoder"),
        "d_ff": spec.feedforward_width("decoder"),
        "num_layers": spec.depth("encoder"),
        "num_decoder_layers": spec.depth("decoder"),
        "num_heads": spec.heads("decoder"),
        "relative_attention_num_buckets": say.buckets,
        "relative_attention_max_distance": say.max_distance,
        "dropout_rate": spec.dropout,
        "layer_norm_epsilon": spec.norm.eps,
        "feed_forward_proj": _said(spec),
        "tie_word_embeddings": spec.head.tied,
        "is_encoder_decoder": True,
        "n_positions": spec.context,
        "decoder_start_token_id": spec.tokens.decoder_start,
        **tokens,
    }


def _said(spec: ModelSpec) -> str:
    activation = spec.feedforward.activation
    if not spec.feedforward.gated:
        return hf.SPELLED[activation]
    # "gated-gelu" is read as the tanh form, so the exact one needs another of its names.
    exact = activation is Activation.gelu
    spelled = "gelu_python" if exact else "gelu" if activation is Activation.gelu_tanh else hf.SPELLED[activation]
    return f"gated-{spelled}"


COPIES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")
EXTRAS = (r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",)
"""v1.0's files hold a table that nothing reads."""

FAMILIES = (
    Family(
        name="T5",
        model_types=("t5",),
        architectures=("T5ForConditionalGeneration", "T5WithLMHeadModel", "T5Model"),
        to_spec=to_spec,
        from_spec=from_spec,
        table=table,
        extras=EXTRAS,
        tied=COPIES,
    ),
    Family(
        name="UMT5",
        model_types=("umt5",),
        architectures=("UMT5ForConditionalGeneration", "UMT5Model"),
        to_spec=umt5_to_spec,
        from_spec=from_spec,
        table=table,
        extras=EXTRAS,
        tied=COPIES,
    ),
)
