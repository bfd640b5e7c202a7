"""Tiny models of the three families that write, with a tokenizer of bytes."""

import torch

from assay.data.tokenizer import ByteTokenizer
from assay.generation.build import build
from assay.generation.model import Model
from assay.spec.model import ModelSpec

FAMILIES = ("causal", "prefix", "encoder_decoder")


def tiny(family: str = "causal", *, seed: int = 1, sharp: float = 3.0, **fields: object) -> Model:
    """A model far from uniform."""
    spec = {
        "family": family, "width": 16, "layers": 2, "attention": {"heads": 2}, "vocab_size": 299, "context": 64,
        "tokens": {"pad": 0, "bos": 2, "eos": [1], "decoder_start": 0}, **fields,
    }  # fmt: skip
    model = build(ModelSpec.from_dict(spec), seed=seed, tokenizer=ByteTokenizer())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(sharp)
    return model
