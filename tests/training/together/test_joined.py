"""Batches joined: who sees whom is what each said, and what was not there teaches nothing."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch

from assay.data.batch import Batch
from assay.nn.masks import dense, to_device
from assay.spec.masks import Causal, Mask, SameDocument
from assay.spec.study import RunSpec
from assay.training.setup import make_loader
from assay.training.text import load_text, resolve
from assay.training.together.joined import joined

Shared = Callable[..., RunSpec]


def some(run: RunSpec, places: list[tuple[int, int]]) -> list[Batch]:
    text, run = load_text(run.data), resolve(run)
    return [make_loader(run.model_copy(update={"seed": seed}), text).batch(0, step) for seed, step in places]


def seen(mask: Mask, queries: int, keys: int, cross: bool) -> torch.Tensor:
    table = dense(to_device(mask, "cpu"), queries, keys, cross=cross)
    return table


@pytest.mark.parametrize("family", ["causal", "prefix", "encoder", "encoder_decoder"])
def test_every_row_sees_what_it_saw(shared: Shared, family: str) -> None:
    batches = some(shared(family=family), [(seed, step) for seed in range(2) for step in range(8)])
    if family in ("causal", "prefix"):  # some with a document a row, others with several
        assert {batch.single_document for batch in batches} == {True, False}
    whole, rows = joined(batches), len(batches[0].input_ids)
    sides = [("mask", "input_ids", "input_ids", False)]
    if family == "encoder_decoder":
        sides += [("decoder_mask", "decoder_input_ids", "decoder_input_ids", False),
                  ("cross_mask", "decoder_input_ids", "input_ids", True)]  # fmt: skip
    for name, asking, asked, cross in sides:
        q, k = getattr(whole, asking).shape[1], getattr(whole, asked).shape[1]
        table = seen(getattr(whole, name), q, k, cross).expand(len(batches) * rows, q, k)
        for number, batch in enumerate(batches):
            own_q, own_k = getattr(batch, asking).shape[1], getattr(batch, asked).shape[1]
            own = seen(getattr(batch, name), own_q, own_k, cross).expand(rows, own_q, own_k)
            mine = table[number * rows : (number + 1) * rows]
            real = torch.from_numpy(batch.decoder_document_ids if "decoder" in asking else batch.document_ids) > 0
            assert torch.equal(mine[:, :own_q, :own_k][real], own[real])
            assert not mine[:, :own_q, own_k:][real].any(), "padding that joining brought is seen by nobody"


def test_rules_that_differ_become_one_and_equal_ones_stay(shared: Shared) -> None:
    batches = some(shared(), [(seed, step) for seed in range(3) for step in range(12)])
    by_rule = {str(batch.mask.rule): batch for batch in batches}
    assert len(by_rule) == 2, "some rows hold one document, some several"
    one, other = by_rule.values()
    assert joined([one, other]).mask.rule == SameDocument() & Causal()
    assert joined([one, one]).mask.rule == one.mask.rule
    assert not joined([one, other]).single_document


def test_shorter_decoder_rows_are_padded_with_nothing_to_learn(shared: Shared) -> None:
    long, short = some(shared(family="encoder_decoder"), [(0, 0), (1, 0)])
    assert long.decoder_input_ids is not None and short.decoder_input_ids is not None
    keep = short.decoder_input_ids.shape[1] - 5
    facts = {
        "decoder_mask": ("prefix", "document_ids"), "cross_mask": ("query_document_ids",),
    }  # fmt: skip
    cut = {name: getattr(short, name)[..., :keep] for name in
           ("decoder_input_ids", "decoder_position_ids", "decoder_document_ids", "targets", "weights")}  # fmt: skip
    for name, which in facts.items():
        mask = getattr(short, name)
        new = {f: getattr(mask.facts, f)[:, :keep] for f in which if getattr(mask.facts, f) is not None}
        cut[name] = Mask(mask.rule, dataclasses.replace(mask.facts, **new))
    whole = joined([long, dataclasses.replace(short, **cut)])
    rows = len(long.input_ids)
    assert whole.weights.shape == (2 * rows, keep + 5)
    assert not whole.weights[rows:, keep:].any() and not whole.decoder_document_ids[rows:, keep:].any()  # type: ignore[index]
    assert np.array_equal(whole.targets[rows:, :keep], short.targets[:, :keep])
