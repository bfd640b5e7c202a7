"""`assay train --on-bad-loss skip` and `assay inspect RUN --batch STEP`: what was left out can be read."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from assay.cli.main import app
from assay.training import step


def say(*arguments: str, status: int = 0) -> str:
    done = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "120"})
    assert done.exit_code == status, done.output
    return done.output


@pytest.fixture
def run(small: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    """A run whose third batch gave NaN, and what the command said."""
    real = step.gradients

    def gradients(model: Any, batch: Any, **fields: Any) -> float:
        return real(model, batch, **fields) * (math.nan if batch.step == 2 else 1.0)

    monkeypatch.setattr(step, "gradients", gradients)
    out = tmp_path / "run"
    said = say(
        "train", str(small), "--data", str(text), "--out", str(out), "--steps", "4", "--batch-size", "4",
        "--length", "32", "--tokenizer", "bytes", "--on-bad-loss", "skip", "--spike", "8", "--tensorboard",
    )  # fmt: skip
    return out, said


def test_what_was_left_out_is_told_and_shown(run: tuple[Path, str], text: Path) -> None:
    out, said = run
    assert "Step 3 left out: the loss is nan; kept in bad_batches/step-3.npz." in " ".join(said.split())
    assert json.loads((out / "run.json").read_text())["train"]["on_bad_loss"] == {
        "action": "skip", "spike": 8.0, "norm_spike": 0.0, "window": 64, "most": 10,
    }  # fmt: skip
    assert list((out / "tensorboard").glob("events.out.tfevents.*"))

    found = json.loads(say("inspect", str(out), "--batch", "3", "--json"))
    assert found["reason"] == "the loss is nan" and found["loss"] == "NaN" and found["seed"] == 0
    assert len(found["rows"]) == 4 and all(3 < row["loss"] < 8 for row in found["rows"])
    whole = text.read_text()
    for row in found["rows"]:
        assert row["input"].removeprefix("<s>")[:20].replace("<bos>", "") in whole, "the text itself"
        assert row["targets"] > 0 and row["pieces"][0][0] == 0

    shown = say("inspect", str(out), "--batch", "3")
    assert shown.startswith("Step 3: the loss is nan") and shown.count("nats a target") == 4
    losses = [float(line.split(": ")[1].split()[0]) for line in shown.splitlines() if line.startswith("Row ")]
    assert losses == sorted(losses, reverse=True), "the worst first"


def test_mistakes_are_told(run: tuple[Path, str], small: Path) -> None:
    out, _ = run
    assert "holds no batch of step 2. Kept are those of steps 3." in say("inspect", str(out), "--batch", "2", status=2)
    assert "is no run's folder" in say("inspect", str(small), "--batch", "2", status=2)
    (out / "bad_batches" / "step-3.npz").write_bytes(b"PK")
    assert "cannot be read as a batch" in say("inspect", str(out), "--batch", "3", status=2)
    said = say("train", "tiny", "--on-bad-loss", "ignore", status=2)
    assert "Allowed: stop, skip" in said
