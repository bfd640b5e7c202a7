"""PaLM (Chowdhery et al. 2022) under the names of palm_rlhf_pytorch.

One norm feeds attention and feed-forward together, from one fused matrix: all queries, key, value, then the
feed-forward's x and gate. Its q/k norm divides by the length, not by the root mean square. `qk_scale` is read by that
code and, since its attention moved to a class of its own, never used: `hint={"qk_scale": 8.0}` is for weights of
before.
"""

from __future__ import annotations

from collections.abc import Iterable

from assay.published import hf
from assay.published.base import Family, Fields, Given, Row
from assay.published.transforms import Scaled, Stacked
from assay.spec.axes import QKNorm
from assay.spec.model import ModelSpec

BLOCK, LAYER = "decoder.blocks.{i}.", "layers.{i}.fn."
FUSED = (
    *(f"{BLOCK}attention.{letter}" for letter in "qkv"),
    f"{BLOCK}feedforward.up",
    f"{BLOCK}feedforward.gate",
)
SCALE = "assay_qk_scale"
"""Where an export of ours keeps the hint."""


def table(spec: ModelSpec) -> Iterable[Row]:
    """Names."""
    root = Scaled(spec.head_width("decoder") ** -0.5)
    return (
        Row("embedding", "token_emb"),
        Row(f"{BLOCK}shared_before.weight", f"{LAYER}norm.gamma"),
        Row(FUSED, f"{LAYER}fused_attn_ff_proj", Stacked()),
        Row(f"{BLOCK}attention.q_norm.weight", f"{LAYER}q_scale", root),
        Row(f"{BLOCK}attention.k_norm.weight", f"{LAYER}k_scale", root),
        Row(f"{BLOCK}attention.o", f"{LAYER}attn_out"),
        Row(f"{BLOCK}feedforward.down", f"{LAYER}ff_out.2"),
        Row("decoder.final_norm.weight", "norm.gamma"),
    )


def to_spec(given: Given) -> Fields:
    """From config.json, whose fields are the class's arguments."""
    config = given.config
    width, heads = config.size("dim"), config.size("heads", default=8)
    head = config.size("dim_head", default=64)
    norm = config.flag("qk_rmsnorm", default=False)
    xpos = config.flag("use_xpos", default=True)
    base = float(config.number("rotary_xpos_scale_base", "xpos_scale_base", default=512))
    scale = given.hint.get("qk_scale", config.number(SCALE, default=None)) if norm else None
    # xPos counts from the middle of the context: a long one would leave float32's range on a small base.
    context = config.integer("max_seq_len", default=min(2048, int(16 * base)) if xpos else 2048)
    return {
        "vocab_size": config.integer("num_tokens"),
        "width": width,
        "layers": config.integer("depth"),
        "context": context,
        "norm": {"kind": "layernorm", "eps": 1e-5, "bias": False},
        "placement": "pre",
        "parallel": "one_norm",
        "positions": {"kind": "rope", "xpos": True, "xpos_base": base} if xpos else "rope",
        "attention": {
            "heads": heads,
            "kv_heads": 1,
            "head_width": None if head * heads == width else head,
            "dropout": float(config.number("attn_dropout", default=0.0)),
            **({"qk_norm": "head", "qk_norm_kind": "rmsnorm", "qk_norm_eps": 1e-24} if norm else {}),
            "scale": None if scale is None else float(scale),
        },
        "feedforward": {
            "width": config.integer("ff_mult", default=4) * width,
            "activation": "silu",
            "dropout": float(config.number("ff_dropout", default=0.0)),
        },
        "head": {"tied": True},
        "init": {"kind": "normal", "std": 0.02},
        "tokens": hf.tokens(config),
    }


def from_spec(spec: ModelSpec) -> Fields:
    """To config.json."""
    say = spec.attention
    return {
        "num_tokens": spec.vocab_size,
        "dim": spec.width,
        "depth": spec.layers,
        "dim_head": spec.head_width("decoder"),
        "heads": say.heads,
        "ff_mult": spec.feedforward_width("decoder") // spec.width,
        "attn_dropout": say.dropout,
        "ff_dropout": spec.feedforward.dropout,
        "qk_rmsnorm": say.qk_norm is QKNorm.head,
        "use_xpos": spec.positions.xpos,
        "rotary_xpos_scale_base": spec.positions.xpos_base,
        "max_seq_len": spec.context,
        **({} if say.scale is None else {SCALE: say.scale}),
        **hf.tokens_of(spec),
    }


FAMILIES = (
    Family(
        name="PaLM",
        model_types=("palm",),
        keys=("token_emb.weight", "layers.0.fn.fused_attn_ff_proj.weight"),
        to_spec=to_spec,
        from_spec=from_spec,
        table=table,
        extras=(r".*norm\.beta", r".*rotary_emb\.(inv_freq|scale)", r"finetune_modules\..*"),
        renames=((r"ff_out\.1\.weight$", "ff_out.2.weight"),),
        tied=("to_logits.weight",),
        hints=("qk_scale",),
        transformers=False,
    ),
)
