"""Tuning: it learns, keeps the best weights, stops early, mixes at stated rates; adapters merge into the weights."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.evaluation.tasks_common import FAMILIES, tiny

from assay.errors import UserError
from assay.evaluation.evaluate import evaluate_task
from assay.evaluation.pairs import Codec, score
from assay.evaluation.tasks import Item, Task
from assay.training.lora import add_lora, merge_lora
from assay.training.tuning import Mixture, Part, tune
from assay.training.tuning_spec import TuneSpec
from assay.training.tuning_state import TuningState, tuning_key

QUICK = TuneSpec.from_dict({"steps": 40, "batch_size": 8, "length": 32, "optimizer": 1e-2, "evaluations": 4})


def small(family: str = "causal", **fields: object):
    return tiny(family, sharp=1.0, **fields)


def letters(name: str, count: int, mark: str = "?") -> Task:
    """The class of a letter: vowels and others."""
    labels = (" no", " yes")
    items = [Item(f"{chr(97 + i % 26)}{mark}", labels[chr(97 + i % 26) in "aeiou"], labels) for i in range(count)]
    return Task(name, tuple(items), labels=labels)


@pytest.mark.parametrize("family", FAMILIES)
def test_it_learns_what_it_is_shown(family: str) -> None:
    model, task = small(family), letters("vowels", 26)
    codec = Codec(model)
    before = evaluate_task(codec, task, end=True)
    tuned = tune(model, [Part(task, task)], QUICK.with_(steps=150))
    after = evaluate_task(codec, task, end=True)
    assert tuned.best_loss < 0.1 < 2 < before["nats_per_token"]["value"]
    assert after["accuracy"]["value"] >= 25 / 26 > before["accuracy"]["value"], "21 are a majority's"
    assert tuned.trained == sum(p.numel() for p in model.parameters())


def test_it_ends_with_the_best_weights_and_says_why_it_stopped() -> None:
    """The held-out answers contradict the training answers: the sooner it stops the better."""
    task = letters("vowels", 26)
    other = {" no": " yes", " yes": " no"}
    contrary = replace(task, items=tuple(replace(i, answer=other[i.answer]) for i in task.items))
    model = small()
    spec = QUICK.with_(steps=200, evaluations=40, patience=3)
    tuned = tune(model, [Part(task, contrary)], spec)
    assert tuned.stopped == "patience" and tuned.early and tuned.best_step < tuned.step < 200
    codec = Codec(model, length=32)
    found = score(codec, [codec.pair(i.prompt, i.answer, end=True) for i in contrary.items])
    assert found.nats.sum() / found.tokens.sum() == pytest.approx(tuned.best_loss, rel=1e-5)
    held = [row["loss"] for row in tuned.history if row["kind"] == "eval"]
    assert min(held) == tuned.best_loss and all(loss > min(held) for loss in held[-3:])
    assert tune(small(), [Part(task, contrary)], spec.with_(patience=0, steps=20)).stopped == "steps"


def test_equal_seeds_give_equal_weights() -> None:
    def weights(seed: int) -> torch.Tensor:
        model = small(dropout=0.1)
        tune(model, [Part(letters("a", 26), letters("a", 8))], QUICK.with_(steps=5), seed=seed)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    assert torch.equal(weights(0), weights(0)) and not torch.equal(weights(0), weights(1))


def test_examples_come_at_their_rates_each_task_in_epochs() -> None:
    model = small()
    parts = [Part(letters("a", 26, "?"), letters("a", 3), 3.0), Part(letters("b", 10, "!"), letters("b", 3), 1.0)]
    mixture = Mixture(Codec(model), parts, batch_size=20, seed=0)
    prompts = [model.tokenizer.decode(pair.prompt) for step in range(100) for pair in mixture.batch(step)]
    share = np.mean([p.endswith("?") for p in prompts])
    assert abs(share - 0.75) < 4 * np.sqrt(0.75 * 0.25 / 2000)
    first = [p for p in prompts if p.endswith("?")][:52]
    assert len(set(first[:26])) == len(set(first[26:])) == 26 and first[:26] != first[26:], "each once an epoch"


def test_bad_mixtures() -> None:
    task = letters("a", 26)
    for rate in (0.0, -1.0, float("nan")):
        with pytest.raises(UserError, match="a rate is positive"):
            tune(small(), [Part(task, task, rate)], QUICK)
    with pytest.raises(UserError, match="Give at least one"):
        tune(small(), [], QUICK)
    with pytest.raises(UserError, match="the window is 2"):
        tune(small(), [Part(task, task)], QUICK.with_(length=2))
    open_ended = Task("open", tuple(replace(item, choices=()) for item in task.items))
    with pytest.raises(UserError, match="writes no answers"):
        tune(small("encoder"), [Part(open_ended, open_ended)], QUICK)


def test_a_diverging_run_keeps_its_best_weights() -> None:
    model, task = small(), letters("a", 26)
    tuned = tune(model, [Part(task, task)], QUICK.with_(**{"optimizer.learning_rate": 1e18, "optimizer.clip": 0.0}))
    assert tuned.stopped in ("diverged", "patience") and all(torch.isfinite(p).all() for p in model.parameters())


def test_without_peft_one_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "peft", None)
    task = letters("a", 26)
    with pytest.raises(
        UserError, match=r'rank = 4: LoRA needs the peft package. Install it: pip install "assay\[peft\]"'
    ):
        tune(small(), [Part(task, task)], QUICK.with_(rank=4))


def need_peft() -> None:
    pytest.importorskip("peft", reason='peft is not installed: pip install "assay[peft]"')


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_learn_merge_and_leave_everything_else_alone(family: str) -> None:
    need_peft()
    model, task = small(family), letters("vowels", 26)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    tuned = tune(model, [Part(task, task)], QUICK.with_(rank=4))
    after = dict(model.named_parameters())
    assert list(after) == list(before), "the model is as it was made"
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(name.split(".")[-2] in ("q", "v") for name in changed)
    for name in changed:
        assert torch.linalg.matrix_rank(after[name] - before[name], rtol=1e-4) <= 4
    assert 0 < tuned.trained < sum(p.numel() for p in model.parameters()) / 4
    held = [row["loss"] for row in tuned.history if row["kind"] == "eval"]
    assert tuned.best_loss < held[0]
    codec = Codec(model, length=32)
    found = score(codec, [codec.pair(i.prompt, i.answer, end=True) for i in task.items])
    assert found.nats.sum() / found.tokens.sum() == pytest.approx(tuned.best_loss, rel=1e-4), (
        "merged: the same function"
    )


def test_adapters_begin_as_nothing_and_unknown_modules_are_refused() -> None:
    need_peft()
    model = small()
    codec = Codec(model)
    pair = [codec.pair("abc", "d")]
    before = score(codec, pair).nats[0]
    add_lora(model.transformer, 2, 16.0, ("q", "down"))
    assert score(codec, pair).nats[0] == before
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.3)
    moved = score(codec, pair).nats[0]
    assert moved != before, "adapters take part in the forward pass"
    merge_lora(model.transformer)
    assert score(codec, pair).nats[0] == pytest.approx(moved, rel=1e-5)
    with pytest.raises(UserError, match="no module is called 'query'"):
        add_lora(small().transformer, 2, 16.0, ("query",))


@pytest.mark.parametrize("rank", [0, 2])
def test_a_resumed_tuning_is_the_same_to_the_bit(rank: int, tmp_path: Path) -> None:
    if rank:
        pytest.importorskip("peft")
    parts = [Part(letters("vowels", 26), letters("vowels", 26), 2.0), Part(letters("more", 26, "!"), letters("m", 9))]
    spec = QUICK.with_(steps=12, evaluations=4, patience=0, rank=rank)
    whole, broken = small(dropout=0.1), small(dropout=0.1)
    straight = tune(whole, parts, spec, seed=3)
    count = iter(range(99))
    state = TuningState(tmp_path / "state", "this one")
    first = tune(broken, parts, spec, seed=3, stop=lambda: next(count) == 4, state=state)
    assert first.stopped == "asked" and first.step == 5 and state.there
    again = small(dropout=0.1)  # another process: the weights come from the start and the state alone
    rest = tune(again, parts, spec, seed=3, state=TuningState(tmp_path / "state", "this one"))
    assert rest.step == 12 and (rest.best_step, rest.best_loss) == (straight.best_step, straight.best_loss)
    assert [r["loss"] for r in rest.history] == [r["loss"] for r in straight.history]
    for (name, a), (_, b) in zip(whole.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(a, b), name
    with pytest.raises(UserError, match="another tuning"):
        tune(small(), parts, spec, state=TuningState(tmp_path / "state", "that one"))
    state.remove()
    assert not state.there


def test_patience_counts_across_a_break(tmp_path: Path) -> None:
    task = letters("vowels", 26)
    contrary = replace(task, items=tuple(replace(i, answer=task.labels[i.answer == " no"]) for i in task.items))
    spec, count = QUICK.with_(steps=100, evaluations=20, patience=3), iter(range(999))
    whole = tune(small(), [Part(task, contrary)], spec)
    tune(small(), [Part(task, contrary)], spec, state=TuningState(tmp_path, "k"),
         stop=lambda: next(count) == whole.step - 3)  # fmt: skip
    rest = tune(small(), [Part(task, contrary)], spec, state=TuningState(tmp_path, "k"))
    assert (rest.stopped, rest.step, rest.best_step) == (whole.stopped, whole.step, whole.best_step)
    assert rest.stopped == "patience"


def test_a_tunings_key_says_what_decides_it() -> None:
    task = letters("vowels", 26)
    base = tuning_key(QUICK, [(task, 1.0)], 0, "w")
    others = [
        tuning_key(QUICK.with_(steps=41), [(task, 1.0)], 0, "w"),
        tuning_key(QUICK, [(task, 0.5)], 0, "w"),
        tuning_key(QUICK, [(letters("vowels", 25), 1.0)], 0, "w"),
        tuning_key(QUICK, [(task, 1.0)], 1, "w"),
        tuning_key(QUICK, [(task, 1.0)], 0, "v"),
    ]
    assert len({base, *others}) == 6 and base == tuning_key(QUICK, [(letters("vowels", 26), 1.0)], 0, "w")
