"""The folder of one run: what it was, what it measured, where it can go on, and that it finished."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from assay.errors import UserError
from assay.runs.checksums import write_checksums
from assay.runs.files import disk_full, disk_guard, read_json, sync_folder, write_json
from assay.runs.metrics import MetricsFile

__all__ = ["SCHEMA_VERSION", "RunFolder"]

#: The layout of run folders that this version writes, and the newest that it reads.
SCHEMA_VERSION = 1

RUN, SPEC, METRICS, DONE, FAILED = "run.json", "spec.json", "metrics.jsonl", "DONE", "FAILED"
_STEP = re.compile(r"step-(\d+)")


class RunFolder:
    """One run on disk: `run.json, spec.json, metrics.jsonl, checkpoints/step-N/, DONE`.

    Nothing is read or made before it is asked for, so a RunFolder of a folder that does not exist yet is how
    a run begins. Every file but the metrics is written atomically.

    Args:
        path: the folder.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: str | Path) -> None:
        """See the class."""
        self.path = Path(path)
        self._metrics = MetricsFile(self.path / METRICS)

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """The run in a folder that must hold one.

        Raises:
            UserError: no run there, its run.json is damaged, or a newer assay wrote it.
        """
        folder = cls(path)
        if not (folder.path / RUN).is_file():
            what = "holds no run.json" if folder.path.is_dir() else "is no folder"
            raise UserError(f"{path}: {what}.", "Give the folder of a run: OUT/runs/<hash>.")
        folder.read_json(RUN)
        return folder

    def __repr__(self) -> str:
        """The folder and how far it is."""
        return f"RunFolder({str(self.path)!r}, {'done' if self.done else 'unfinished'})"

    @property
    def name(self) -> str:
        """The folder's own name: the run's hash in a study."""
        return self.path.name

    # Files

    def write_json(self, name: str, obj: Any) -> None:
        """Write a file of the run atomically; `run.json` gets the schema version.

        Args:
            name: file name inside the folder, such as "spec.json".
            obj: data; NumPy values, enums, dataclasses and pydantic models may be in it.

        Raises:
            UserError: the disk is full or forbids writing; the earlier content is kept.
        """
        if name == RUN:
            obj = {"schema_version": SCHEMA_VERSION, **obj}
        write_json(self.path / name, obj)

    def read_json(self, name: str) -> Any:
        """Data from a file of the run.

        Raises:
            UserError: no such file, it does not hold JSON, or a newer assay wrote it (run.json).
        """
        obj = read_json(self.path / name)
        if name == RUN:
            version = obj.get("schema_version") if isinstance(obj, dict) else None
            if not isinstance(version, int):
                raise UserError(
                    f"{self.path / name}: schema_version = {version!r} is no version of a run folder.",
                    "Delete the run's folder and run the same command again.",
                )
            if version > SCHEMA_VERSION:
                raise UserError(
                    f"{self.path / name}: schema_version = {version} is newer than this assay reads "
                    f"({SCHEMA_VERSION}).",
                    "Upgrade assay, or run the study again with this version in another folder.",
                )
        return obj

    # Metrics

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Add a row to metrics.jsonl; it is safe from a killed process when this returns.

        Raises:
            UserError: the disk is full or forbids writing; the rows before are kept.
        """
        self._metrics.append(row)

    def metrics(self) -> list[dict[str, Any]]:
        """All rows of metrics in order; a torn last line is left out, no file means no rows.

        Raises:
            UserError: a line before the last is damaged.
        """
        return self._metrics.rows()

    def truncate_metrics(self, after_step: int) -> None:
        """Drop rows whose `step` is beyond `after_step`, for a resume from that step's checkpoint."""
        self._metrics.truncate(after_step)

    def close(self) -> None:
        """Bring the metrics to the disk and let go of the file."""
        self._metrics.close()

    # How it ended

    def mark_done(self, result: Any = None) -> None:
        """The run is complete: its result is in the file DONE, whose presence is the fact.

        Raises:
            UserError: the disk is full or forbids writing; then the run is not done.
        """
        self._metrics.close()
        write_json(self.path / DONE, result)
        with suppress(FileNotFoundError):
            (self.path / FAILED).unlink()

    @property
    def done(self) -> bool:
        """Whether the run is complete."""
        return (self.path / DONE).is_file()

    @property
    def result(self) -> Any:
        """What `mark_done` was given.

        Raises:
            UserError: the run is not done.
        """
        if not self.done:
            raise UserError(f"{self.path}: the run is not finished.", "Finish it with --resume.")
        return read_json(self.path / DONE)

    def mark_failed(self, reason: str) -> None:
        """The run ended early; a later `mark_done` takes this back.

        Args:
            reason: one sentence for the report, such as "loss is NaN at step 120".
        """
        self._metrics.close()
        write_json(self.path / FAILED, {"reason": reason})

    @property
    def failure(self) -> str | None:
        """Why the run ended early, or None."""
        if self.done or not (self.path / FAILED).is_file():
            return None
        return str(read_json(self.path / FAILED)["reason"])

    # Checkpoints

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints; it may not exist yet."""
        return self.path / "checkpoints"

    def checkpoint(self, step: int) -> Path:
        """The folder of one step's checkpoint, whether or not it exists."""
        return self.checkpoints / f"step-{step}"

    def checkpoint_steps(self) -> list[int]:
        """Steps with a complete checkpoint, ascending."""
        if not self.checkpoints.is_dir():
            return []
        found = (_STEP.fullmatch(entry.name) for entry in self.checkpoints.iterdir() if entry.is_dir())
        return sorted(int(match[1]) for match in found if match)

    @contextmanager
    def writing_checkpoint(self, step: int) -> Iterator[Path]:
        """A temporary folder to write a checkpoint into; it takes its name when the block ends without error.

        So a folder `step-N` is always complete, and has the checksums of its files. An earlier one of the same step is
        replaced.

        Raises:
            UserError: the disk is full; earlier checkpoints are kept, this one leaves no trace.
        """
        target = self.checkpoint(step)
        with disk_guard(target, 0):
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(dir=self.checkpoints, prefix=f".step-{step}."))
        try:
            yield temporary
            write_checksums(temporary)
            os.chmod(temporary, 0o755)
            for entry in temporary.rglob("*"):
                if entry.is_file():
                    _sync_file(entry)
            if target.exists():
                shutil.rmtree(target)
            os.replace(temporary, target)
            sync_folder(self.checkpoints)
        except BaseException as error:
            size = sum(entry.stat().st_size for entry in temporary.rglob("*") if entry.is_file())
            full = _is_full(error, temporary)
            shutil.rmtree(temporary, ignore_errors=True)
            if full:
                raise disk_full(target, size, at_least=True) from error
            raise

    def keep_checkpoints(self, last: int) -> None:
        """Delete all but the newest checkpoints, and what broken writes left.

        Args:
            last: how many are kept, 1 or more.
        """
        assert last >= 1, last
        for step in self.checkpoint_steps()[:-last]:
            shutil.rmtree(self.checkpoint(step))
        if self.checkpoints.is_dir():
            for entry in self.checkpoints.glob(".step-*"):
                shutil.rmtree(entry, ignore_errors=True)


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _is_full(error: BaseException, folder: Path) -> bool:
    """Whether a full disk lies behind an error; writers in compiled code say so in their own ways."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    if not isinstance(error, Exception) or isinstance(error, UserError):
        return False
    if "no space left" in str(error).lower() or "os error 28" in str(error).lower():
        return True
    # torch.save only says that a position in its stream is not the expected one: look at the disk itself.
    return isinstance(error, RuntimeError) and shutil.disk_usage(folder).free < 1 << 20
