"""Files between machines: what changed arrives, once, in order; a folder appears whole; paths are the study's own."""

import os
from pathlib import Path

import pytest

from assay.runs import RunFolder
from assay.studies.parcels import Parcel, Watch, clear, pack, under, unpack


@pytest.fixture
def machines(tmp_path: Path) -> tuple[Path, Path, Path]:
    """The study's folder as it is named, and the roots of two machines."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    return Path("/study/runs/1a"), tmp_path / "a", tmp_path / "b"


def everything(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_what_changes_arrives(machines: tuple[Path, Path, Path]) -> None:
    run, there, here = machines
    watch = Watch([run], there)
    assert not watch.changes()
    folder = RunFolder(under(there, run))
    folder.write_json("run.json", {"seed": 1})
    folder.append_metrics({"step": 1})
    unpack(watch.changes(), here)
    assert everything(here) == everything(there) and not watch.changes()
    folder.append_metrics({"step": 2})
    (parcel,) = [watch.changes()]
    assert list(parcel.more.values()) == [b'{"step": 2}\n'] and not parcel.whole, "what is new alone"
    unpack(parcel, here)
    folder.truncate_metrics(1)
    with folder.writing_checkpoint(4) as path:
        (path / "model.safetensors").write_bytes(b"\0" * 1000)
    folder.keep_checkpoints(1)
    unpack(watch.changes(), here)
    assert RunFolder(under(here, run)).checkpoint_steps() == [4]
    with folder.writing_checkpoint(8) as path:
        (path / "model.safetensors").write_bytes(b"\1" * 1000)
    folder.keep_checkpoints(1)
    unpack(watch.changes(), here)
    assert RunFolder(under(here, run)).checkpoint_steps() == [8] and everything(here) == everything(there)


def test_half_a_line_waits_until_the_end(machines: tuple[Path, Path, Path]) -> None:
    run, there, here = machines
    watch, log = Watch([run], there), under(there, run) / "worker.log"
    log.parent.mkdir(parents=True)
    for text, last, arrived in (("one\ntw", False, "one\n"), ("o\nthree", False, "one\ntwo\n"), ("", True, None)):
        with log.open("a") as file:
            file.write(text)
        unpack(watch.changes(last=last), here)
        assert (under(here, run) / "worker.log").read_text() == (arrived or "one\ntwo\nthree")


def test_a_path_is_the_studys_own_wherever_the_worker_is(machines: tuple[Path, Path, Path]) -> None:
    run, there, here = machines
    watch = Watch([run], there)
    RunFolder(under(there, run)).mark_failed(f"{under(there, run)}/spec.json: no such file")
    unpack(watch.changes(), here)
    assert RunFolder(under(here, run)).failure == "/study/runs/1a/spec.json: no such file"


def test_a_folder_that_vanishes_while_it_is_read_does_not_arrive_in_part(
    machines: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, there, _ = machines
    watch, folder = Watch([run], there), RunFolder(under(there, run))
    for step in (1, 2):
        with folder.writing_checkpoint(step) as path:
            for name in ("a", "b"):
                (path / name).write_bytes(b"x")
    open_, gone = Path.open, []

    def open_late(path: Path, *given: object, **more: object) -> object:
        file = open_(path, *given, **more)  # type: ignore[call-overload]
        if not gone:  # while the first file is read, the trainer makes room
            gone.append(path)
            folder.keep_checkpoints(1)
        return file

    monkeypatch.setattr(Path, "open", open_late)
    names = set(watch.changes().whole)
    assert gone and names and all("/step-2/" in name for name in names)


def test_what_is_under_way_is_not_sent(machines: tuple[Path, Path, Path]) -> None:
    run, there, _ = machines
    watch, folder = Watch([run], there), RunFolder(under(there, run))
    with folder.writing_checkpoint(3) as path:
        (path / "model.safetensors").write_bytes(b"x")
        assert not watch.changes()


def test_all_of_a_run_goes_out_and_is_known_there(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "study" / "runs" / "1a")
    run.append_metrics({"step": 1})
    run.close()
    root = tmp_path / "root"
    root.mkdir()
    unpack(pack([run.path, tmp_path / "missing"]), root)
    watch = Watch([run.path], root)
    assert under(root, run.path / "metrics.jsonl").read_bytes() == b'{"step": 1}\n' and not watch.changes()
    clear(root)
    assert not os.listdir(root)
    assert not Parcel()
