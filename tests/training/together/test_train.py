"""Runs trained together against the same runs one by one: losses, weights, folders, breaks, ends."""

import json
import math
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from assay.errors import UserError
from assay.published.load import load
from assay.runs import RunFolder
from assay.spec.study import RunSpec
from assay.training.loop import Training, train_run
from assay.training.text import load_text
from assay.training.together import train as together
from assay.training.together.train import train_together

Shared = Callable[..., RunSpec]

ULP = 2.0**-21
"""Of a loss from 4 to 8 nats: weights moved by one rounding may leave every loss as it was."""
ROUNDINGS = 16
"""How many times the roundings of one step, carried on by the run itself, count: a step has some tens of layers of
sums, and the perturbed run below moves every weight by half of its last bit, once."""


def folders(path: Path, count: int) -> list[RunFolder]:
    return [RunFolder(path / str(number)) for number in range(count)]


def losses(folder: RunFolder) -> np.ndarray[Any, Any]:
    return np.array([row["loss"] for row in folder.metrics() if row["kind"] == "train"])


def final_weights(folder: RunFolder) -> dict[str, torch.Tensor]:
    return load_file(str(folder.checkpoint(folder.checkpoint_steps()[-1]) / "model.safetensors"))


def perturbed(run: RunSpec, folder: RunFolder) -> RunFolder:
    """The run with every weight moved at its last bit before the first step: what roundings grow to."""
    training = Training(run, folder, load_text(run.data), "cpu", lambda row: None, None)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in training.model.parameters():
            p.mul_(1 + torch.finfo(p.dtype).eps * (torch.rand(p.shape, generator=draw) - 0.5))
    training.go(lambda: False)
    folder.close()
    return folder


def apart(one: RunFolder, other: RunFolder) -> tuple[float, float]:
    """The largest difference of a loss, and of a weight."""
    a, b = final_weights(one), final_weights(other)
    return (
        float(np.abs(losses(one) - losses(other)).max()),
        max(float((a[name] - b[name]).abs().max()) for name in a),
    )


HOW = {"accumulation": 2, "checkpointing": True}
RUNS = {
    "seeds": [{"seed": seed} for seed in range(3)],
    "rates, clipping, decay": [
        {"optimizer": {"learning_rate": 3e-3, "clip": 0.5}, **HOW},
        {"optimizer": {"learning_rate": 1e-2, "clip": 0.01, "equal_layers": True}, **HOW},
        {"optimizer": {"learning_rate": 1e-2, "clip": 0.0, "weight_decay": 0.0}, "schedule": {"kind": "linear"}, **HOW},
    ],
}


@pytest.mark.parametrize("changes", RUNS.values(), ids=RUNS.keys())
def test_losses_and_weights_are_those_of_separate_runs(
    shared: Shared, tmp_path: Path, changes: list[dict[str, Any]]
) -> None:
    runs = [shared(steps=20, **change) for change in changes]
    mine = folders(tmp_path / "together", 3)
    ends = train_together(runs, mine, command="again")
    assert [end["status"] for end in ends] == ["done"] * 3
    for run, folder, end in zip(runs, mine, ends, strict=True):
        own = RunFolder(tmp_path / run.hash)
        wanted = train_run(run, own, command="again")
        loss, weight = apart(folder, own)
        loss_bound, weight_bound = apart(perturbed(run, RunFolder(tmp_path / f"{run.hash}-moved")), own)
        loss_bound = max(loss_bound, ULP)
        assert loss <= ROUNDINGS * loss_bound and weight <= ROUNDINGS * weight_bound, (loss, loss_bound)
        assert math.isclose(end["bits_per_byte"], wanted["bits_per_byte"], abs_tol=ROUNDINGS * loss_bound)
        # Negative control: another member's run is far away.
        other = mine[(mine.index(folder) + 1) % 3]
        assert apart(other, own)[0] > 100 * ROUNDINGS * loss_bound


def test_a_folder_is_what_the_run_alone_leaves(shared: Shared, tmp_path: Path) -> None:
    runs = [shared(seed=seed) for seed in range(2)]
    mine, own = folders(tmp_path / "together", 2), RunFolder(tmp_path / "own")
    rows: list[dict[str, Any]] = []
    train_together(runs, mine, progress=rows.append, command="again")
    train_run(runs[0], own, command="again")
    names = [sorted(str(p.relative_to(f.path)) for p in f.path.rglob("*") if p.is_file()) for f in (mine[0], own)]
    assert names[0] == names[1]
    said = [json.loads((f.path / "run.json").read_text()) for f in (mine[0], own)]
    for one in said:
        del one["provenance"]
    assert said[0] == said[1]
    assert mine[0].result.keys() == own.result.keys() | {"together"} and mine[0].result["together"] == 2
    same = ("supervised_tokens", "input_tokens", "flops", "steps", "parameters", "epochs", "compiled", "windows")
    assert all(mine[0].result[name] == own.result[name] for name in same)
    plain = [row for row in mine[0].metrics() if row["kind"] != "event"]
    exact = ("kind", "step", "lr", "tokens", "input_tokens", "flops", "progress", "windows")
    for row, wanted in zip(plain, own.metrics(), strict=True):
        assert row.keys() == wanted.keys()
        assert [row.get(name) for name in exact] == [wanted.get(name) for name in exact]
    told = [row for row in mine[0].metrics() if row["kind"] == "event"]
    assert told == [{"kind": "event", "step": 0, "event": "together", "members": 2}]
    assert len(rows) == sum(len(folder.metrics()) for folder in mine)
    assert load(mine[0].path).spec.vocab_size == load(own.path).spec.vocab_size
    # What is done is not done again.
    assert [end["status"] for end in train_together(runs, mine)] == ["done", "done"]


def test_members_end_when_their_own_run_does(shared: Shared, tmp_path: Path) -> None:
    runs = [shared(steps=steps, seed=seed) for seed, steps in enumerate((3, 9, 5))]
    mine = folders(tmp_path / "together", 3)
    ends = train_together(runs, mine)
    assert [end["steps"] for end in ends] == [3, 9, 5]
    for run, folder in zip(runs, mine, strict=True):
        own = RunFolder(tmp_path / run.hash)
        train_run(run, own)
        assert np.allclose(losses(folder), losses(own), rtol=0, atol=1e-4)
        assert not (folder.checkpoint(folder.checkpoint_steps()[-1]) / "optimizer.safetensors").exists()


def test_one_that_diverges_harms_no_other(shared: Shared, tmp_path: Path) -> None:
    bad = {"optimizer": {"learning_rate": 1e30}, "schedule": {"kind": "constant", "warmup": 0}}
    runs = [shared(steps=6), shared(steps=6, seed=1, **bad), shared(steps=6, seed=2)]
    mine = folders(tmp_path, 3)
    ends = train_together(runs, mine)
    assert [end["status"] for end in ends] == ["done", "diverged", "done"]
    assert mine[1].failure is not None and mine[1].failure.startswith("diverged at step ")
    own = RunFolder(tmp_path / "own")
    train_run(runs[2], own)
    assert np.allclose(losses(mine[2]), losses(own), rtol=0, atol=1e-4)


def test_a_member_leaves_out_its_own_bad_batches(shared: Shared, tmp_path: Path) -> None:
    skip = {"on_bad_loss": {"action": "skip", "norm_spike": 1.0, "window": 8}}
    runs = [shared(steps=24, **skip), shared(steps=24, seed=1)]
    mine, own = folders(tmp_path / "together", 2), RunFolder(tmp_path / "own")
    train_together(runs, mine)
    train_run(runs[0], own)
    skipped = [[row["step"] for row in f.metrics() if row.get("event") == "skipped"] for f in (mine[0], own)]
    assert skipped[0] == skipped[1] != []
    assert mine[0].result["skipped"] == own.result["skipped"] and "skipped" not in mine[1].result


def after(steps: int) -> Callable[[], bool]:
    """Says stop when it has been asked so often."""
    asked = [0]

    def stop() -> bool:
        asked[0] += 1
        return asked[0] >= steps

    return stop


@pytest.mark.parametrize("company", [(0, 1, 2), (0, 1)], ids=["together again", "one of them alone"])
def test_a_break_changes_nothing(shared: Shared, tmp_path: Path, company: Sequence[int]) -> None:
    runs = [shared(steps=12, seed=seed) for seed in range(3)]
    whole, mine = folders(tmp_path / "whole", 3), folders(tmp_path / "broken", 3)
    train_together(runs, whole)
    assert [end["status"] for end in train_together(runs, mine, stop=after(10))] == ["stopped"] * 3
    steps = [folder.checkpoint_steps() for folder in mine]
    assert all(len(step) == 1 and 0 < step[0] < 12 for step in steps)
    train_together([runs[n] for n in company], [mine[n] for n in company])
    for number in set(range(3)) - set(company):
        train_run(runs[number], mine[number])
    for one, other in zip(whole, mine, strict=True):
        assert other.done and len(losses(other)) == 12
        assert np.allclose(losses(one), losses(other), rtol=0, atol=0 if len(company) == 3 else 1e-4)


def test_a_member_may_come_in_late(shared: Shared, tmp_path: Path) -> None:
    runs = [shared(steps=8, seed=seed) for seed in range(2)]
    mine = folders(tmp_path, 2)
    training = Training(runs[0], mine[0], load_text(runs[0].data), "cpu", lambda row: None, None)
    assert training.go(after(5))["status"] == "stopped"
    assert [end["steps"] for end in train_together(runs, mine)] == [8, 8]
    own = RunFolder(tmp_path / "own")
    train_run(runs[0], own)
    assert np.allclose(losses(mine[0]), losses(own), rtol=0, atol=1e-4)


def test_ctrl_c_waits_for_every_members_checkpoint(shared: Shared, tmp_path: Path) -> None:
    runs = [shared(steps=8, seed=seed) for seed in range(2)]
    mine = folders(tmp_path, 2)

    pressed: list[int] = []

    def press(row: dict[str, Any]) -> None:
        if row["kind"] == "train" and row["step"] == 3 and not pressed:
            pressed.append(row["step"])
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="checkpoints are in"):
        train_together(runs, mine, progress=press)
    assert all(folder.checkpoint_steps() for folder in mine)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_cannot_join_has_its_steps_done_by_itself(
    shared: Shared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(together, "Stacked", None)  # is not asked for
    runs = [shared(model={"dropout": 0.1}, seed=seed) for seed in range(2)]
    mine = folders(tmp_path / "together", 2)
    train_together(runs, mine)
    for run, folder in zip(runs, mine, strict=True):
        own = RunFolder(tmp_path / run.hash)
        train_run(run, own)
        assert np.array_equal(losses(folder), losses(own)), "each drops what it drops alone"


def test_runs_of_two_kinds_are_refused(shared: Shared, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="differ in more than seed"):
        train_together([shared(), shared(batch_size=2)], folders(tmp_path, 2))
