"""Runs on Ray: as on this machine, with the text sent along, stopped, taken up again, and not lost with a worker."""

import importlib.util
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from assay.errors import UserError
from assay.runs import RunFolder, StudyFolder
from assay.spec.study import InitFrom, StudySpec
from assay.studies.berth import _own_folder
from assay.studies.places import open_place
from assay.studies.ray_place import RayPlace
from assay.studies.runner import run_all
from assay.training.loop import train_run

Small = Callable[..., StudySpec]
Events = list[dict[str, Any]]

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")


@pytest.fixture(scope="module")
def place() -> Iterator[RayPlace]:
    # Ray's sockets lie under it, and a socket's path may have 107 bytes: pytest's own folders are too deep.
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="m", dir="/tmp") as machine:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("TMPDIR", machine)
        before = signal.getsignal(signal.SIGTERM)
        with open_place("ray", workers=2) as found:
            assert isinstance(found, RayPlace) and found.slots == 2 and found.option == " --on ray"
            assert signal.getsignal(signal.SIGTERM) is not before, "Ray takes the signal for itself"
            yield found
        assert signal.getsignal(signal.SIGTERM) is before
        patch.setattr(tempfile, "tempdir", os.environ["TMPDIR"])
        folder, lock = _own_folder()  # as the next worker's on that machine
        assert list(folder.parent.glob("*assay-*")) == [folder], "nothing is left, not even of workers that were lost"
        lock.close()


def kinds(events: Events) -> list[str]:
    return [event["event"] for event in events]


@needs_ray
@pytest.mark.slow
def test_a_run_is_what_it_is_on_this_machine_and_needs_no_file_of_it(
    place: RayPlace, small: Small, tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    study = small(vary={"norm": ["layernorm", "rmsnorm"]}, steps=20)
    text.write_bytes(Path(study.data.source).read_bytes())
    first, second = study.with_(**{"data.source": str(text)}).runs()
    here = train_run(second, RunFolder(tmp_path / "here"))
    events: Events = []
    (outcome,) = run_all([first], StudyFolder(tmp_path / "out"), place=place, progress=events.append, command="again")
    assert outcome.status == "done" and kinds(events)[-1] == "finished"
    assert {"started", "progress", "evaluated"} <= set(kinds(events))
    text.unlink()  # what was sent once is there for all
    (outcome,) = run_all([second], StudyFolder(tmp_path / "out"), place=place)
    folder = outcome.folder
    assert outcome.status == "done" and folder.result["bits_per_byte"] == here["bits_per_byte"]
    told = folder.read_json("run.json")
    assert told["data"]["source"] == str(text) and told["data"]["hash"] and told["command"]
    assert told["provenance"]["hardware"]["torch_threads"] == 1
    assert folder.checkpoint_steps() == [20]
    root = str(place.ray.get(place._free[0].facts.remote())["folder"])
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert files and not any(root.encode() in path.read_bytes() for path in files), "paths are this machine's"


@needs_ray
@pytest.mark.slow
def test_a_run_begins_from_a_folder_of_this_machine(place: RayPlace, small: Small, tmp_path: Path) -> None:
    study = StudyFolder(tmp_path)
    (parent,) = small(vary={}).runs()
    run_all([parent], study, place=place)
    source = study.run(parent.hash).path
    child = parent.model_copy(update={"init": InitFrom(source=str(source), identity=f"run:{parent.hash}")})
    (outcome,) = run_all([child], study, place=place)
    assert outcome.status == "done", outcome.reason
    assert outcome.folder.read_json("run.json")["init"]["source"] == str(source)
    first, last = (next(iter(rows)) for rows in (outcome.folder.metrics(), reversed(study.run(parent.hash).metrics())))
    assert first["kind"] == "event" and first["source"] == str(source) and last["kind"] == "eval"
    assert next(r for r in outcome.folder.metrics() if r["kind"] == "eval")["bits_per_byte"] == last["bits_per_byte"]


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize("lost", ["worker", "machine"])
def test_what_is_lost_goes_on_from_its_checkpoint(place: RayPlace, small: Small, tmp_path: Path, lost: str) -> None:
    run = small(vary={}, steps=400, checkpoints=40, evaluations=2).runs()[0]
    events: Events = []
    ended: list[object] = []

    def lose(event: dict[str, Any]) -> None:
        events.append(event)
        if event["event"] == "progress" and event["step"] >= 30 and not ended:
            (worker,) = place._busy
            ended.append(worker)
            if lost == "worker":
                os.kill(worker.pid, signal.SIGKILL)
            else:
                place.ray.kill(worker._actor)

    (outcome,) = run_all([run], StudyFolder(tmp_path / "out"), workers=1, place=place, progress=lose)
    assert outcome.status == "done" and outcome.attempts >= 1
    told = next(e for e in events if e["event"] == "retried")
    assert told["step"] >= 10 and ("SIGKILL" if lost == "worker" else "lost with") in told["reason"]
    rows = outcome.folder.metrics()
    assert [r["step"] for r in rows if r["kind"] == "train"] == list(range(1, 401))
    assert [r["step"] for r in rows if r["kind"] == "eval"] == [0, 200, 400]
    whole = train_run(run, RunFolder(tmp_path / "whole"))
    assert outcome.folder.result["bits_per_byte"] == whole["bits_per_byte"]


@needs_ray
@pytest.mark.slow
def test_a_worker_without_a_core_takes_the_first_that_is_free(place: RayPlace, small: Small, tmp_path: Path) -> None:
    runs = small(seeds=2).runs()
    outcomes = run_all(runs, StudyFolder(tmp_path), workers=4, place=place)
    assert [o.status for o in outcomes] == ["done"] * 4 and not any(o.attempts for o in outcomes)
    assert 1 <= len(place._free) <= 2 and not place._busy


@needs_ray
@pytest.mark.slow
def test_ctrl_c_brings_the_checkpoint_home(place: RayPlace, small: Small, tmp_path: Path) -> None:
    run = small(vary={}, steps=300).runs()[0]
    study = StudyFolder(tmp_path)

    def press(event: dict[str, Any]) -> None:
        if event["event"] == "progress":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match=r"--resume --on ray"):
        run_all([run], study, workers=1, place=place, progress=press)
    (step,) = study.run(run.hash).checkpoint_steps()
    assert 0 < step < 300
    events: Events = []
    (outcome,) = run_all([run], study, place=place, progress=events.append)
    assert outcome.status == "done" and [e["resumed"] for e in events if e["event"] == "started"] == [True]


@needs_ray
@pytest.mark.slow
def test_an_error_of_its_own_is_told_in_its_words_and_not_tried_again(
    place: RayPlace, small: Small, tmp_path: Path
) -> None:
    run = small(vary={}).runs()[0]
    gone = run.model_copy(update={"data": run.data.model_copy(update={"source": run.data.source + ".gone"})})
    events: Events = []
    (outcome,) = run_all([gone], StudyFolder(tmp_path), place=place, progress=events.append)
    assert outcome.status == "failed" and ".gone: no such file" in outcome.reason and "retried" not in kinds(events)


@needs_ray
@pytest.mark.slow
def test_another_version_is_refused(place: RayPlace) -> None:
    place.check(place.ray.get(place.berth()[0].facts.remote()))
    with pytest.raises(UserError, match=r"there has torch 1\.0.*one version on all machines"):
        from assay.runs import versions

        place.check({**versions(), "machine": "there", "torch": "1.0"})


@needs_ray
def test_an_address_where_nothing_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began = time.monotonic()
    with pytest.raises(UserError, match=rf"nothing answers at 127\.0\.0\.1:{port}.*ray start --head"):
        open_place(f"ray://127.0.0.1:{port}")
    assert time.monotonic() - began < 20


@needs_ray
@pytest.mark.parametrize("on", ["ray://", "ray://head", "ray://head:many"])
def test_what_is_no_address(on: str) -> None:
    with pytest.raises(UserError, match="is no address"):
        open_place(on)


def test_places_have_names() -> None:
    with pytest.raises(UserError, match="--on slurm: no such place.*--on ray"):
        open_place("slurm")


def test_ray_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'assay\[ray\]'"):
        open_place("ray")
