"""Workers forked from one process: as if started afresh, heard of when they end, and not left behind."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from assay.studies.processes import Nursery
from assay.studies.protocol import LOST

SOURCE = """
import os, sys, time

def main(arguments):
    print("says", arguments, os.getsid(0) == os.getpid(), os.environ["OMP_NUM_THREADS"])
    if arguments[0] == "sleep":
        parent = os.getppid()
        open(os.path.join(os.path.dirname(arguments[1]), "ready"), "w").close()
        while os.getppid() == parent:
            time.sleep(0.05)
        open(arguments[1], "w").close()
        return 130
    if arguments[0] == "raise":
        raise RuntimeError("bad luck")
    return int(arguments[0])

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(params=[True, False], ids=["forked", "fresh"])
def nursery(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nursery]:
    if request.param and sys.platform != "linux":
        pytest.skip("workers are forked on Linux alone")
    (tmp_path / "toy_worker.py").write_text(SOURCE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Nursery(["json"], fork=request.param) as found:
        yield found


def test_status_and_words_arrive(nursery: Nursery, tmp_path: Path) -> None:
    children = {number: nursery.start("toy_worker", [str(number)], tmp_path / f"{number}.log") for number in (0, 3)}
    assert {number: child.wait(20) for number, child in children.items()} == {0: 0, 3: 3}
    assert (tmp_path / "3.log").read_text() == "says ['3'] True 1\n"


def test_an_error_is_in_the_log(nursery: Nursery, tmp_path: Path) -> None:
    child = nursery.start("toy_worker", ["raise"], tmp_path / "log")
    assert child.wait(20) == 1 and "bad luck" in (tmp_path / "log").read_text()


def test_signals_are_told_as_popen_tells_them(nursery: Nursery, tmp_path: Path) -> None:
    child = nursery.start("toy_worker", ["sleep", str(tmp_path / "gone")], tmp_path / "log")
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.1)
    assert child.poll() is None
    child.kill()
    assert child.wait(20) == -signal.SIGKILL
    child.kill()  # of one that is gone: nothing happens


def test_workers_see_that_nobody_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toy_worker.py").write_text(SOURCE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Nursery([], fork=True) as nursery:
        nursery.start("toy_worker", ["sleep", str(tmp_path / "gone")], tmp_path / "log")
        wait_for(tmp_path / "ready")
    wait_for(tmp_path / "gone")


def test_a_dead_cradle_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toy_worker.py").write_text(SOURCE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Nursery([], fork=True) as nursery:
        assert nursery.start("toy_worker", ["0"], tmp_path / "a").wait(20) == 0
        assert nursery._cradle is not None
        orphan = nursery.start("toy_worker", ["sleep", str(tmp_path / "gone")], tmp_path / "c")
        wait_for(tmp_path / "ready")
        nursery._cradle.process.kill()
        nursery._cradle.process.wait()
        assert nursery.start("toy_worker", ["4"], tmp_path / "b").wait(20) == 4
        assert orphan.wait(20) == LOST, "its end is known although another cradle stands in its place"
        assert (tmp_path / "gone").exists(), "not before it had ended"
