"""Every objective in every family: a packed batch has the loss and gradients of its documents one by one."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from tests.nn.common import close, made, small
from torch import Tensor

from assay.data.batch import assemble, lay
from assay.data.specials import vocabulary
from assay.generation.visibility import prompt_context
from assay.nn import Transformer
from assay.nn.batch import TensorBatch, to_tensors
from assay.nn.loss import loss_sum
from assay.objectives import REGISTRY, Lengths, Texts, families, make
from assay.spec.objective import ObjectiveSpec

VOCABULARY = vocabulary(60, 16)
LENGTHS = np.array([9, 14, 5, 11])
PAIRS = [(kind.value, family) for kind in REGISTRY for family in families(kind)]


def texts(seed: int = 0) -> Texts:
    generator = np.random.default_rng(seed)
    total = int(LENGTHS.sum())
    ids, marks = generator.integers(11, 44, total), generator.random((2, total)) < 0.4
    return Texts(ids, LENGTHS, np.arange(4), np.ones(4, bool), seed, words=marks[0], sentences=marks[1])


def measured(model: Transformer, batches: list[TensorBatch]) -> tuple[float, int, dict[str, Tensor]]:
    model.zero_grad()
    total, count = 0.0, 0
    for batch in batches:
        part = loss_sum(model, batch)
        part.total.backward()
        total, count = total + part.total.item(), count + part.count
    return total, count, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("positions", ["rope", "learned", "relative"])
@pytest.mark.parametrize(("kind", "family"), PAIRS)
def test_a_packed_batch_is_its_documents_one_by_one(kind: str, family: str, positions: str, axes: int) -> None:
    if axes == 2 and (kind not in ("glm", "causal_lm") or positions == "relative"):
        return
    if positions == "learned" and kind in ("span_corruption", "mlm"):
        return
    shape: dict[str, Any] = {"vocab_size": 60, "family": family, "positions": {"kind": positions, "axes": axes}}
    model = made(small(**shape), dtype="float64")
    objective = make(ObjectiveSpec(kind=kind), family, VOCABULARY, axes=axes)
    examples = objective.examples(texts())
    room = Lengths(64, 64 if family == "encoder_decoder" else None)
    packed = [to_tensors(lay(examples, np.array([3, 1]), room, family, VOCABULARY))]
    alone = []
    for i in range(4):
        one = examples[i]
        exact = Lengths(len(one.inputs), len(one.targets) if family == "encoder_decoder" else None)
        alone.append(to_tensors(assemble([[one]], exact, family, VOCABULARY)))
    total, count, grads = measured(model, packed)
    again, others_count, others = measured(model, alone)
    assert count == others_count == int((examples.weights > 0).sum()) and total > 1
    assert again == pytest.approx(total, rel=1e-9)
    assert grads.keys() == others.keys()
    for name in grads:
        close(grads[name], others[name], 1e-7)


@pytest.mark.parametrize(("kind", "family"), PAIRS)
def test_documents_that_see_each_other_have_another_loss(kind: str, family: str) -> None:
    """Control: the same rows, taken as one document each."""
    model = made(small(vocab_size=60, family=family), dtype="float64")
    examples = make(ObjectiveSpec(kind=kind), family, VOCABULARY, axes=1).examples(texts())
    room = Lengths(64, 64 if family == "encoder_decoder" else None)
    batch = lay(examples, np.array([3, 1]), room, family, VOCABULARY)
    one = np.minimum(batch.document_ids, 1)
    facts = dataclasses.replace(batch.mask.facts, document_ids=one)
    changed = {"mask": dataclasses.replace(batch.mask, facts=facts)}
    if family == "encoder_decoder":
        assert batch.cross_mask is not None and batch.decoder_document_ids is not None
        queries = np.minimum(batch.decoder_document_ids, 1)
        cross = dataclasses.replace(batch.cross_mask.facts, document_ids=one, query_document_ids=queries)
        changed["cross_mask"] = dataclasses.replace(batch.cross_mask, facts=cross)
    wrong = dataclasses.replace(batch, **changed)
    losses = [loss_sum(model, to_tensors(b)).total.item() for b in (batch, wrong)]
    assert abs(losses[0] - losses[1]) > 1e-4


@pytest.mark.parametrize("axes", [1, 2])
def test_glms_positions_reach_the_model(axes: int) -> None:
    """Also where each row holds one document; a batch that drops them has another loss."""
    model = made(small(vocab_size=60, family="prefix", positions={"kind": "rope", "axes": axes}), dtype="float64")
    objective = make(ObjectiveSpec(kind="glm", gmask=0), "prefix", VOCABULARY, axes=axes)
    batch = lay(objective.examples(texts()), np.ones(4, dtype=int), Lengths(40), "prefix", VOCABULARY)
    tensors = to_tensors(batch)
    assert batch.single_document and not batch.counted and tensors.position_ids is not None
    assert tensors.position_ids.shape == ((4, 40) if axes == 1 else (4, 2, 40))
    dropped = dataclasses.replace(tensors, position_ids=None)
    assert abs(loss_sum(model, tensors).total - loss_sum(model, dropped).total) > 1e-3


@pytest.mark.parametrize(("rule", "axes"), [("chatglm", 2), ("glm130b", 1)])
@pytest.mark.parametrize("gmask", [0, 1])
def test_glms_examples_stand_as_its_published_prompts_do(rule: str, axes: int, gmask: int) -> None:
    """Positions and prefix of training are those that the published modeling code derives from the tokens."""
    named = VOCABULARY.named
    prompt = {"rule": rule, "sop": named["<sop>"], "mask": named["[MASK]"], "gmask": named["[gMASK]"]}
    spec = small(vocab_size=60, family="prefix", positions={"kind": "rope", "axes": axes}, prompt=prompt)
    objective = make(ObjectiveSpec(kind="glm", gmask=gmask, density=0.01), "prefix", VOCABULARY, axes=axes)
    seen = 0
    for seed in range(6):
        examples = objective.examples(texts(seed))
        for i in range(4):
            example = examples[i]
            if np.count_nonzero(example.inputs == named["<sop>"]) > 1:
                continue  # prompts have one blank
            found = prompt_context(spec, torch.from_numpy(example.inputs)[None])
            assert found is not None and found.position_ids is not None and found.mask.facts.prefix is not None
            assert found.position_ids[0].tolist() == example.positions.tolist()  # type: ignore[union-attr]
            assert int(found.mask.facts.prefix.sum()) == example.prefix
            seen += 1
    assert seen >= 10
