"""Bad losses: what counts as a spike, that a skipped batch leaves no trace but its record, and exact resume."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from assay.data.bad_batches import read_bad_batch
from assay.data.batch import Batch
from assay.errors import UserError
from assay.runs import RunFolder
from assay.spec.study import RunSpec
from assay.spec.training import BadLossSpec, TrainSpec
from assay.training import step
from assay.training.loop import Training, train_run
from assay.training.policy import FLOOR, Policy, robust_deviations
from assay.training.row_losses import row_losses
from assay.training.text import load_text

Tiny = Callable[..., RunSpec]
numbers = st.floats(0.01, 100, allow_nan=False)


def policy(recent: list[float] | None = None, **fields: Any) -> Policy:
    return Policy(BadLossSpec(**fields), [[value, value] for value in recent or []])


def weights(folder: RunFolder) -> dict[str, torch.Tensor]:
    return load_file(folder.checkpoint(folder.checkpoint_steps()[-1]) / "model.safetensors")


def same(a: RunFolder, b: RunFolder) -> bool:
    one, two = weights(a), weights(b)
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def told(folder: RunFolder) -> list[tuple[Any, ...]]:
    """What metrics say, but for times and stops."""
    fields = ("kind", "event", "step", "loss", "grad_norm", "lr", "tokens", "bits_per_byte", "reason", "skipped")
    rows = (row for row in folder.metrics() if row.get("event") != "stopped")
    return [tuple(str(row.get(f)) for f in fields) for row in rows]


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make the loss of the batches at some places of the first epoch NaN, or times a factor."""
    real = step.gradients

    def at(*places: int, factor: float = math.nan) -> None:
        def gradients(model: Any, batch: Batch, **fields: Any) -> float:
            found = real(model, batch, **fields)
            if batch.step in places:
                for parameter in model.parameters():
                    parameter.grad *= factor
                return found * factor
            return found

        monkeypatch.setattr(step, "gradients", gradients)

    return at


@given(st.lists(numbers, min_size=8, max_size=80), numbers)
def test_deviations_are_those_of_numpy_in_double_precision(before: list[float], value: float) -> None:
    values = np.array(before, dtype=np.float64)
    middle = np.median(values)
    unit = max(1.4826 * np.median(np.abs(values - middle)), FLOOR * abs(middle))
    assert robust_deviations(value, before) == pytest.approx((value - middle) / unit, rel=1e-9, abs=1e-9)


def test_spikes_among_the_steps_before_do_not_hide_the_next() -> None:
    before = [3.0 + 0.1 * math.sin(i) for i in range(61)] + [40.0, 55.0, 70.0]
    assert policy(before, spike=8).reason(9.0, 1.0).startswith("the loss is 9, ")
    # The control: mean and standard deviation, which earlier spikes widen, see nothing.
    assert (9.0 - np.mean(before)) / np.std(before) < 1


def test_only_what_lies_above_is_a_spike_and_a_flat_curve_needs_more_than_nothing() -> None:
    flat = policy([2.0] * 64, spike=8, norm_spike=8)
    assert not flat.reason(0.1, 0.1), "a fall is none"
    assert not flat.reason(2.0 * (1 + 7.9 * FLOOR), 2.0)
    assert "the loss is" in flat.reason(2.0 * (1 + 8.1 * FLOOR), 2.0)
    assert "the gradient norm is" in flat.reason(2.0, 2.2)
    assert not policy([0.0] * 64, spike=8).reason(0.0, 0.0)
    assert "robust deviations" in policy([0.0] * 64, spike=8).reason(1e-9, 0.0)


def test_without_enough_steps_or_without_the_rule_only_what_is_not_finite_is_bad() -> None:
    assert not policy([1.0] * 63, spike=4).reason(1e9, 1.0)
    assert not policy([1.0] * 64).reason(1e9, 1e9)
    assert policy().reason(math.nan, math.nan) == "the loss is nan"
    assert policy().reason(math.inf, 1.0) == "the loss is inf"
    assert policy().reason(1.0, math.inf) == "the gradient norm is inf"
    without, one = policy(), policy(spike=4, window=8)
    for value in range(20):
        without.note(value, 1.0)
        one.note(value, 1.0)
    assert without.recent == [], "nothing is kept that nobody asks for"
    assert [row[0] for row in one.recent] == list(range(12, 20))


def test_a_policy_that_says_nothing_new_leaves_the_hash_and_one_that_does_changes_it() -> None:
    plain = TrainSpec(steps=3)
    assert "on_bad_loss" not in plain._hashed()
    assert TrainSpec.from_dict({"steps": 3, "on_bad_loss": "stop"}).hash == plain.hash
    changed = TrainSpec.from_dict({"steps": 3, "on_bad_loss": {"action": "skip", "spike": 8}})
    assert changed.hash != plain.hash and changed.on_bad_loss.most == 10
    assert TrainSpec.from_toml(changed.to_toml()) == changed
    with pytest.raises(UserError, match=r"on_bad_loss.*Allowed: stop, skip"):
        TrainSpec.from_dict({"steps": 3, "on_bad_loss": "ignore"})


def test_a_skipped_batch_changes_no_weight_and_is_kept_whole(
    tiny: Tiny, tmp_path: Path, poison: Callable[..., None]
) -> None:
    poison(2)
    run = tiny(steps=5, on_bad_loss="skip", evaluations=5)
    folder = RunFolder(tmp_path)
    calls = iter([False, True, True, False, False])
    train_run(run, folder, stop=lambda: next(calls))
    before = weights(folder)
    moments = load_file(folder.checkpoint(2) / "optimizer.safetensors")
    assert train_run(run, folder, stop=lambda: next(calls))["step"] == 3  # the bad one
    assert all(torch.equal(before[name], value) for name, value in weights(folder).items())
    after = load_file(folder.checkpoint(3) / "optimizer.safetensors")
    assert all(torch.equal(moments[name], value) for name, value in after.items()), "nor a moment"
    result = train_run(run, folder)
    assert result["steps"] == 5 and result["skipped"] == 1
    assert [row["step"] for row in folder.metrics() if row["kind"] == "train"] == [1, 2, 4, 5]
    (event,) = [row for row in folder.metrics() if row.get("event") == "skipped"]
    assert event["reason"] == "the loss is nan" and event["step"] == 3 and math.isnan(event["loss"])
    assert event["batch"] == "bad_batches/step-3.npz" and event["skipped"] == 1

    arrays, facts = read_bad_batch(folder, 3)
    loader = Training(run, RunFolder(tmp_path / "other"), load_text(run.data), "cpu", lambda row: None, None).loader
    wanted = loader.batch(0, 2)
    for name in ("input_ids", "targets", "weights", "document_ids", "position_ids"):
        assert np.array_equal(arrays[name], getattr(wanted, name)), name
    assert facts["seed"] == 0 and (facts["epoch"], facts["place"]) == (0, 2)
    assert len(facts["row_losses"]) == len(facts["pieces"]) == 4
    assert all(3 < loss < 8 for loss in facts["row_losses"]), "what the model itself says of the rows"
    for row, pieces in zip(wanted.input_ids, facts["pieces"], strict=True):
        document, start, length = pieces[0]
        tokens = np.asarray(loader.documents[document][start : start + length])
        assert np.array_equal(row[row >= 8][:10], tokens[:10]), "the piece that is named is the row's"
    with pytest.raises(UserError, match=r"no batch of step 4\. Kept are those of steps 3\."):
        read_bad_batch(folder, 4)


def test_row_losses_add_up_to_the_batchs(tiny: Tiny, tmp_path: Path) -> None:
    run = tiny("prefix", model={"dropout": 0.0})
    training = Training(run, RunFolder(tmp_path), load_text(run.data), "cpu", lambda row: None, None)
    batch = training.loader.batch(0, 0)
    weight = np.sum(batch.weights, axis=1, dtype=np.float64)
    found = np.array(row_losses(training.model, batch, "float32"))
    whole = step.gradients(training.model, batch, weight=weight.sum(), parts=1, z_loss=0.0, dtype="float32")
    assert (found * weight).sum() / weight.sum() == pytest.approx(whole, rel=1e-5)
    assert training.model.training, "left as it was"


def test_more_bad_batches_than_allowed_end_the_run(tiny: Tiny, tmp_path: Path, poison: Callable[..., None]) -> None:
    poison(0, 1, 3)
    run = tiny(steps=6, on_bad_loss={"action": "skip", "most": 2})
    folder = RunFolder(tmp_path)
    result = train_run(run, folder)
    assert result["status"] == "diverged"
    assert folder.failure == "diverged at step 4: the loss is nan; 2 batches had been left out before"
    assert {f.name for f in (tmp_path / "bad_batches").iterdir()} == {
        f"step-{n}.{kind}" for n in (1, 2, 4) for kind in ("npz", "json")
    }


def test_stopping_keeps_the_batch_too(tiny: Tiny, tmp_path: Path, poison: Callable[..., None]) -> None:
    poison(1)
    folder = RunFolder(tmp_path)
    assert train_run(tiny(steps=3), folder)["failed"] == "diverged at step 2: the loss is nan"
    assert read_bad_batch(folder, 2)[1]["reason"] == "the loss is nan"


@pytest.mark.parametrize("stops", [(9,), (11,), (4, 12)])
def test_a_run_with_spikes_resumes_exactly(
    tiny: Tiny, tmp_path: Path, poison: Callable[..., None], stops: tuple[int, ...]
) -> None:
    poison(9, 11, factor=3.0)
    rule = {"action": "skip", "spike": 8, "norm_spike": 0, "window": 8}
    run = tiny(steps=14, checkpoints=14, on_bad_loss=rule)
    whole, broken = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "broken")
    assert train_run(run, whole)["skipped"] == 2
    done = 0
    for stop in stops:
        calls = iter(range(1, 100))
        train_run(run, broken, stop=lambda calls=calls, to=stop - done: next(calls) >= to)  # type: ignore[misc]
        done = stop
    assert train_run(run, broken)["skipped"] == 2
    assert told(broken) == told(whole)
    assert same(whole, broken)
    without = RunFolder(tmp_path / "without")
    train_run(tiny(steps=14), without)
    assert not same(whole, without), "the control: skipping did change the run"
