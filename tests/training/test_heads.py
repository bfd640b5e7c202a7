"""A head learns what can be learned and nothing else; padding changes nothing; what has no head is refused."""

from __future__ import annotations

import pytest
import torch

import assay
from assay.data.tokenizer import ByteTokenizer
from assay.errors import UserError
from assay.evaluation.tasks import Item, Task
from assay.training.heads import _forward, tune_head
from assay.training.tuning import Part
from assay.training.tuning_spec import TuneSpec

LABELS = (" a", " b")
SPEC = TuneSpec(steps=30, batch_size=8, length=32, evaluations=3).with_(**{"optimizer.learning_rate": 3e-3})


def _task(count: int, *, by_chance: bool = False) -> Task:
    items = []
    for i in range(count):
        letter = "xy"[i % 2]
        label = LABELS[(i // 2) % 2] if by_chance else LABELS[i % 2]
        items.append(Item(f"{'z' * (i % 5)}{letter}:", label, LABELS))
    return Task("letters", tuple(items), labels=LABELS)


def _model(family: str = "causal") -> assay.Model:
    tokenizer = ByteTokenizer()
    fields = {"family": family, "width": 32, "layers": 2, "vocab_size": tokenizer.vocabulary.size}
    if family == "encoder_decoder":
        fields["tokens"] = {"decoder_start": 1}
    return assay.build(assay.ModelSpec.from_dict(fields), seed=0, tokenizer=tokenizer)


@pytest.mark.parametrize("family", ["causal", "prefix"])
def test_a_head_learns_a_letter(family: str) -> None:
    found = tune_head(_model(family), Part(_task(40), _task(20)), SPEC)
    assert found.accuracy(_task(20)) == 1.0 and found.best_step > 0


def test_a_head_learns_nothing_of_labels_by_chance() -> None:
    found = tune_head(_model(), Part(_task(40), _task(20)), SPEC)
    assert found.accuracy(_task(40, by_chance=True)) == 0.5


def test_padding_changes_nothing() -> None:
    found = tune_head(_model("prefix"), Part(_task(8), _task(8)), SPEC.with_(steps=3))
    with torch.no_grad():
        together = _forward(found, [[5, 6, 7], [8, 9, 10, 11, 12, 13]])
        alone = _forward(found, [[5, 6, 7]])
    assert torch.allclose(together[:1], alone, atol=1e-5)


def test_refusals() -> None:
    with pytest.raises(UserError, match="a decoder"):
        tune_head(_model("encoder_decoder"), Part(_task(8), _task(8)), SPEC)
    bare = Task("bare", _task(8).items)
    with pytest.raises(UserError, match="no classes"):
        tune_head(_model(), Part(bare, bare), SPEC)
