"""ChatGLM in its own code's form: ChatGLM-6B, and ChatGLM2, ChatGLM3 and glm-4-9b, which share one class.

ChatGLM-6B (GLM: Du et al. 2022) is a prefix decoder: keys before `<sop>` are visible to all, positions have two rows
(the halves of a head turn apart), and the residual carries the normed stream times (2 x layers)^1/2. Its published
code writes 28 layers into that factor: `hint={"alpha_layers": 28}` does so for other depths.

The others are causal and rotate half of every head in neighbouring pairs. `rope_ratio` multiplies the base, but in
ChatGLM2 divides positions; both write the same configuration, so `hint={"rope_ratio": "positions"}` can tell.
"""

from __future__ import annotations

from collections.abc import Iterable

from assay.published import hf
from assay.published.base import Family, Fields, Given, Row
from assay.published.config import Config
from assay.published.transforms import Grouped, Stacked
from assay.spec.axes import NormKind, PromptRule, Skip
from assay.spec.model import ModelSpec
from assay.spec.placement import has_final_norm, residual_scale

BLOCK = "decoder.blocks.{i}."
QKV = tuple(f"{BLOCK}attention.{letter}" for letter in "qkv")
ALPHA = "assay_alpha_layers"
"""Where an export of ours keeps the hint."""


def one_table(spec: ModelSpec) -> Iterable[Row]:
    """ChatGLM-6B's names."""
    layer = "transformer.layers.{i}."
    return (
        Row("embedding", "transformer.word_embeddings"),
        Row(f"{BLOCK}attention_before", f"{layer}input_layernorm"),
        Row(QKV, f"{layer}attention.query_key_value", Grouped(spec.heads("decoder"))),
        Row(f"{BLOCK}attention.o", f"{layer}attention.dense"),
        Row(f"{BLOCK}feedforward_before", f"{layer}post_attention_layernorm"),
        Row(f"{BLOCK}feedforward.up", f"{layer}mlp.dense_h_to_4h"),
        Row(f"{BLOCK}feedforward.down", f"{layer}mlp.dense_4h_to_h"),
        Row("decoder.final_norm", "transformer.final_layernorm"),
        Row("head", "lm_head"),
    )


def one_to_spec(given: Given) -> Fields:
    """From ChatGLM-6B's config.json; the first release wrote its mask tokens into the code, next to `<sop>`."""
    config = given.config
    _no_quantisation(config)
    layers = config.size("num_layers")
    rows = 2 if config.flag("position_encoding_2d", default=True) else 1
    special = hf.tokens(config)
    sop = config.integer("bos_token_id")
    mask = config.integer("mask_token_id", default=sop - 4)
    gmask = config.integer("gmask_token_id", default=sop - 3)
    alpha = given.hint.get("alpha_layers", config.integer(ALPHA, default=layers))
    if not isinstance(alpha, int) or alpha < 1:
        raise config.fail(ALPHA, f"hint alpha_layers = {alpha!r}: a number of layers belongs there, such as 28.")
    return {
        "family": "prefix",
        "vocab_size": config.integer("vocab_size"),
        "width": config.size("hidden_size"),
        "layers": layers,
        "context": config.integer("max_sequence_length", default=2048),
        "norm": {"kind": "layernorm", "eps": float(config.number("layernorm_epsilon", default=1e-5))},
        "placement": {"kind": "glm130b", "alpha": None if alpha == layers else (2 * alpha) ** 0.5},
        "positions": {"kind": "rope", "axes": rows, "half_frequencies": True},
        "attention": {"heads": config.size("num_attention_heads"), "qkv_bias": True, "out_bias": True},
        "feedforward": {
            "width": config.integer("inner_hidden_size"),
            "activation": "gelu_tanh",
            "gated": False,
            "bias": True,
        },
        "head": {"tied": config.flag("tie_word_embeddings", default=False)},
        "tokens": {**special, "mask": mask},
        "prompt": {"rule": "chatglm" if rows == 2 else "glm130b", "sop": sop, "mask": mask, "gmask": gmask},
    }


def one_from_spec(spec: ModelSpec) -> Fields:
    """To ChatGLM-6B's config.json."""
    alpha = round(residual_scale(spec, "decoder") ** 2 / 2)
    return {
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.width,
        "inner_hidden_size": spec.feedforward_width("decoder"),
        "num_layers": spec.layers,
        "num_attention_heads": spec.heads("decoder"),
        "max_sequence_length": spec.context,
        "layernorm_epsilon": spec.norm.eps,
        "position_encoding_2d": spec.prompt.rule is PromptRule.chatglm,
        "tie_word_embeddings": spec.head.tied,
        **hf.tokens_of(spec),
        "bos_token_id": spec.prompt.sop,
        "mask_token_id": spec.prompt.mask,
        "gmask_token_id": spec.prompt.gmask,
        **({} if alpha == spec.layers else {ALPHA: alpha}),
    }


def two_table(spec: ModelSpec) -> Iterable[Row]:
    """ChatGLM2's names; without multi-query (no number of groups given), queries, keys and values stand by head."""
    layer = "transformer.encoder.layers.{i}."
    fused = Grouped(spec.heads("decoder")) if spec.attention.kv_heads is None else Stacked()
    inward = (f"{BLOCK}feedforward.gate", f"{BLOCK}feedforward.up")
    return (
        Row("embedding", "transformer.embedding.word_embeddings"),
        Row(f"{BLOCK}attention_before", f"{layer}input_layernorm"),
        Row(QKV, f"{layer}self_attention.query_key_value", fused),
        Row(f"{BLOCK}attention.o", f"{layer}self_attention.dense"),
        Row(f"{BLOCK}feedforward_before", f"{layer}post_attention_layernorm"),
        Row(inward, f"{layer}mlp.dense_h_to_4h", Stacked()),
        Row(f"{BLOCK}feedforward.down", f"{layer}mlp.dense_4h_to_h"),
        Row("decoder.final_norm", "transformer.encoder.final_layernorm"),
        Row("head", "transformer.output_layer"),
    )


def two_to_spec(given: Given) -> Fields:
    """From the config.json of ChatGLM2, ChatGLM3 and glm-4-9b.

    Raises:
        UserError: quantised weights.
    """
    config = given.config
    _no_quantisation(config)
    width, heads = config.size("hidden_size"), config.size("num_attention_heads")
    head = config.size("kv_channels", default=width // heads)
    several = config.flag("multi_query_attention", default=False)
    groups = config.integer("multi_query_group_num", default=1) if several else None
    biased = config.flag("add_bias_linear", default=False)
    rms = config.flag("rmsnorm", default=True)
    normed = config.flag("apply_residual_connection_post_layernorm", default=False)
    norm = {"kind": "rmsnorm", "cast": "before_weight"} if rms else {"kind": "layernorm"}
    return {
        "vocab_size": config.integer("padded_vocab_size"),
        "width": width,
        "layers": config.size("num_layers"),
        "context": config.integer("seq_length", default=2048),
        "norm": {**norm, "eps": float(config.number("layernorm_epsilon", default=1e-5))},
        "placement": {
            "kind": "pre",
            "skip": "normed" if normed else None,
            "final_norm": None if config.flag("post_layer_norm", default=True) else False,
        },
        "positions": {"kind": "rope", "fraction": 0.5, "pairing": "interleaved", **_stretch(given)},
        "attention": {
            "heads": heads,
            "kv_heads": groups,
            "head_width": None if head * heads == width else head,
            "qkv_bias": biased or config.flag("add_qkv_bias", default=False),
            "out_bias": biased,
            "dropout": float(config.number("attention_dropout", default=0.0)),
        },
        "feedforward": {"width": config.integer("ffn_hidden_size"), "activation": "silu", "bias": biased},
        "dropout": float(config.number("hidden_dropout", default=0.0)),
        "head": {"tied": False},
        "tokens": hf.tokens(config, pad=0, eos=2),
    }


def _stretch(given: Given) -> Fields:
    ratio = float(given.config.number("rope_ratio", default=1.0))
    if ratio == 1:
        return {}
    way = given.hint.get("rope_ratio")
    if way is None:
        two = "chatglm2" in str(given.config.raw("_name_or_path", "")).lower()
        way = "positions" if two else "base"
    if way not in ("base", "positions"):
        raise given.config.fail("rope_ratio", f'hint rope_ratio = {way!r}: use "base" or "positions".')
    if way == "base":
        return {"theta": 10_000.0 * ratio}
    return {"scaling": {"kind": "linear", "factor": ratio}}


def two_from_spec(spec: ModelSpec) -> Fields:
    """To ChatGLM2's config.json."""
    scaling = spec.positions.scaling
    ratio: Fields = {}
    if scaling is not None:
        ratio = {"rope_ratio": scaling.factor, "_name_or_path": "chatglm2"}
    elif spec.positions.theta != 10_000.0:
        ratio = {"rope_ratio": spec.positions.theta / 10_000.0}
    return {
        "padded_vocab_size": spec.vocab_size,
        "hidden_size": spec.width,
        "num_layers": spec.layers,
        "num_attention_heads": spec.heads("decoder"),
        "kv_channels": spec.head_width("decoder"),
        "multi_query_attention": spec.attention.kv_heads is not None,
        "multi_query_group_num": spec.kv_heads("decoder"),
        "ffn_hidden_size": spec.feedforward_width("decoder"),
        "seq_length": spec.context,
        "layernorm_epsilon": spec.norm.eps,
        "rmsnorm": spec.norm.kind is NormKind.rmsnorm,
        "post_layer_norm": has_final_norm(spec),
        "apply_residual_connection_post_layernorm": spec.placement.skip is Skip.normed,
        "add_bias_linear": spec.attention.out_bias,
        "add_qkv_bias": spec.attention.qkv_bias,
        "attention_dropout": spec.attention.dropout,
        "hidden_dropout": spec.dropout,
        "tie_word_embeddings": False,
        "original_rope": True,
        **hf.tokens_of(spec),
        **ratio,
    }


def _no_quantisation(config: Config) -> None:
    if config.raw("quantization_bit"):
        raise config.fail("quantization_bit", "quantised weights are not supported.", "Use the original weights.")


def _is_two(given: Given) -> bool:
    return "padded_vocab_size" in given.config or "multi_query_attention" in given.config


FAMILIES = (
    Family(
        name="ChatGLM2",
        model_types=("chatglm",),
        architectures=("ChatGLMModel", "ChatGLMForConditionalGeneration"),
        when=_is_two,
        to_spec=two_to_spec,
        from_spec=two_from_spec,
        table=two_table,
        prefix="transformer.",
        extras=(r"(transformer\.)?rotary_pos_emb\.inv_freq",),
        hints=("rope_ratio",),
        transformers=False,
        states_before_norm=True,
    ),
    Family(
        name="ChatGLM-6B",
        model_types=("chatglm",),
        architectures=("ChatGLMModel", "ChatGLMForConditionalGeneration"),
        when=lambda given: not _is_two(given),
        to_spec=one_to_spec,
        from_spec=one_from_spec,
        table=one_table,
        prefix="transformer.",
        extras=(r".*rotary_emb\.inv_freq",),
        tied=("lm_head.weight",),
        hints=("alpha_layers",),
        transformers=False,
    ),
)
