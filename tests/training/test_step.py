"""A step in parts is the step in one; what a batch costs is what its documents cost."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch

from assay.nn import build
from assay.spec.study import RunSpec
from assay.training.accounting import FlopMeter, documents_of
from assay.training.setup import make_loader
from assay.training.step import gradients, micro_batches, seed_dropout
from assay.training.text import Text, load_text, resolve

Tiny = Callable[..., RunSpec]
FAMILIES = [("causal", None), ("prefix", None), ("encoder_decoder", None), ("encoder_decoder", "span_corruption")]


@pytest.fixture
def text(tiny: Tiny) -> Text:
    return load_text(tiny().data)


@pytest.mark.parametrize(("family", "objective"), FAMILIES)
def test_parts_of_unequal_weight_add_up_to_the_whole_batch(
    tiny: Tiny, text: Text, family: str, objective: str | None
) -> None:
    run = resolve(tiny(family, objective, batch_size=4, model={"dropout": 0.0}))
    batch = make_loader(run, text).batch(0, 0)
    weights = batch.weights.copy()
    weights[0, : weights.shape[1] // 2] = 0  # or plain averaging over parts could pass
    weights[3] *= 0.5
    batch = dataclasses.replace(batch, weights=weights)
    assert len({float(part.weights.sum()) for part in micro_batches(batch, 4)}) > 1
    found = []
    for parts in (1, 2, 4):
        model = build(run.model, seed=0, dtype="float64")
        loss = gradients(model, batch, weight=float(batch.weights.sum()), parts=parts, z_loss=1e-3, dtype="float32")
        found.append((loss, [p.grad for p in model.parameters()]))
    for loss, grads in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-6)
        for mine, whole in zip(grads, found[0][1], strict=True):
            torch.testing.assert_close(mine, whole, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("family", "objective"), FAMILIES)
def test_flops_are_those_of_the_documents(tiny: Tiny, text: Text, family: str, objective: str | None) -> None:
    run = resolve(tiny(family, objective, batch_size=8, length=48))
    loader = make_loader(run, text)
    meter = FlopMeter(run.model)
    for step in range(3):
        batch = loader.batch(0, step)
        wanted = 0.0
        for row in range(8):
            own, other = batch.document_ids[row], batch.decoder_document_ids
            for document in range(1, int(own.max()) + 1):
                mine = own == document
                predicting = mine if other is None else other[row] == document
                prefix = batch.mask.facts.prefix
                wanted += run.model.flops(
                    int(mine.sum()),
                    decoder_length=None if other is None else int(predicting.sum()),
                    targets=int((batch.weights[row] > 0)[predicting].sum()),
                    prefix=0 if prefix is None else int(prefix[row][mine].sum()),
                    training=True,
                )
        count = meter.count(batch)
        assert count.flops == pytest.approx(wanted, rel=1e-12)
        assert count.targets == batch.target_count and count.inputs == batch.token_count
        assert count.inputs / count.slots == pytest.approx(1 - batch.padding)


def test_documents_of_a_packed_batch_are_told_apart(tiny: Tiny, text: Text) -> None:
    run = resolve(tiny("encoder_decoder", batch_size=8, length=64))
    batch = make_loader(run, text).batch(0, 0)
    found = documents_of(batch)
    assert len(found) == batch.document_ids.max(axis=1).sum() > 8
    assert found[:, 0].sum() == (batch.document_ids > 0).sum()
    assert found[:, 1].sum() == (batch.decoder_document_ids > 0).sum()
    assert not found[:, 2].any()


def test_counting_takes_no_time_to_speak_of(tiny: Tiny, text: Text) -> None:
    """A table look-up after the first batch: no call of `spec.flops`."""
    run = resolve(tiny("prefix", batch_size=8, length=48))
    meter, loader = FlopMeter(run.model), make_loader(run, text)
    first = meter.count(loader.batch(0, 0)).flops
    meter.spec = None  # type: ignore[assignment]
    assert meter.count(loader.batch(0, 0)).flops == first


def test_dropout_depends_on_seed_and_step_alone() -> None:
    drawn = []
    for seed, step in ((0, 1), (0, 2), (1, 1), (0, 1)):
        torch.rand(7)
        seed_dropout(seed, step)
        drawn.append(torch.rand(4).numpy())
    assert np.array_equal(drawn[0], drawn[3])
    assert not np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2])
