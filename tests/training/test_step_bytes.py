"""The memory of a training step as the description predicts it, against the bytes that live while it runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.nn.common import small

from assay.nn import build
from assay.nn.loss import cross_entropy_sum
from assay.spec.activations import activation_bytes
from assay.spec.masks import Bidirectional, Causal, Mask
from assay.spec.memory import step_bytes
from assay.spec.model import ModelSpec
from assay.training.memory import peak_bytes

BATCH, LENGTH = 4, 48
KINDS: dict[str, dict[str, Any]] = {
    "pre": {},
    "deepnet": {"placement": "deepnet", "norm": "layernorm", "feedforward": {"gated": False, "activation": "gelu"}},
    "glm130b": {"placement": "glm130b", "norm": "layernorm"},
    "sandwich": {"placement": "sandwich"},
    "reordered": {"placement": "reordered", "attention": {"qk_norm": "full"}},
    "subln": {"placement": "subln"},
    "residual": {"placement": "residual"},
    "relu": {"feedforward": {"gated": False, "activation": "relu"}, "positions": "learned"},
    "parallel": {"parallel": "two_norms"},
    "encoder_decoder": {"family": "encoder_decoder"},
}


def spec_of(kind: str) -> ModelSpec:
    return small(**{"layers": 12, "vocab_size": 37, **KINDS[kind]})


def measured(spec: ModelSpec, checkpointing: bool, *, backward: bool = True) -> int:
    """Peak bytes over the weights, of the whole step or of its forward pass alone."""
    torch.manual_seed(0)
    model = build(spec).train()
    for stack in (model.encoder, model.decoder):
        if stack is not None:
            stack.checkpointing = checkpointing
    ids = torch.randint(0, 37, (BATCH, LENGTH))

    def work() -> None:
        more: dict[str, Any] = {}
        if model.encoder is not None:
            more = {"memory": model.encode(ids, Mask(Bidirectional())).hidden, "memory_mask": Mask(Bidirectional())}
        hidden = model.decode(ids, Mask(Causal()), **more).hidden
        del more
        matrix = model.head.matrix(model.embedding.weight)
        loss = cross_entropy_sum(hidden.flatten(0, 1), matrix, ids.flatten(), torch.ones(ids.numel()))
        if backward:
            loss.backward()
        model.zero_grad()

    work()  # what is made once
    found = peak_bytes(work, held=0)
    if found is None:
        pytest.skip("this torch cannot report allocations")
    return found


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_prediction_is_within_a_tenth(kind: str, checkpointing: bool) -> None:
    found = measured(spec_of(kind), checkpointing)
    predicted = step_bytes(spec_of(kind), BATCH, LENGTH, checkpointing=checkpointing).peak
    assert abs(predicted / found - 1) < 0.1, (found, predicted, predicted / found)


@pytest.mark.parametrize("kind", KINDS)
def test_what_cost_says_of_activations_is_within_a_tenth(kind: str) -> None:
    """At the end of the forward pass, where all of them live; the head's gradient, made there too, is a weight's."""
    spec = spec_of(kind)
    found = measured(spec, False, backward=False) - 4 * spec.vocab_size * spec.width
    said = activation_bytes(spec, LENGTH, BATCH, "float32")
    assert abs(said / found - 1) < 0.1, (found, said, said / found)


def test_recomputation_keeps_less() -> None:
    """With layers' inputs alone, the end of the forward pass is far under the peak that is said for one layer more."""
    spec = spec_of("deepnet")
    found = measured(spec, True, backward=False) - 4 * spec.vocab_size * spec.width
    said, whole = (activation_bytes(spec, LENGTH, BATCH, "float32", checkpointing=on) for on in (True, False))
    assert found < said < whole / 3


def test_checkpointing_saves_what_it_should() -> None:
    spec = small(layers=100, placement="deepnet")
    plain, spare = (step_bytes(spec, 64, 64, checkpointing=on) for on in (False, True))
    assert spare.saved < plain.saved / 10 and spare.layer == plain.layer
