"""BERT (Devlin et al. 2019) with either, both or none of its heads, and sentence encoders of its kind (MiniLM).

Early files call a norm's parameters gamma and beta, and bare encoders leave out `bert.`. A pooler without the
next-sentence output computes nothing that is asked for here and is passed over.
"""

from __future__ import annotations

from collections.abc import Iterable

from assay.published import hf
from assay.published.base import Family, Fields, Given, Row
from assay.spec.axes import HeadKind
from assay.spec.model import ModelSpec

BLOCK, LAYER = "encoder.blocks.{i}.", "bert.encoder.layer.{i}."
LM, PAIR, BOTH = "BertForMaskedLM", "BertForNextSentencePrediction", "BertForPreTraining"


def table(spec: ModelSpec) -> Iterable[Row]:
    """Names."""
    return (
        Row("embedding", "bert.embeddings.word_embeddings"),
        Row("encoder.positions", "bert.embeddings.position_embeddings"),
        Row("encoder.token_types", "bert.embeddings.token_type_embeddings"),
        Row("encoder.embedding_norm", "bert.embeddings.LayerNorm"),
        Row(f"{BLOCK}attention.q", f"{LAYER}attention.self.query"),
        Row(f"{BLOCK}attention.k", f"{LAYER}attention.self.key"),
        Row(f"{BLOCK}attention.v", f"{LAYER}attention.self.value"),
        Row(f"{BLOCK}attention.o", f"{LAYER}attention.output.dense"),
        Row(f"{BLOCK}attention_after", f"{LAYER}attention.output.LayerNorm"),
        Row(f"{BLOCK}feedforward.up", f"{LAYER}intermediate.dense"),
        Row(f"{BLOCK}feedforward.down", f"{LAYER}output.dense"),
        Row(f"{BLOCK}feedforward_after", f"{LAYER}output.LayerNorm"),
        Row("head.dense", "cls.predictions.transform.dense"),
        Row("head.norm", "cls.predictions.transform.LayerNorm"),
        Row("head.weight", "cls.predictions.decoder.weight"),
        Row("head.bias", "cls.predictions.bias"),
        Row("head.pooler", "bert.pooler.dense"),
        Row("head.sentence", "cls.seq_relationship"),
    )


def to_spec(given: Given) -> Fields:
    """From config.json; which heads there are, the weights say (without weights, the class).

    Raises:
        UserError: a decoder, or positions of another kind.
    """
    config = given.config
    if config.raw("position_embedding_type") not in (None, "absolute"):
        raise config.fail("position_embedding_type", "only absolute positions are supported.")
    if config.raw("is_decoder"):
        raise config.fail("is_decoder", "BERT as a decoder is not supported.")
    dropout = float(config.number("hidden_dropout_prob", default=0.1))
    activation = hf.activation(config, "hidden_act", default="gelu")
    return {
        "family": "encoder",
        "vocab_size": config.integer("vocab_size"),
        "width": config.size("hidden_size"),
        "layers": config.integer("num_hidden_layers"),
        "context": config.integer("max_position_embeddings", default=512),
        "norm": {"kind": "layernorm", "eps": float(config.number("layer_norm_eps", default=1e-12))},
        "placement": {"kind": "post", "embedding_norm": True},
        "positions": "learned",
        "attention": {
            "heads": config.size("num_attention_heads"),
            "qkv_bias": True,
            "out_bias": True,
            "dropout": float(config.number("attention_probs_dropout_prob", default=0.1)),
        },
        "feedforward": {
            "width": config.integer("intermediate_size"),
            "activation": activation,
            "gated": False,
            "bias": True,
        },
        "embedding": {"token_types": config.integer("type_vocab_size", default=2), "dropout": dropout},
        "head": _head(given, activation),
        "dropout": dropout,
        "init": {"kind": "normal", "std": float(config.number("initializer_range", default=0.02))},
        "tokens": hf.tokens(config, pad=0),
    }


def _head(given: Given, activation: str) -> Fields:
    shapes, classes = given.shapes(), given.config.classes()
    if shapes:
        words = "cls.predictions.bias" in shapes
        pair = "cls.seq_relationship.weight" in shapes
    else:
        words = bool({LM, BOTH} & set(classes))
        pair = bool({PAIR, BOTH} & set(classes))
    if not words:
        return {"kind": "none", "sentence_pair": pair}
    tied = given.config.flag("tie_word_embeddings", default=True)
    return {"kind": "mlm", "tied": tied, "bias": True, "activation": activation, "sentence_pair": pair}


def from_spec(spec: ModelSpec) -> Fields:
    """To config.json, its class included: that tells the heads."""
    words, pair = spec.head.kind is HeadKind.mlm, spec.head.sentence_pair
    name = (BOTH if words else PAIR) if pair else LM if words else "BertModel"
    tokens = hf.tokens_of(spec)
    return {
        "architectures": [name],
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.width,
        "num_hidden_layers": spec.layers,
        "num_attention_heads": spec.heads("encoder"),
        "intermediate_size": spec.feedforward_width("encoder"),
        "hidden_act": hf.SPELLED[spec.feedforward.activation],
        "hidden_dropout_prob": spec.dropout,
        "attention_probs_dropout_prob": spec.attention.dropout,
        "max_position_embeddings": spec.context,
        "type_vocab_size": spec.embedding.token_types,
        "initializer_range": spec.init_std,
        "layer_norm_eps": spec.norm.eps,
        "position_embedding_type": "absolute",
        "tie_word_embeddings": spec.head.tied,
        **tokens,
    }


FAMILIES = (
    Family(
        name="BERT",
        model_types=("bert",),
        architectures=(LM, BOTH, PAIR, "BertModel"),
        to_spec=to_spec,
        from_spec=from_spec,
        table=table,
        prefix="bert.",
        renames=((r"LayerNorm\.gamma$", "LayerNorm.weight"), (r"LayerNorm\.beta$", "LayerNorm.bias")),
        extras=(r"(bert\.)?embeddings\.(position_ids|token_type_ids)", r"(bert\.)?pooler\.dense\.(weight|bias)"),
        tied=("cls.predictions.decoder.weight", "cls.predictions.decoder.bias"),
    ),
)
