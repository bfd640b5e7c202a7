"""Fifty broken inputs for every reader, and every input that once found a defect.

`python -m tools.fuzz` does the same with any number. Needs fork, and Linux's account of a process.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forked children, watched through /proc")

from tools.fuzz import described, published, tables  # noqa: E402
from tools.fuzz.cases import Case  # noqa: E402
from tools.fuzz.harness import Outcome, run_one  # noqa: E402
from tools.fuzz.shrink import smaller  # noqa: E402
from tools.fuzz.targets import TARGETS  # noqa: E402

assert described and published and tables
ROOT = Path(__file__).parents[2]
KEPT = sorted((Path(__file__).parent / "cases").glob("*.json"))
COUNT = 50


def fuzz(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The tool in a process of its own: threads that other tests have started (polars') do not survive its forks."""
    words = [sys.executable, "-m", "tools.fuzz", *map(str, arguments)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_broken_inputs_end_in_success_or_a_clear_error(tmp_path: Path) -> None:
    done = fuzz("--count", COUNT, "--seed", 1, "--json", tmp_path / "counts.json")
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads((tmp_path / "counts.json").read_text())
    assert set(counts) == set(TARGETS)
    for name, found in counts.items():
        assert found["inputs"] == COUNT and found.get("failed", 0) == 0, name
        assert COUNT // 10 < found["refused"] <= COUNT, name


def test_what_once_failed_is_refused_or_read() -> None:
    assert KEPT
    done = fuzz("--replay", *KEPT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(f"{path.name}: " in done.stdout for path in KEPT)


def verdict(read: object, case: Case | None = None) -> Outcome:
    return run_one(case or {"x": b"1"}, read)  # type: ignore[arg-type]


def test_the_watch_sees_what_it_is_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative controls: each of the ways to fail is told from the others."""

    def executes(folder: Path) -> None:
        os.system("true")

    def writes(folder: Path) -> None:
        (tmp_path / "elsewhere").write_text("x")

    def climbs(folder: Path) -> None:
        (folder.parent / "outside.safetensors").read_bytes()

    def swells(folder: Path) -> None:
        bytearray(b"\1") * (200 << 20)

    def dies(folder: Path) -> None:
        import ctypes

        ctypes.string_at(0)

    def turns(folder: Path) -> None:
        while True:
            pass

    def shouts(folder: Path) -> None:
        from assay.errors import UserError

        raise UserError("something is wrong")

    def slips(folder: Path) -> None:
        raise KeyError("x")

    monkeypatch.setattr("tools.fuzz.harness.CPU", 0.5)
    assert verdict(executes).kind.startswith("did: os.system")
    assert verdict(writes).kind.startswith("did: open")
    assert verdict(climbs).kind.startswith("did: open")
    assert verdict(swells).kind.startswith("memory")
    assert verdict(dies).kind.startswith("crash: signal SIGSEGV")
    assert verdict(shouts).kind.startswith("message names no file")
    assert verdict(slips).kind.startswith("KeyError")
    assert verdict(lambda folder: None).verdict == "clean"
    assert verdict(turns).kind == "hang"


def test_inputs_are_the_same_for_everyone() -> None:
    for name in ("config", "safetensors", "results"):
        assert TARGETS[name].case(0, 7) == TARGETS[name].case(0, 7)
        assert TARGETS[name].case(0, 7) != TARGETS[name].case(0, 8)


def test_a_failing_input_is_made_smaller() -> None:
    case = {"a.json": b'{"x": [1, 2, {"bad": 1}], "y": "long text"}', "b": b"more"}
    assert smaller(case, lambda less: b'"bad"' in less.get("a.json", b"")) == {"a.json": b'{"x": [{"bad": 1}]}'}
    assert len(smaller({"b": bytes(100) + struct.pack("<I", 7)}, lambda less: b"\x07" in less.get("b", b""))["b"]) < 5
