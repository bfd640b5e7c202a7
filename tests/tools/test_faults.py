"""The faults in their small forms: each is done for real, a few times."""

import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tools.faults import __main__ as command
from tools.faults import kills as killing
from tools.faults.bad_loss import bad_loss
from tools.faults.damage import CHECKPOINT, damage, hurt
from tools.faults.disk import disk, small_disk
from tools.faults.kills import kills
from tools.faults.page import put_row
from tools.faults.ranks import finished
from tools.faults.ray_workers import holder, worker_of
from tools.faults.scene import Found, Reference, Scene, never_came, wait_for_steps
from tools.faults.signals import signals

from assay.errors import UserError
from assay.runs import RunFolder, StudyFolder


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("ASSAY_CACHE", "PYTHONPATH"):  # a scene sets them; afterwards they are what they were
            patch.setenv(name, "")
        with Scene(tmp_path_factory.mktemp("scene")) as scene:
            yield scene


def can_mount(path: Path) -> bool:
    try:
        with small_disk(path / "try"):
            return True
    except (PermissionError, FileNotFoundError):
        return False


@pytest.mark.slow
def test_killed_runs_end_as_those_that_were_not(scene: Scene) -> None:
    found = kills(scene, 3)
    assert not found.wrong and found.trials == 3


@pytest.mark.slow
def test_a_resume_that_is_not_exact_is_seen(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: what goes on with another dropout is no longer the same run."""
    real = Scene.start

    def start(self: Scene, arguments: list[str], patch: str = "") -> Any:
        if "--resume" in arguments:
            patch = "dropout"
        return real(self, arguments, patch)

    monkeypatch.setattr(Scene, "start", start)
    monkeypatch.setattr(killing, "random", Chance)
    assert "differ" in " ".join(kills(scene, 1).wrong)


class Chance:
    """A kill three quarters through."""

    def __init__(self, seed: int) -> None:
        pass

    @classmethod
    def Random(cls, seed: int) -> "Chance":
        return cls(seed)

    def uniform(self, low: float, high: float) -> float:
        return 0.75 * high


@pytest.mark.slow
def test_signals_save_and_say_how_to_go_on(scene: Scene) -> None:
    found = signals(scene, 1)
    assert not found.wrong and found.trials == 2


@pytest.mark.slow
def test_bad_losses_stop_or_skip(scene: Scene) -> None:
    found = bad_loss(scene, 1)
    assert not found.wrong and found.trials == 3


@pytest.mark.slow
def test_a_full_disk_is_told_and_costs_nothing(scene: Scene, tmp_path: Path) -> None:
    if not can_mount(tmp_path):
        pytest.skip("mounting a small disk takes root")
    found = disk(scene, 2, report=False)
    assert not found.wrong and found.trials >= 1


@pytest.mark.slow
def test_damage_is_refused(scene: Scene) -> None:
    found = damage(scene, 1)
    assert not found.wrong and found.trials == len(CHECKPOINT) + 6


def test_hurting_a_file_changes_it(tmp_path: Path) -> None:
    file, order = tmp_path / "file", random.Random(0)
    for _ in range(50):
        file.write_bytes(bytes(range(100)))
        hurt(file, order)
        assert file.read_bytes() != bytes(range(100))


def test_a_row_replaces_its_own_and_no_other(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A\n\n<!-- t -->\n| a | b |\n| --- | --- |\n<!-- end of t -->\n\nMore.\n")
    put_row("t", ["one", "1|2"], key=0, page=page)
    put_row("t", ["two", "2"], key=0, page=page)
    put_row("t", ["one", "3"], key=0, page=page)
    put_row("t", ["one", "4"], key=None, page=page)
    assert page.read_text() == (
        "# A\n\n<!-- t -->\n| a | b |\n| --- | --- |\n| one | 3 |\n| two | 2 |\n| one | 4 |\n"
        "<!-- end of t -->\n\nMore.\n"
    )


def test_what_went_wrong_is_in_the_row_and_the_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(scene: Scene, trials: int, seed: int) -> Found:
        return Found("kill", "a fault", trials, ["the weights differ"], "it was seen", "kill", 1.5)

    for name in ("ASSAY_CACHE", "PYTHONPATH"):
        monkeypatch.setenv(name, "")
    monkeypatch.setitem(command.FAULTS, "kill", (failing, 7))
    rows: list[list[str]] = []
    put: Callable[..., None] = lambda table, cells, key: rows.append(cells)  # noqa: E731
    monkeypatch.setattr(command, "put_row", put)
    assert command.main(["kill"]) == 1
    said = "1 went wrong, first: the weights differ. It was seen."
    assert rows == [["a fault", "7", said, "2 s", "`python -m tools.faults kill`"]]
    assert "WRONG: the weights differ" in capsys.readouterr().out


def test_what_a_machine_lacks_is_told_and_not_taken_for_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lacking(scene: Scene, trials: int, seed: int) -> Found:
        raise UserError("--on ray: ray is not installed.", "Install it.")

    for name in ("ASSAY_CACHE", "PYTHONPATH"):
        monkeypatch.setenv(name, "")
    monkeypatch.setitem(command.FAULTS, "ray", (lacking, 1))
    assert command.main(["ray", "--no-page"]) == 1
    assert "ray: not done. --on ray: ray is not installed." in capsys.readouterr().out


def test_metrics_are_compared_without_what_a_break_itself_tells(tmp_path: Path) -> None:
    def run(name: str, rows: list[dict[str, Any]]) -> RunFolder:
        folder = RunFolder(tmp_path / name)
        for row in rows:
            folder.append_metrics(row)
        folder.close()
        return folder

    ranks, *steps = [{"kind": "event", "event": "ranks", "step": 0, "shard": 2}] + [
        {"kind": "train", "step": i, "loss": 1 / i, "seconds": 0.1} for i in range(1, 6)
    ]
    reference = Reference(run("whole", [ranks, *steps]), 0.0)
    stopped = {"kind": "event", "event": "stopped", "step": 3}
    slower = [{**row, "seconds": 0.7} for row in steps]
    alike = {"killed": [ranks, *steps[:3]], "resumed": [ranks, *slower[:3], stopped, {**ranks, "step": 3}, *slower[3:]]}
    for name, rows in alike.items():
        assert not reference.partly(run(name, rows)), name
    other = [*steps[:2], {**steps[2], "loss": 0.34}]
    for name, rows in {"lost": [ranks, *steps[1:]], "twice": [*steps[:3], steps[2]], "another": other}.items():
        assert "rows differ" in reference.partly(run(name, rows)), name


def test_a_run_that_comes_too_late_is_ended_and_one_that_ended_is_quoted(tmp_path: Path) -> None:
    scene: Any = SimpleNamespace(log=tmp_path / "log")
    scene.log.write_text("its last words")
    for code, said in (("import time; time.sleep(60)", "not there in time"), ("", "ended before the fault: its last")):
        worker = subprocess.Popen([sys.executable, "-S", "-c", code])
        if not code:
            worker.wait()
        assert not wait_for_steps(RunFolder(tmp_path / "run"), 1, worker, most=0.2)
        assert said in never_came(worker, scene) and worker.returncode == (-15 if code else 0)


def test_ranks_that_do_not_come_to_an_end_are_ended() -> None:
    process = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    with pytest.raises(UserError, match="was not done after 0 s"):
        finished(process, most=0.2)
    assert process.returncode == -15


def test_a_worker_on_ray_is_found_by_what_it_writes(tmp_path: Path) -> None:
    study = StudyFolder(tmp_path / "out")
    log = study.run("ab12").path.absolute() / "worker.log"
    elsewhere = tmp_path / "assay-berth-x" / "tree" / log.relative_to("/")
    for path in (log, elsewhere):
        path.parent.mkdir(parents=True)
    sleeping = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]
    with log.open("wb") as mine, elsewhere.open("wb") as sent:
        here = subprocess.Popen(sleeping, stdout=mine)
        assert worker_of(study, "ab12") is None, "a worker of this machine is no worker of a cluster"
        there = subprocess.Popen(sleeping, stdout=sent)
    try:
        assert worker_of(study, "ab12") == there.pid and worker_of(study, "b12") is None
        with pytest.raises(OSError):
            holder(there.pid)  # what stands above it is not Ray's, and is not killed
    finally:
        for process in (here, there):
            process.kill()
            process.wait()


def test_the_command_names_its_faults() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.faults", "fire"], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 2 and "fire: no such fault; there are kill, signal" in done.stderr
