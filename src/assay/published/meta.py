"""LLaMA in Meta's own form: consolidated.NN.pth and params.json (Touvron et al. 2023, Dubey et al. 2024).

Queries and keys turn neighbouring features; the table brings their rows into halves, so the description is the
Hugging Face form's. The feed-forward's width is read from the weights (or, without them, worked out by Meta's own
rule). With several files, each holds a tensor-parallel rank's pieces.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from assay.published.base import Family, Fields, Given, Row
from assay.published.ranks import Along, Copies, Join
from assay.published.transforms import Unpaired
from assay.spec.model import ModelSpec

BLOCK, LAYER = "decoder.blocks.{i}.", "layers.{i}."


def table(spec: ModelSpec) -> Iterable[Row]:
    """Names."""
    return (
        Row("embedding", "tok_embeddings"),
        Row(f"{BLOCK}attention_before", f"{LAYER}attention_norm"),
        Row(f"{BLOCK}attention.q", f"{LAYER}attention.wq", Unpaired(spec.heads("decoder"))),
        Row(f"{BLOCK}attention.k", f"{LAYER}attention.wk", Unpaired(spec.kv_heads("decoder"))),
        Row(f"{BLOCK}attention.v", f"{LAYER}attention.wv"),
        Row(f"{BLOCK}attention.o", f"{LAYER}attention.wo"),
        Row(f"{BLOCK}feedforward_before", f"{LAYER}ffn_norm"),
        Row(f"{BLOCK}feedforward.gate", f"{LAYER}feed_forward.w1"),
        Row(f"{BLOCK}feedforward.down", f"{LAYER}feed_forward.w2"),
        Row(f"{BLOCK}feedforward.up", f"{LAYER}feed_forward.w3"),
        Row("decoder.final_norm", "norm"),
        Row("head", "output"),
    )


def joins(given: Given) -> Sequence[tuple[str, Join]]:
    """How Meta's ranks cut: embeddings by feature in LLaMA 1 and 2, by token in 3."""
    piece = given.shape("tok_embeddings.weight")
    whole_rows = piece is not None and piece[1] == given.config.integer("dim")
    return (
        (r"tok_embeddings\.weight", Along(0 if whole_rows else 1)),
        (r".*\.(wq|wk|wv|w1|w3)\.weight|output\.weight", Along(0)),
        (r".*\.(wo|w2)\.weight", Along(1)),
        (r".*norm\.weight|rope\.freqs", Copies()),
    )


def to_spec(given: Given) -> Fields:
    """From params.json; a vocabulary of -1 (LLaMA 1 and 2) and the feed-forward's width come from the weights."""
    config = given.config
    if config.raw("moe") or config.raw("num_experts"):
        raise config.fail("moe", "experts in this form are not supported.", "Use the Hugging Face form (Mixtral).")
    width, heads = config.size("dim"), config.size("n_heads")
    kv = config.size("n_kv_heads", default=heads)
    head = config.size("head_dim", default=width // heads)  # head_dim and hidden_dim: Mistral's files of this form
    ranks = _ranks(given, heads * head)
    inner = given.shape("layers.0.feed_forward.w1.weight")
    theta = config.number("rope_theta", default=10_000.0)
    context = config.integer("max_seq_len", default=2048 if theta == 10_000.0 else 8192)
    positions: Fields = {"kind": "rope", "theta": float(theta)}
    if config.flag("use_scaled_rope", default=False):
        factor = float(given.hint.get("rope_factor", config.number("rope_scaling_factor", default=8.0)))
        positions["scaling"] = {"kind": "llama3", "factor": factor, "original_length": 8192}
        context = 131_072
    return {
        "vocab_size": _vocabulary(given, width, ranks),
        "width": width,
        "layers": config.integer("n_layers"),
        "context": context,
        "norm": {"kind": "rmsnorm", "eps": float(config.number("norm_eps", default=1e-5)), "cast": "before_weight"},
        "placement": "pre",
        "positions": positions,
        "attention": {
            "heads": heads,
            "kv_heads": None if kv == heads else kv,
            "head_width": None if head * heads == width else head,
            "window": config.integer("sliding_window", default=None),
        },
        "feedforward": {"width": inner[0] * ranks if inner else _rule(given, width)},
        "head": {"tied": "output.weight" not in given.shapes() and bool(given.shapes())},
        "init": {"kind": "normal", "std": 0.02},
    }


def _ranks(given: Given, queries: int) -> int:
    """Number of ranks, from what a piece of wq has of all query rows."""
    piece = given.shape("layers.0.attention.wq.weight")
    return queries // piece[0] if piece else 1


def _vocabulary(given: Given, width: int, ranks: int) -> int:
    said: int = given.config.integer("vocab_size", default=-1)
    if said > 0:
        return said
    piece = given.shape("tok_embeddings.weight")
    if piece is None:
        raise given.config.fail("vocab_size", "the size stands in the weights, which are not here.", "Write 32000.")
    return piece[0] * (ranks if piece[1] == width else 1)


def _rule(given: Given, width: int) -> int:
    """Meta's feed-forward: 8/3 of the width, times a multiplier, up to a multiple."""
    said = given.config.integer("hidden_dim", default=None)
    if said is not None:
        return int(said)
    inner = int(2 * 4 * width / 3)
    factor = given.config.number("ffn_dim_multiplier", default=1.0)
    if not 0 < factor <= 1000:
        raise given.config.fail("ffn_dim_multiplier", "a number above 0, and near 1, belongs here.")
    inner = int(factor * inner)
    multiple: int = given.config.size("multiple_of", default=256)
    return multiple * -(-inner // multiple)


FAMILIES = (
    Family(
        name="LLaMA in Meta's form",
        to_spec=to_spec,
        table=table,
        files=("params.json",),
        file_alone=True,
        extras=(r"rope\.freqs",),
        joins=joins,
        hints=("rope_factor",),
        transformers=False,
    ),
)
