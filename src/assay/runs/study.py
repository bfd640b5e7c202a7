"""The folder of a study: its description, its runs, its results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from assay.errors import UserError
from assay.runs.files import read_json, write_json, write_text
from assay.runs.folder import RUN, RunFolder

__all__ = ["StudyFolder"]


class StudyFolder:
    """A study on disk: `study.toml  report.html  results.json  runs/<hash>/...`.

    Nothing is read or made before it is asked for.

    Args:
        path: the folder.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: str | Path) -> None:
        """See the class."""
        self.path = Path(path)

    @classmethod
    def open(cls, path: str | Path) -> StudyFolder:
        """The study in a folder that must hold one or more runs.

        Raises:
            UserError: there are no runs, with what would work.
        """
        folder = cls(path)
        if folder.runs():
            return folder
        if not folder.path.is_dir():
            raise UserError(f"{path}: no such folder.", "Give the --out folder of an assay study.")
        if (folder.path / RUN).is_file():
            raise UserError(
                f"{path}: this is one run, not a study.",
                f"Give the study's folder, {folder.path.resolve().parent.parent}.",
            )
        raise UserError(
            f"{path}: there are no runs here (no runs/<hash>/run.json).",
            "Give the --out folder of an assay study, or make one: assay compare --out DIR.",
        )

    def __repr__(self) -> str:
        """The folder and how many of its runs are done."""
        runs = self.runs()
        return f"StudyFolder({str(self.path)!r}, {sum(run.done for run in runs)} of {len(runs)} runs done)"

    def run(self, name: str) -> RunFolder:
        """The folder of the run with this hash, whether or not it exists."""
        return RunFolder(self.path / "runs" / name)

    def runs(self) -> list[RunFolder]:
        """All runs that have begun (those with a run.json), sorted by name."""
        return [RunFolder(file.parent) for file in sorted((self.path / "runs").glob(f"*/{RUN}"))]

    def done(self) -> list[RunFolder]:
        """The runs that are complete."""
        return [run for run in self.runs() if run.done]

    def unfinished(self) -> list[RunFolder]:
        """The runs that have begun and are not complete."""
        return [run for run in self.runs() if not run.done]

    @property
    def study_toml(self) -> str:
        """The text of study.toml.

        Raises:
            UserError: there is none.
        """
        file = self.path / "study.toml"
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{file}: cannot be read ({error}).", "Give the --out folder of an assay study.") from None

    def write_study(self, text: str) -> None:
        """Write study.toml atomically.

        Raises:
            UserError: the disk is full or forbids writing.
        """
        write_text(self.path / "study.toml", text)

    @property
    def results(self) -> Any:
        """The data of results.json.

        Raises:
            UserError: there is none yet, or it is damaged.
        """
        return read_json(self.path / "results.json")

    def write_results(self, results: Any) -> None:
        """Write results.json atomically.

        Raises:
            UserError: the disk is full or forbids writing; the earlier content is kept.
        """
        write_json(self.path / "results.json", results)

    @property
    def report(self) -> Path:
        """The path of report.html; it may not exist yet."""
        return self.path / "report.html"
