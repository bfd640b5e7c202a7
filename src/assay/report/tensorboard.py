"""A run's metrics as TensorBoard's events, by tensorboard's own writer; torch is not needed.

Events are made from the rows of metrics.jsonl alone. A resumed run writes them anew from its first row, so that
nothing is there twice, and what was lost with a killed process is there again.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from assay.errors import UserError
from assay.runs import RunFolder, StudyFolder

__all__ = ["FOLDER", "EventsWriter", "convert"]

FOLDER = "tensorboard"
"""Where events lie in a run's or a study's folder."""
TAGS = {
    "train": {
        "loss": "train/loss",
        "lr": "train/learning_rate",
        "grad_norm": "train/gradient_norm",
        "tokens_per_second": "train/tokens_per_second",
        "tokens": "train/supervised_tokens",
        "flops": "train/flops",
    },
    "eval": {
        "bits_per_byte": "eval/bits_per_byte",
        "nats_per_token": "eval/nats_per_token",
        "masked_nats_per_token": "eval/masked_nats_per_token",
    },
    "event": {"skipped": "train/skipped_batches"},
}
"""Kind of row to its fields and their tags."""


class EventsWriter:
    """Events of one run, row by row. A context manager; nothing is written before the first row.

    Args:
        run: whose metrics they are.
        target: folder of the event files; None: FOLDER in the run's. Event files that lie there are replaced.

    Raises:
        UserError: tensorboard is not installed.
    """

    def __init__(self, run: RunFolder | Path, target: Path | None = None) -> None:
        """See the class."""
        if find_spec("tensorboard") is None:
            raise UserError("tensorboard: this package is missing.", "Install it: pip install 'assay[tensorboard]'.")
        self.run = run if isinstance(run, RunFolder) else RunFolder(run)
        self.target = target or self.run.path / FOLDER
        self._writer: Any = None
        self._began = 0.0

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Bring all of it to the disk."""
        self.close()

    def update(self, row: dict[str, Any]) -> None:
        """Take a row that has just been added to the metrics; the first call takes all rows that are there."""
        if self._writer is None:
            self._anew()
        else:
            self._add(row)

    def close(self) -> None:
        """End the files; a run whose rows were all there before is written now."""
        if self._writer is None and (self.run.path / "run.json").is_file():
            self._anew()
        if self._writer is not None:
            self._writer.close()

    def _anew(self) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        for old in self.target.glob("events.out.tfevents.*"):
            old.unlink()
        began = self.run.read_json("run.json").get("provenance", {}).get("time")
        self._began = datetime.fromisoformat(began).timestamp() if began else 0.0
        self._writer = EventFileWriter(str(self.target))
        for row in self.run.metrics():
            self._add(row)

    def _add(self, row: dict[str, Any]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=tag, simple_value=float(value)) for tag, value in _scalars(row)]
        if values:
            # Seconds of training, not of the clock: curves of a run that was broken off show no hole.
            when = self._began + float(row.get("seconds", 0.0))
            self._writer.add_event(Event(wall_time=when, step=int(row["step"]), summary=Summary(value=values)))


def convert(path: str | Path) -> list[Path]:
    """Write the events of finished or unfinished runs.

    Args:
        path: a run's folder, or a study's, whose events go to its own FOLDER, one folder a run, named by labels and
            seed.

    Returns:
        The folders written.

    Raises:
        UserError: neither is there, or tensorboard is not installed.
    """
    folder = Path(path)
    if (folder / "run.json").is_file():
        return [_convert(RunFolder.open(folder), folder / FOLDER)]
    if not folder.is_dir():
        raise UserError(f"{path}: no such folder.", "Give a run's folder, OUT/runs/<hash>, or a study's, OUT.")
    runs = StudyFolder.open(folder).runs()
    return [_convert(run, folder / FOLDER / name) for run, name in zip(runs, _names(runs), strict=True)]


def _convert(run: RunFolder, target: Path) -> Path:
    with EventsWriter(run, target):
        pass
    return target


def _names(runs: list[RunFolder]) -> Iterator[str]:
    """What a study's runs are called: values of the axes and seed; the hash besides where that is not one run's."""
    names = []
    for run in runs:
        about = run.read_json("run.json")
        said = "-".join([*map(str, (about.get("labels") or {}).values()), f"seed{about.get('seed', 0)}"])
        names.append("".join(c if c.isalnum() or c in "._-=" else "_" for c in said))
    for run, name in zip(runs, names, strict=True):
        yield name if names.count(name) == 1 else f"{name}-{run.name}"


def _scalars(row: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for field, tag in TAGS.get(str(row.get("kind")), {}).items():
        if isinstance(row.get(field), int | float):
            yield tag, row[field]
