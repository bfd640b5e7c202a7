"""The command line under torchrun: one voice, a killed rank, SIGTERM, and going on; each launch serves many checks."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from assay.runs import RunFolder, verify_files
from assay.training.api import Run

MODEL = "width = 16\nlayers = 2\nattention = {heads = 2}\ndropout = 0.0\n"
SOON = 40
"""Seconds that survivors have to say that a rank is lost; the launcher itself waits 30 before it kills."""


def launch(folder: Path, *options: str, ranks: int = 2) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    command += ["-m", "assay", "train", *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def steps(out: Path) -> int:
    file = out / "metrics.jsonl"
    rows = (
        [json.loads(line) for line in file.read_text().splitlines(True) if line.endswith("\n")]
        if file.is_file()
        else []
    )
    return max((row["step"] for row in rows), default=0)


def wait_for(out: Path, step: int, process: "subprocess.Popen[str]") -> None:
    until = time.monotonic() + 120
    while steps(out) < step:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until, "it takes too long to begin"
        time.sleep(0.05)


def children(process: "subprocess.Popen[str]") -> list[int]:
    """Process numbers of the ranks, in order."""
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(number) for number in found]


def ended(process: "subprocess.Popen[str]", seconds: float) -> tuple[str, float]:
    began = time.monotonic()
    _, said = process.communicate(timeout=seconds)
    return said, time.monotonic() - began


def options(source: Path, tmp_path: Path, **more: Any) -> list[str]:
    (tmp_path / "model.toml").write_text(MODEL)
    given = {"data": source, "tokenizer": "bytes", "length": 32, "batch-size": 8, "out": tmp_path / "run"} | more
    return [
        str(tmp_path / "model.toml"),
        *(text for name, value in given.items() for text in (f"--{name}", str(value))),
    ]


@pytest.mark.slow
def test_a_killed_rank_and_a_launcher_told_to_end(source: Path, tmp_path: Path) -> None:
    out, folder = tmp_path / "run", RunFolder(tmp_path / "run")
    many = options(source, tmp_path, steps=100_000, parallel="fsdp") + ["--set", "train.checkpoints=10000"]

    process = launch(tmp_path, *many)
    wait_for(out, 30, process)
    os.kill(children(process)[1], signal.SIGKILL)
    said, took = ended(process, 120)
    assert process.returncode == 1 and took < SOON, (took, said)
    assert said.count("another rank has ended or does not answer") == 1, said
    assert "is whole; the same command with --resume goes on" in said
    (kept,) = folder.checkpoint_steps()
    verify_files(folder.checkpoint(kept))
    assert kept >= 10 and not folder.done

    process = launch(tmp_path, *many, "--resume")
    wait_for(out, kept + 20, process)
    process.send_signal(signal.SIGTERM)
    said, took = ended(process, 60)
    assert took < 20, said
    assert said.count("Interrupted: stopped at step") == 1 and "[rank" not in said, said
    (stopped,) = folder.checkpoint_steps()
    assert stopped > kept and stopped == steps(out)
    assert [row["step"] for row in folder.metrics() if row["kind"] == "train"] == list(range(1, stopped + 1))
    assert sum(p.numel() for p in Run(out).model().parameters()) > 0
    about = folder.read_json("run.json")
    assert about["command"].startswith("torchrun --nproc-per-node 2 -m assay train")


@pytest.mark.slow
def test_mistakes_are_told_once(source: Path, tmp_path: Path) -> None:
    process = launch(tmp_path, *options(source, tmp_path, steps=2) + ["--batch-size", "7"])
    said, _ = ended(process, 120)
    assert process.returncode == 1
    assert said.count("batch_size = 7: its rows cannot be shared evenly by 2 processes") == 1, said
    assert "Give a multiple of 2, such as 8" in said
    assert not (tmp_path / "run").exists()
