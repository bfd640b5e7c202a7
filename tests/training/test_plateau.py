"""Reduce-on-plateau in a run: the rate follows what the run measured, and a resumed run follows it too."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assay.runs import RunFolder
from assay.spec.study import RunSpec
from assay.training.loop import train_run
from assay.training.schedule import reductions

SCHEDULE = {"kind": "plateau", "warmup": 0.1, "patience": 2, "improvement": 0.02, "final": 0.01}


def rows(folder: RunFolder, kind: str) -> list[dict[str, Any]]:
    return [row for row in folder.metrics() if row["kind"] == kind]


def test_the_rate_falls_where_the_heldout_loss_stands_still(tiny: Callable[..., RunSpec], tmp_path: Path) -> None:
    # A rate this small learns nothing that `improvement` would count: every second evaluation halves it.
    run = tiny(steps=20, evaluations=20, schedule=SCHEDULE, optimizer={"learning_rate": 1e-6})
    folder = RunFolder(tmp_path / "run")
    train_run(run, folder)
    rates = [row["lr"] for row in rows(folder, "train")]
    heldout = [row["bits_per_byte"] for row in rows(folder, "eval") if row["progress"] >= 0.1]
    for step in range(3, 21):
        times = reductions(run.train.schedule, heldout[: step - 2])
        assert rates[step - 1] == pytest.approx(max(1e-6 * 0.5**times, 1e-8)), step
    assert rates[-1] < 0.05 * max(rates)


def test_it_stays_where_the_loss_falls(tiny: Callable[..., RunSpec], tmp_path: Path) -> None:
    """The control: the same schedule keeps its peak while the run learns."""
    run = tiny(steps=12, evaluations=12, schedule={**SCHEDULE, "improvement": 0.0}, optimizer={"learning_rate": 1e-2})
    folder = RunFolder(tmp_path / "run")
    train_run(run, folder)
    assert rows(folder, "train")[-1]["lr"] == 1e-2


def test_a_resumed_run_has_the_same_rates_and_losses(tiny: Callable[..., RunSpec], tmp_path: Path) -> None:
    run = tiny(steps=16, evaluations=16, schedule=SCHEDULE, optimizer={"learning_rate": 1e-6})
    whole, broken = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "broken")
    train_run(run, whole)
    asked = iter([False] * 8 + [True])
    assert train_run(run, broken, stop=lambda: next(asked))["status"] == "stopped"
    assert train_run(run, broken)["status"] == "done"
    for name in ("lr", "loss"):
        assert [r[name] for r in rows(broken, "train")] == [r[name] for r in rows(whole, "train")]
