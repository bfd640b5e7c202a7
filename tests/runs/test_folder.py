"""The folder of a run: metrics after any end, checkpoints, done or not."""

import errno
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import UserError
from assay.runs import SCHEMA_VERSION, RunFolder


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "runs" / "0123456789abcdef")


def rows(count: int) -> list[dict]:
    return [{"step": step, "loss": 1 / (step + 1)} for step in range(count)]


def test_a_run_from_beginning_to_end(folder: RunFolder) -> None:
    folder.write_json("run.json", {"seed": 3})
    folder.write_json("spec.json", {"width": 8})
    for row in rows(3):
        folder.append_metrics(row)
    assert RunFolder.open(folder.path).metrics() == rows(3)
    assert not folder.done
    with pytest.raises(UserError, match=r"not finished.*--resume"):
        _ = folder.result
    folder.mark_done({"loss": float("inf")})
    assert folder.done and folder.result == {"loss": float("inf")}
    assert RunFolder.open(folder.path).read_json("run.json") == {"schema_version": SCHEMA_VERSION, "seed": 3}
    assert folder.name == "0123456789abcdef"
    assert sorted(os.listdir(folder.path)) == ["DONE", "metrics.jsonl", "run.json", "spec.json"]


def test_rows_are_there_before_the_writer_ends(folder: RunFolder) -> None:
    code = (
        "import os, sys\nfrom assay.runs import RunFolder\n"
        "folder = RunFolder(sys.argv[1])\n"
        "for step in range(50): folder.append_metrics({'step': step})\n"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(folder.path)], check=False)
    assert [row["step"] for row in folder.metrics()] == list(range(50))


@given(cut=st.integers(0, 200), torn=st.sampled_from([b"", b"\x00\x00", b'{"step": ', b"[1]"]))
def test_a_torn_end_is_left_out_and_mended(tmp_path_factory: pytest.TempPathFactory, cut: int, torn: bytes) -> None:
    """Cut the file anywhere: rows read are a prefix of those written, and appending goes on after it."""
    folder = RunFolder(tmp_path_factory.mktemp("torn"))
    for row in rows(5):
        folder.append_metrics(row)
    folder.close()
    file = folder.path / "metrics.jsonl"
    data = file.read_bytes()
    cut = min(cut, len(data))
    if torn and cut and data[cut - 1 : cut] != b"\n":
        torn = b""  # garbage on a line of its own only
    file.write_bytes(data[:cut] + torn)
    whole = data[:cut].count(b"\n") + (data[cut : cut + 1] == b"\n")  # a row that only lacks its line's end
    read = folder.metrics()
    assert read == rows(5)[:whole]
    folder.append_metrics({"step": 99})
    folder.close()
    assert folder.metrics() == [*read, {"step": 99}]
    assert file.read_bytes().count(b"\n") == len(read) + 1


def test_a_damaged_line_in_the_middle_is_an_error(folder: RunFolder) -> None:
    folder.path.mkdir(parents=True)
    (folder.path / "metrics.jsonl").write_text('{"step": 0}\n{"st\n{"step": 2}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl: line 2 .*Delete"):
        folder.metrics()


def test_resume_drops_what_will_be_written_again(folder: RunFolder) -> None:
    for row in rows(10):
        folder.append_metrics(row)
    folder.append_metrics({"event": "resumed"})
    folder.truncate_metrics(after_step=6)
    assert folder.metrics() == [*rows(7), {"event": "resumed"}]
    folder.append_metrics({"step": 7})
    assert folder.metrics()[-1] == {"step": 7}
    RunFolder(folder.path / "none").truncate_metrics(3)  # nothing there, nothing to do


def test_full_disk_keeps_the_rows_before(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    for row in rows(3):
        folder.append_metrics(row)
    real = os.write

    def fill(descriptor: int, data: bytes) -> int:
        if len(data) > 6:
            return real(descriptor, data[:6])  # the last bytes that the disk takes
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", fill)
    with pytest.raises(UserError, match=r"metrics\.jsonl: the disk is full: \d+ bytes .*--resume"):
        folder.append_metrics({"step": 3, "a": 1})
    monkeypatch.undo()
    assert folder.metrics() == rows(3)
    assert (folder.path / "metrics.jsonl").read_bytes().endswith(b"}\n"), "half a row was left"
    folder.append_metrics({"step": 3})
    assert folder.metrics() == [*rows(3), {"step": 3}]


def test_failure_is_kept_until_done(folder: RunFolder) -> None:
    assert folder.failure is None
    folder.mark_failed("loss is NaN at step 3")
    assert folder.failure == "loss is NaN at step 3" and not folder.done
    folder.mark_done()
    assert folder.failure is None and folder.done


def test_a_checkpoint_is_whole_or_absent(folder: RunFolder) -> None:
    with folder.writing_checkpoint(10) as place:
        (place / "model").write_bytes(b"x" * 10)
        assert folder.checkpoint_steps() == []
    assert folder.checkpoint_steps() == [10]
    with pytest.raises(RuntimeError, match="broken"), folder.writing_checkpoint(20) as place:
        (place / "model").write_bytes(b"x")
        raise RuntimeError("broken")
    assert folder.checkpoint_steps() == [10]
    assert os.listdir(folder.checkpoints) == ["step-10"]
    with folder.writing_checkpoint(10) as place:
        (place / "model").write_bytes(b"new")
    assert (folder.checkpoint(10) / "model").read_bytes() == b"new"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError('Error while serializing: IoError(Os { code: 28, message: "No space left on device" })'),
    ],
)
def test_full_disk_keeps_earlier_checkpoints(folder: RunFolder, error: Exception) -> None:
    with folder.writing_checkpoint(2) as place:
        (place / "model").write_bytes(b"x")
    with (
        pytest.raises(UserError, match=r"step-10: the disk is full: more than 7 bytes"),
        folder.writing_checkpoint(10) as place,
    ):
        (place / "model").write_bytes(b"x" * 7)
        raise error
    assert os.listdir(folder.checkpoints) == ["step-2"]


def test_newest_checkpoints_are_kept_in_order_of_steps(folder: RunFolder) -> None:
    for step in (9, 100, 20):
        with folder.writing_checkpoint(step) as place:
            (place / "model").touch()
    (folder.checkpoints / ".step-30.broken").mkdir()
    folder.keep_checkpoints(last=2)
    assert folder.checkpoint_steps() == [20, 100]
    assert sorted(os.listdir(folder.checkpoints)) == ["step-100", "step-20"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f'{{"schema_version": {SCHEMA_VERSION + 1}}}', "is newer than this assay reads .*Upgrade"),
        ('{"seed": 1}', "schema_version = None"),
        ("[1]", "schema_version = None"),
        ("{", "valid JSON"),
    ],
)
def test_a_run_that_cannot_be_read_is_refused(folder: RunFolder, text: str, message: str) -> None:
    folder.path.mkdir(parents=True)
    (folder.path / "run.json").write_text(text)
    with pytest.raises(UserError, match=message):
        RunFolder.open(folder.path)


def test_opening_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no run\.json.*Give the folder of a run"):
        RunFolder.open(tmp_path)
    with pytest.raises(UserError, match="is no folder"):
        RunFolder.open(tmp_path / "none")


def test_a_folder_goes_to_a_worker(folder: RunFolder) -> None:
    folder.append_metrics({"step": 0})
    copy = pickle.loads(pickle.dumps(folder))
    copy.append_metrics({"step": 1})
    assert len(folder.metrics()) == 2
