"""`assay doctor`: what it finds is what is there, and it never fails."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from assay.cli import machine
from assay.cli.main import app


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A compiler to be found, and a cache and a path with nothing else."""
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    path = tmp_path / "g++"
    path.write_text("#!/bin/sh\necho version 1\n")
    path.chmod(0o755)
    return path


def test_everything_is_said(compiler: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "PROBE", "pass")
    done = CliRunner().invoke(app, ["doctor", "--json"])
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts.keys() == {
        "python", "processor", "torch", "accelerator", "compiler", "speed", "extras", "cache", "disk",
    }  # fmt: skip
    assert all(found["said"] for found in facts.values())
    assert facts["compiler"]["compiles"] is True
    assert facts["processor"]["cores"] >= 1
    assert min(facts["speed"]["matmul_flops_per_second"].values()) > 1e8
    assert facts["speed"]["memory_bytes_per_second"] > 1e7
    assert {*facts["extras"]["installed"], *facts["extras"]["missing"]} == set(machine.EXTRAS)
    shown = CliRunner().invoke(app, ["doctor"], env={"COLUMNS": "60"})
    assert shown.exit_code == 0
    assert max(len(line.rstrip()) for line in shown.stdout.splitlines()) <= 60
    assert "torch.compile works" in " ".join(shown.stdout.split())


def test_no_compiler_is_told_with_what_to_do(compiler: Path) -> None:
    compiler.unlink()
    found = machine._compiled(fresh=True)
    assert (found["path"], found["compiles"], found["fine"]) == (None, False, False)
    assert "Install one" in found["said"]


def test_a_compiler_that_fails_is_told_with_its_last_word(compiler: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "PROBE", "raise RuntimeError('no omp.h')")
    found = machine._compiled(fresh=True)
    assert found["compiles"] is False
    assert "no omp.h" in found["said"]
    monkeypatch.setattr(machine, "PROBE", "import time; time.sleep(60)")
    monkeypatch.setattr(machine, "PROBE_SECONDS", 1)
    assert "no result within 1 s" in machine._compiled(fresh=True)["said"]


def test_the_outcome_is_remembered_until_asked_afresh(compiler: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "PROBE", "pass")
    assert machine._compiled(fresh=False)["compiles"] is True
    monkeypatch.setattr(machine, "PROBE", "raise RuntimeError")
    assert machine._compiled(fresh=False)["compiles"] is True
    assert machine._compiled(fresh=True)["compiles"] is False
    compiler.write_text("#!/bin/sh\necho version 2\n")
    monkeypatch.setattr(machine, "PROBE", "pass")
    assert machine._compiled(fresh=False)["compiles"] is True, "another compiler is tried anew"


def test_extras_are_the_packages() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert machine.EXTRAS.keys() == project["optional-dependencies"].keys()
