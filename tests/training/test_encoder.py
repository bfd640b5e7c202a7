"""An encoder with masked LM: trained, resumed, tuned on labels, and never compared with what continues text."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.evaluation.tasks_common import tiny as model_of

import assay
from assay.data.shards import tokenize
from assay.errors import UserError
from assay.evaluation.evaluate import evaluate_task
from assay.evaluation.harness import available, harness_model
from assay.evaluation.masked import masked, masked_batches
from assay.evaluation.pairs import Codec, score
from assay.evaluation.tasks import Item, Task
from assay.evaluation.writing import write
from assay.nn.batch import to_tensors
from assay.objectives import make
from assay.runs import RunFolder
from assay.spec.study import RunSpec, StudySpec
from assay.studies.compare import compare
from assay.training.api import Run
from assay.training.loop import train_run
from assay.training.text import load_text
from assay.training.tuning import Part, tune
from assay.training.tuning_spec import TuneSpec

Tiny = Callable[..., RunSpec]


def test_it_trains_and_goes_on_to_the_bit(tiny: Tiny, tmp_path: Path) -> None:
    run = tiny("encoder", steps=8, length=48, optimizer=1e-2, schedule="plateau")
    assert run.objective.kind == "mlm"
    whole, parts = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "parts")
    done = train_run(run, whole)
    rows = [row for row in whole.metrics() if row["kind"] == "eval"]
    assert rows[-1]["masked_nats_per_token"] < rows[0]["masked_nats_per_token"] - 0.5
    assert abs(rows[0]["masked_nats_per_token"] - math.log(299)) < 0.5, "before it learns, a guess"
    assert done["masked_nats_per_token"] == rows[-1]["masked_nats_per_token"] and done["masked_tokens"] > 100
    assert not [name for row in (*rows, done) for name in row if "bits" in name], "its measure has a name of its own"
    count = iter(range(99))
    assert train_run(run, parts, stop=lambda: next(count) == 3)["status"] == "stopped"
    assert train_run(run, parts)["masked_nats_per_token"] == done["masked_nats_per_token"]
    for (name, a), (_, b) in zip(
        Run(whole).model().named_parameters(), Run(parts).model().named_parameters(), strict=True
    ):
        assert torch.equal(a, b), name
    assert assay.load(whole.path).spec.family == "encoder"


def test_the_measure_is_the_mean_over_hidden_tokens_whatever_the_runs_batches(tiny: Tiny) -> None:
    run = tiny("encoder", length=48)
    text = load_text(run.data)
    objective = make(run.objective, "encoder", text.tokenizer.vocabulary)
    documents = tokenize(text.heldout, text.tokenizer)
    batches, again = (masked_batches(documents, objective, 48) for _ in range(2))
    assert all(np.array_equal(a.input_ids, b.input_ids) for a, b in zip(batches, again, strict=True))
    model = model_of("encoder", sharp=1.0)
    found = masked(model.transformer, batches)
    nats, hidden = [], 0
    for batch in batches:
        given = to_tensors(batch)
        with torch.no_grad():
            states = model.transformer.encode(given.input_ids, given.mask, position_ids=given.position_ids).hidden
            logits = model.transformer.logits(states).log_softmax(-1).flatten(0, 1)
        nats += (-logits[given.where, given.targets]).tolist()
        hidden += int((batch.input_ids != batch.targets)[batch.weights > 0].sum())
        assert (batch.input_ids == batch.targets)[batch.weights == 0].all(), "others are shown as they are"
    assert found.nats_per_token == pytest.approx(np.mean(nats), rel=1e-5) and len(found.nats) == len(nats)
    assert 0.75 < hidden / len(nats) < 0.97, "80% masks, 10% random, 10% shown"


def test_a_comparison_across_measures_is_refused(tiny: Tiny, source: Path, tmp_path: Path) -> None:
    study = StudySpec.from_dict(
        {
            "model": {"width": 16, "layers": 1, "attention": {"heads": 2}},
            "train": {"steps": 2, "batch_size": 2, "length": 32},
            "data": {"source": str(source), "tokenizer": "bytes", "heldout": 0.2},
            "vary": {"family": ["causal", "encoder"]},
            "seeds": 1,
        }
    )
    with pytest.raises(UserError, match=r"no continuation bits per byte.*cannot be compared.*assay train"):
        compare(study, out=tmp_path / "out", workers=1)
    assert not list((tmp_path / "out").glob("runs/*/DONE"))


def labelled(labels: tuple[str, str]) -> Task:
    """Vowels and others, whose labels may differ in length."""
    items = [Item(f"{chr(97 + i)}?", labels[chr(97 + i) in "aeiou"], labels) for i in range(26)]
    return Task("vowels", tuple(items), labels=labels)


@pytest.mark.parametrize("labels", [(" no", " yes"), (" else", " vo")])
def test_it_learns_labels_and_their_length_tells_nothing(labels: tuple[str, str]) -> None:
    model, task = model_of("encoder", sharp=1.0), labelled(labels)
    codec = Codec(model)
    spec = TuneSpec.from_dict({"steps": 250, "batch_size": 13, "length": 32, "optimizer": 1e-2, "patience": 0})
    pairs = [codec.pair("b?", label, choices=labels) for label in labels]
    shown = [codec.example(pair) for pair in pairs]
    assert np.array_equal(shown[0].inputs, shown[1].inputs), "the choices stand in the same places"
    wide = max(map(len, labels))
    assert [len(pair.answer) for pair in pairs] == [wide, wide] and pairs[0].tail.tolist() == [1]
    assert (shown[0].inputs == 3).sum() == wide and shown[0].inputs[0] == 2
    # Never-seen prompts, labels at random: what could tell them is their length alone.
    blind = Task("blind", tuple(Item(f"{i}!", labels[i % 2], labels) for i in range(60)), labels=labels)
    tune(model, [Part(task, task)], spec)
    after = evaluate_task(codec, task, end=True)
    assert after["accuracy"]["value"] == 1.0 and "exact_match" not in after
    assert abs(evaluate_task(codec, blind, end=True)["accuracy"]["value"] - 0.5) < 0.2


def test_scores_are_the_logits_at_the_masks() -> None:
    model = model_of("encoder")
    codec = Codec(model)
    pair = codec.pair("so", " x", choices=(" x", " yz"))
    ids = torch.from_numpy(codec.example(pair).inputs[None])
    with torch.no_grad():
        logits = model(ids).logits[0].log_softmax(-1)
    expected = -sum(float(logits[len(pair.prompt) + i, token]) for i, token in enumerate(pair.answer))
    assert float(score(codec, [pair]).nats[0]) == pytest.approx(expected, rel=1e-5)


def test_what_it_cannot_do_is_refused() -> None:
    codec = Codec(model_of("encoder"))
    with pytest.raises(UserError, match="writes no answers, it chooses.*no classes.*give labels"):
        codec.pair("a", "b", where="t.csv, row 1")
    with pytest.raises(UserError, match="it writes no text"):
        write(codec, [[5]], max_new_tokens=2)
    if available():
        with pytest.raises(UserError, match="it writes no text"):
            harness_model(model_of("encoder"))
    with pytest.raises(UserError, match=r"tokens.mask: the encoder's vocabulary has no mask token"):
        from types import SimpleNamespace

        plain = SimpleNamespace(encode=lambda text, add_special_tokens=True: [5])
        model = model_of("encoder")
        model.tokenizer = plain
        Codec(model)
    with pytest.raises(UserError, match="the answer has 80 tokens, and the window is 64"):
        codec.pair("a", "b" * 80, choices=("b" * 80, "c"))
