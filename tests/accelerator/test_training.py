"""Training on the accelerator: every family and objective follows the CPU's losses; resumed, compiled, in bfloat16."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from assay.nn.kernels.norms import _kernels
from assay.runs import RunFolder
from assay.spec.study import RunSpec
from assay.training.loop import train_run

Tiny = Callable[..., RunSpec]
OBJECTIVES = [
    ("causal", None), ("causal", "ul2"), ("prefix", "prefix_lm"), ("prefix", "glm"), ("prefix", "ul2"),
    ("encoder_decoder", "span_corruption"), ("encoder_decoder", "bart"), ("encoder_decoder", "ul2"),
    ("encoder", "mlm"),
]  # fmt: skip
STILL = {"dropout": 0.0}


def losses(run: RunSpec, out: Path, device: str, **how: Any) -> np.ndarray:
    """A whole run's training losses, in order."""
    folder = RunFolder(out)
    assert train_run(run, folder, device=device, **how)["status"] == "done"
    return np.array([row["loss"] for row in folder.metrics() if row.get("kind") == "train"])


def described(tiny: Tiny, family: str, objective: str | None, **train: Any) -> RunSpec:
    """Without dropout, whose draws differ between devices; Adam's eps keeps rounding from being blown up."""
    head = {"family": "encoder", "head": {"kind": "mlm", "bias": True}} if family == "encoder" else {}
    return tiny(family, objective, model={**STILL, **head}, optimizer={"eps": 1e-3}, **train)


@pytest.mark.parametrize(("family", "objective"), OBJECTIVES)
def test_losses_are_the_cpus(tiny: Tiny, tmp_path: Path, device: str, family: str, objective: str | None) -> None:
    run = described(tiny, family, objective, dtype="float32")
    here, there = (losses(run, tmp_path / where, where) for where in ("cpu", device))
    np.testing.assert_allclose(there, here, rtol=2e-5)
    low = losses(described(tiny, family, objective), tmp_path / "low", device)
    assert 1e-7 < float(np.abs(low / here - 1).max()) <= 2.0**-7, "bfloat16 is the default here"


@pytest.mark.slow
@pytest.mark.parametrize(("family", "objective"), OBJECTIVES[::3])
def test_compiled_follows_eager(tiny: Tiny, tmp_path: Path, device: str, family: str, objective: str | None) -> None:
    given = described(tiny, family, objective, dtype="float32", compile=False)
    eager = losses(given, tmp_path / "eager", device)
    run = described(tiny, family, objective, dtype="float32", compile=True)
    np.testing.assert_allclose(losses(run, tmp_path / "compiled", device), eager, rtol=2e-5)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_resumed_run_is_the_whole_one(tiny: Tiny, tmp_path: Path, device: str, dropout: float) -> None:
    run = tiny(steps=6, model={"dropout": dropout}, checkpoints=6)
    whole = losses(run, tmp_path / "whole", device)
    folder, calls = RunFolder(tmp_path / "cut"), iter(range(100))
    assert train_run(run, folder, device=device, stop=lambda: next(calls) >= 2)["status"] == "stopped"
    np.testing.assert_array_equal(losses(run, tmp_path / "cut", device), whole)


def test_recomputing_blocks_changes_nothing(tiny: Tiny, tmp_path: Path, device: str) -> None:
    kept = losses(tiny(model={"dropout": 0.1}), tmp_path / "kept", device)
    again = losses(tiny(model={"dropout": 0.1}, checkpointing=True), tmp_path / "again", device)
    np.testing.assert_array_equal(again, kept)


def test_norms_run_on_the_devices_kernels(device: str) -> None:
    x = torch.randn(3, 8, device=device)
    assert _kernels(x)[0].__module__.endswith("triton_norms")
