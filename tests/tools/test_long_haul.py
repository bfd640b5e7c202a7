"""The long hauls in small: what is judged, how a process is watched, and that no part of it waits without end."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tools.faults.scene import Scene
from tools.long_haul import __main__ as command
from tools.long_haul import many, one, watch
from tools.long_haul.checks import change, gaps, thinned
from tools.long_haul.one import Pace, calibrate, judged, pace, train
from tools.long_haul.watch import Sample, Seen, line

from assay.errors import UserError
from assay.runs import RunFolder

Launch = Callable[..., "subprocess.Popen[bytes]"]


def rows(number: int, speed: float = 1000.0, step_seconds: float = 0.5) -> list[dict[str, Any]]:
    trained = [
        {"kind": "train", "step": i, "seconds": i * step_seconds, "tokens_per_second": speed, "input_tokens": 100 * i}
        for i in range(1, number + 1)
    ]
    return [{"kind": "eval", "step": 0, "eval_seconds": 9.0}, *trained, {"kind": "eval", "eval_seconds": 2.0}]


def written(folder: Path, found: list[dict[str, Any]]) -> RunFolder:
    run = RunFolder(folder)
    for row in found:
        run.append_metrics(row)
    run.close()
    return run


def asleep(source: str = "import time; time.sleep(60)") -> Launch:
    """In place of `assay train`: a process that writes nothing."""
    return lambda run, threads, *more: subprocess.Popen([sys.executable, "-S", "-c", source], process_group=0)


def test_change_compares_the_ends_of_what_is_measured_without_warm_up() -> None:
    assert change([1.0] * 20 + [100.0] * 40 + [110.0] * 40) == pytest.approx(0.1)
    assert change([100.0] * 50) == 0.0 and change([]) == 0.0
    assert change([1000.0] * 20 + [100.0] * 80) == 0.0, "what comes before the warm-up's end counts for nothing"


def test_thinned_keeps_at_most_so_many_evenly() -> None:
    assert thinned(list(range(10)), 5) == [0, 2, 4, 6, 8] and thinned([1, 2], 5) == [1, 2]


def test_gaps_are_seen(tmp_path: Path) -> None:
    run, whole = RunFolder(tmp_path / "run"), rows(5)
    assert gaps(run, whole, 5) == []
    for wrong in (whole[:3] + whole[4:], [whole[1], *whole], whole[:-2]):
        assert gaps(run, wrong, 5) == ["run: not every step once in the metrics"]


def test_pace_is_of_the_steps_after_the_first_quarter() -> None:
    found = rows(20)
    for row in found[1:4]:
        row["seconds"] += 100  # compiling, caches
    assert pace(found) == Pace(pytest.approx(0.5), 2.0)  # type: ignore[arg-type]
    assert Pace(0.5, 2.0).steps(seconds=600, evaluations=10) == 1160
    assert Pace(10.0, 2.0).steps(seconds=60, evaluations=2) == 100


def test_a_calibration_that_does_not_end_is_told_and_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[subprocess.Popen[bytes]] = []

    def launch(*given: Any) -> "subprocess.Popen[bytes]":
        begun.append(asleep()(*given))
        return begun[-1]

    monkeypatch.setattr(one, "launch", launch)
    with pytest.raises(UserError, match=r"calibration: 0 of 200 steps after 0 s.* s of processor time"):
        calibrate(RunFolder(tmp_path / "run"), 1, limit=0.3)
    assert begun[0].returncode == -15


def test_a_calibration_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one, "launch", asleep("raise SystemExit(2)"))
    with pytest.raises(UserError, match="the run ended with 2"):
        calibrate(RunFolder(tmp_path / "run"), 1)


def test_a_line_every_half_minute_says_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = Seen([Sample(90.0, 300 << 20, 200 << 20)], {"step": 1234}, 90.0)
    assert line("haul", seen, 5000, 81234.5) == (
        "haul: 1.5 min, step 1,234 of 5,000, 300 MiB resident, 81,234 tokens/s"
    )
    monkeypatch.setattr(watch, "SAID", 0.1)
    run = written(tmp_path / "run", rows(7))
    process = asleep("import time; time.sleep(0.5)")(run, 1)
    found = watch.watch(process, run, what="haul", total=9, limit=10.0)
    said = capsys.readouterr().out.splitlines()
    assert len(said) >= 2 and all("step 7 of 9" in one for one in said)
    assert found.step == 7 and not found.ended and process.returncode == 0
    assert found.samples and found.samples[0].resident >= found.samples[0].anonymous > 0


def test_ctrl_c_ends_the_process_in_peace_and_keeps_what_was_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, looks = written(tmp_path / "run", rows(40)), []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            raise KeyboardInterrupt

    process = asleep()(run, 1)
    time.sleep(0.2)
    monkeypatch.setattr(time, "sleep", sleep)
    seen = watch.watch(process, run, what="haul", total=99, limit=60.0)
    assert process.returncode == -15 and seen.ended == "interrupted" and seen.step == 40 and len(seen.samples) == 3
    found = judged(run, seen, process.returncode, steps=99, marks=2, threads=1)
    assert found["wrong"][0] == "the haul was interrupted, at step 40 of 99" and found["steps"] == 40
    assert "no checkpoint of step 40" in found["wrong"] and "too few" in found["wrong"][-1]


def test_a_haul_that_ends_with_its_time_is_as_it_should_be(tmp_path: Path) -> None:
    """The control: one that is late is not."""
    run = written(tmp_path / "run", rows(100))
    for ended, said in (("in time", False), ("late", True)):
        seen = Seen([Sample(float(i), 1000, 1000) for i in range(100)], rows(100)[100], 100.0, ended=ended)
        wrong = "; ".join(judged(run, seen, 143, 150, 2, 1)["wrong"])
        assert ("took longer" in wrong) is said and "no checkpoint of step 100" in wrong and "ended with" not in wrong


def test_growth_and_slowing_are_wrong(tmp_path: Path) -> None:
    """The control: the same haul, flat, has nothing to say of them."""

    def haul(folder: str, sizes: list[int], speeds: list[float]) -> str:
        found = rows(100)
        for row, speed in zip(found[1:], speeds, strict=False):
            row["tokens_per_second"] = speed
        seen = Seen([Sample(float(i), size, size) for i, size in enumerate(sizes)], found[100], 100.0, ended="late")
        return "; ".join(judged(written(tmp_path / folder, found), seen, 0, 100, 1, 1)["wrong"])

    flat, slow = [1000.0] * 100, [1000.0] * 60 + [900.0] * 40
    assert "grew" not in (said := haul("flat", [1000] * 100, flat)) and "fell" not in said
    assert "memory grew by 2.00%" in haul("grows", [1000] * 60 + [1020] * 40, flat)
    assert "speed fell by 10.00%" in haul("slows", [1000] * 100, slow)


def test_the_killer_kills_workers_alone_and_says_how_far_the_study_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sleeping = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]
    worker, other = (subprocess.Popen([*sleeping, name]) for name in ("assay.studies.cradle", "somebody"))
    try:
        monkeypatch.setattr(many, "SAID", 0.0)
        killer, spared = (many.Killer(share, 2, seed=0, seconds=0.01) for share in (1.0, 0.0))
        for run, process in (("a", worker), ("b", other)):
            spared({"event": "started", "pid": process.pid, "run": run})
            killer({"event": "started", "pid": process.pid, "run": run})
        assert worker.wait(10) == -9
        time.sleep(0.1)
        assert other.poll() is None and killer.hit == {"a"} and killer.pids == [worker.pid] and not spared.hit
        for event in ("retried", "finished"):
            killer({"event": event, "run": "a"})
        said = "1 runs finished, 1 workers killed, 1 times tried again"
        assert said in capsys.readouterr().out and killer.retried == 1
    finally:
        for process in (worker, other):
            process.kill()
            process.wait()


@pytest.mark.slow
def test_a_short_haul_comes_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ASSAY_CACHE", "PYTHONPATH"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    with Scene(tmp_path / "scene") as scene:
        sizes = ("--tokenizer", "bytes", "--length", "32", "--batch-size", "4", "--set", "train.compile=false")
        monkeypatch.setattr(watch, "MODEL", (str(scene.spec), "--data", str(scene.text), *sizes))
        monkeypatch.setattr(one, "FEWEST", 1)
        monkeypatch.setattr(one, "GROWTH", 1e9)
        monkeypatch.setattr(one, "SLOWER", 1e9)
        found = train(tmp_path, command.parse(["train", "--minutes", "1", "--threads", "1", "--steps", "30"]))
    assert found["wrong"] == [] and found["steps"] == 30 and found["ended"] == "by itself"
    assert "every step once in the metrics" in found["said"]


def test_whom_the_killer_misses_another_is_killed_for() -> None:
    worker = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)", "assay.studies.cradle"])
    ended = subprocess.Popen([sys.executable, "-S", "-c", ""])
    try:
        ended.wait()
        killer = many.Killer(1.0, 1, seed=0, seconds=0.01)
        killer({"event": "started", "pid": ended.pid, "run": "a"})  # its process is gone before the moment
        time.sleep(0.2)
        assert killer.missed == 1 and not killer.hit
        killer({"event": "started", "pid": worker.pid, "run": "b"})
        assert worker.wait(10) == -9
        assert killer.missed == 0 and killer.hit == {"b"}
        assert len(many.Killer(0.05, 100, seed=0, seconds=1.0).drawn) == 5
    finally:
        worker.kill()
        worker.wait()
