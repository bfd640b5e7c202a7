"""U-PaLM as a recipe: a causal decoder, trained as a language model, goes on with the mixture of denoisers."""

from __future__ import annotations

import numpy as np
import torch

from assay.data.loader import Loader
from assay.data.shards import TokenDocuments
from assay.data.specials import vocabulary
from assay.nn import Transformer, build
from assay.nn.batch import to_tensors
from assay.nn.loss import loss_sum
from assay.objectives import make
from assay.spec.model import ModelSpec
from assay.spec.objective import ObjectiveSpec

VOCABULARY = vocabulary(64, 20)
SHAPE = {
    "vocab_size": 64, "width": 32, "layers": 2, "context": 64, "attention": {"heads": 4}, "feedforward": {"width": 64},
}  # fmt: skip


def loader(kind: str, **settings: str) -> Loader:
    """Texts that count on by one from anywhere, so that a gap can be filled."""
    generator = np.random.default_rng(0)
    documents = [(generator.integers(0, 30) + np.arange(n)) % 30 + 11 for n in generator.integers(24, 48, 400)]
    objective = make(ObjectiveSpec(kind=kind, **settings), "causal", VOCABULARY)
    return Loader(TokenDocuments.from_arrays(documents), objective, batch_size=8, length=64)


def loss(model: Transformer, batches: Loader, step: int) -> torch.Tensor:
    part = loss_sum(model, to_tensors(batches.batch(0, step)))
    return part.total / part.weight


def run(model: Transformer, batches: Loader, steps: int, rate: float) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    for step in range(steps):
        optimizer.zero_grad()
        loss(model, batches, step).backward()
        optimizer.step()


def test_a_causal_model_continues_with_the_mixture() -> None:
    model = build(ModelSpec.from_dict({"family": "causal", **SHAPE}))
    language, mixture = loader("causal_lm"), loader("ul2", mixture="upalm")
    run(model, language, 60, 1e-2)
    with torch.no_grad():
        learned, before = float(loss(model, language, 0)), float(loss(model, mixture, 0))
    assert learned < 1.0 < before  # denoising is new to it
    run(model, mixture, 60, 3e-3)
    with torch.no_grad():
        after, kept = float(loss(model, mixture, 0)), float(loss(model, language, 0))
    assert after < 0.7 * before
    assert kept < 3.0  # and it still is a language model: guessing costs log 30 = 3.4
    shown = mixture.batch(0, 0)
    modes = {VOCABULARY.named[name] for name in ("[NLU]", "[NLG]", "[S2S]")}
    assert modes <= set(shown.input_ids[shown.document_ids > 0].tolist()) and shown.mask.facts.prefix is None
