"""Small batches of random tokens, some of their rows padded, for any family."""

from typing import Any

import numpy as np
import torch
from tests.nn.common import scramble

from assay.data.batch import Batch, assemble
from assay.nn import Transformer, build
from assay.objectives.base import Example, Lengths, Vocabulary
from assay.spec.model import ModelSpec

VOCAB = 11


def spec_of(**fields: Any) -> ModelSpec:
    """A very small model."""
    small = {"vocab_size": VOCAB, "width": 8, "layers": 2, "context": 16, "attention": {"heads": 2}}
    return ModelSpec.from_dict({**small, "feedforward": {"width": 12}, **fields})


def made(spec: ModelSpec, seed: int = 0, dtype: str = "float64") -> Transformer:
    """Built, every parameter random."""
    model = build(spec, dtype=dtype)
    scramble(model, seed)
    return model


def batch_of(family: str = "causal", rows: int = 3, length: int = 6, seed: int = 0, room: int | None = None) -> Batch:
    """Random tokens with random targets, one example a row; `room` beyond the length is padding."""
    draw = np.random.default_rng(seed)
    examples = []
    for _ in range(rows):
        ids, targets, decoder = (draw.integers(1, VOCAB, length) for _ in range(3))
        weights = np.ones(length, dtype=np.float32)
        two = family == "encoder_decoder"
        examples.append(
            [Example(ids, targets, weights, decoder if two else None, prefix=2 if family == "prefix" else 0)]
        )
    room = room or length
    lengths = Lengths(room, room if family == "encoder_decoder" else None)
    return assemble(examples, lengths, family, Vocabulary(size=VOCAB, pad=0))


def state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Copies of everything a probe must leave alone."""
    kept = {name: p.detach().clone() for name, p in model.named_parameters()}
    return kept | {f"{name}.grad": p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_untouched(model: torch.nn.Module, before: dict[str, torch.Tensor]) -> None:
    after = state(model)
    assert after.keys() == before.keys()
    for name, value in before.items():
        assert torch.equal(after[name], value), name
