"""Small models of many kinds, and a slow reference that generates by calling the model on the whole text."""

from __future__ import annotations

from typing import Any

import torch
from tests.nn.common import made, small
from torch import Tensor

from assay.generation.model import Model

LAYERED: dict[str, Any] = {"norm": "layernorm", "feedforward": {"gated": False, "activation": "gelu", "bias": True}}

KINDS: dict[str, dict[str, Any]] = {
    "rope": {},
    "rope, interleaved half": {"positions": {"kind": "rope", "pairing": "interleaved", "fraction": 0.5}},
    "xpos": {"positions": {"kind": "rope", "xpos": True}},
    "llama3 scaling": {
        "positions": {"kind": "rope", "scaling": {"kind": "llama3", "factor": 8.0, "original_length": 16}}
    },
    "yarn": {"positions": {"kind": "rope", "scaling": {"kind": "yarn", "factor": 4.0, "original_length": 16}}},
    "dynamic scaling": {
        "positions": {"kind": "rope", "scaling": {"kind": "dynamic", "factor": 4.0, "original_length": 10}}
    },
    "learned": {"positions": "learned", **LAYERED},
    "learned, offset": {"positions": {"kind": "learned", "offset": 2}},
    "sinusoidal": {"positions": "sinusoidal"},
    "alibi": {"positions": "alibi", **LAYERED},
    "relative": {"positions": {"kind": "relative", "buckets": 8, "max_distance": 12}},
    "relative per layer": {"positions": {"kind": "relative", "buckets": 8, "per_layer": True}},
    "no positions": {"positions": "none"},
    "grouped": {"attention": {"heads": 4, "kv_heads": 2}},
    "multi-query, softcap": {"attention": {"heads": 4, "kv_heads": 1, "softcap": 2.0}, "head": {"softcap": 3.0}},
    "window": {"attention": {"window": 4}},
    "window in one layer, alibi": {"attention": {"window": 4, "window_layers": [1]}, "positions": "alibi"},
    "window, grouped, softcap": {"attention": {"heads": 4, "kv_heads": 2, "window": 3, "softcap": 2.0}},
    "relax": {"attention": {"relax": 8.0}, "placement": "sandwich", "norm": "layernorm"},
    "q/k norm, biases": {"attention": {"qk_norm": "head", "qkv_bias": True, "out_bias": True}, "head": {"bias": True}},
    "parallel, normed skip": {"parallel": "one_norm", "placement": {"kind": "pre", "skip": "normed"}},
    "deepnet": {"placement": "deepnet", "norm": "layernorm"},
    "residual": {"placement": "residual"},
    "scale by layer, subln": {"attention": {"scale_by_layer": True}, "placement": "subln"},
    "experts": {"feedforward": {"width": 24, "experts": {"count": 4, "active": 2}}},
}

FAMILIES = ("causal", "prefix", "encoder_decoder")


def model(seed: int = 0, dtype: str = "float32", **fields: Any) -> Model:
    """A small model with random weights everywhere."""
    # A head of its own: random tied models repeat their last token, whatever the prompt.
    fields["head"] = {"tied": False, **fields.get("head", {})}
    return Model(made(small(**fields), seed=seed, dtype=dtype)).eval()


def greedy(model: Model, prompt: Tensor, new: int, prefix: int | None = None) -> Tensor:
    """New tokens of one prompt without padding, [new], the whole text computed for each."""
    made: list[int] = []
    for _ in range(new):
        more = torch.tensor([made], dtype=torch.long)
        with torch.no_grad():
            if model.spec.family == "encoder_decoder":
                start = torch.tensor([[model.spec.tokens.decoder_start]])
                logits = model(prompt, decoder_input_ids=torch.cat((start, more), 1)).logits
            else:
                given = {"prefix_length": prompt.shape[1] if prefix is None else prefix}
                ids = torch.cat((prompt, more), 1)
                logits = model(ids, **(given if model.spec.family == "prefix" else {})).logits
        made.append(int(logits[0, -1].argmax()))
    return torch.tensor(made)


def described(family: str, kind: str) -> dict[str, Any]:
    """Fields of a small model of a family and a kind."""
    fields: dict[str, Any] = {"family": family, **KINDS[kind]}
    if family == "encoder_decoder":
        fields["tokens"] = {"decoder_start": 1}
    return fields


__all__ = ["FAMILIES", "KINDS", "described", "greedy", "model"]
