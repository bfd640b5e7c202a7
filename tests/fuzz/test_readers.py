"""A few hundred broken inputs for every reader, and every input that once found a defect.

`python -m tools.fuzz` does the same with any number. Needs fork, and Linux's account of a process.
"""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forked children, watched through /proc")

from tools.fuzz import described, published, tables  # noqa: E402
from tools.fuzz.cases import Case, read_case  # noqa: E402
from tools.fuzz.harness import Outcome, run_batch, run_one  # noqa: E402
from tools.fuzz.shrink import smaller  # noqa: E402
from tools.fuzz.targets import TARGETS  # noqa: E402

assert described and published and tables
KEPT = sorted((Path(__file__).parent / "cases").glob("*.json"))
COUNT = 100


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_broken_inputs_end_in_success_or_a_clear_error(name: str) -> None:
    target = TARGETS[name]
    good = target.good()
    assert [
        o
        for o in run_batch(lambda n: good[n], target.read, list(range(len(good))), warm=good[:8])
        if o.verdict != "clean"
    ] == []
    found = list(run_batch(lambda n: target.case(1, n), target.read, list(range(COUNT)), warm=good[:8]))
    assert [outcome for outcome in found if outcome.verdict == "failed"] == []
    assert len(found) == COUNT and sum(outcome.verdict == "refused" for outcome in found) > COUNT // 10


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_what_once_failed_is_refused_or_read(path: Path) -> None:
    name, case, why = read_case(path)
    found = run_one(case, TARGETS[name].read, warm=TARGETS[name].good()[:8])
    assert found.verdict != "failed", (why, found)


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
