"""The metrics of a run: JSON Lines, appended to while it goes on, read back after any kind of end."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from assay.errors import UserError
from assay.runs.files import disk_guard, plain, restore, write_bytes
from assay.spec.plain import parse_json

__all__ = ["MetricsFile"]


class MetricsFile:
    """One run's rows of metrics, one JSON object a line.

    Each row reaches the operating system whole before `append` returns, so a killed process loses none. A
    torn last line (power cut, full disk) is left out on reading and cut off before the next append. One
    process writes; any number read at the same time.

    Args:
        path: the file; it and its folder come into being with the first row.
    """

    def __init__(self, path: Path) -> None:
        """See the class."""
        self.path = path
        self._descriptor: int | None = None

    def append(self, row: dict[str, Any]) -> None:
        """Add a row; NumPy and torch scalars and non-finite numbers may be in it.

        Raises:
            UserError: the disk is full or forbids writing; the rows before are kept whole.
        """
        line = json.dumps(plain(row), ensure_ascii=False, allow_nan=False).encode() + b"\n"
        with disk_guard(self.path, len(line)):
            if self._descriptor is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._mend()
                self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            before = os.fstat(self._descriptor).st_size
            try:
                written = 0
                while written < len(line):
                    written += os.write(self._descriptor, line[written:])
            except OSError:
                with suppress(OSError):
                    os.ftruncate(self._descriptor, before)
                raise

    def rows(self) -> list[dict[str, Any]]:
        """All rows, in order; none where there is no file. A torn last line is left out.

        Raises:
            UserError: a line before the last does not hold a JSON object.
        """
        return [row for row, _ in self._parse()[0]]

    def truncate(self, after_step: int) -> None:
        """Drop the rows whose `step` is beyond `after_step`: what a resumed run will write again.

        The file is replaced atomically. Rows without a `step` are kept.

        Raises:
            UserError: a line before the last does not hold a JSON object, or the disk is full.
        """
        self.close()
        if not self.path.exists():
            return
        kept = [line + b"\n" for row, line in self._parse()[0] if row.get("step", after_step) <= after_step]
        write_bytes(self.path, b"".join(kept))

    def close(self) -> None:
        """Bring the rows to the disk and let go of the file; a later append opens it again."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            with disk_guard(self.path, 0):
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)

    def __getstate__(self) -> dict[str, Any]:
        """A copy in another process opens the file for itself."""
        return {"path": self.path, "_descriptor": None}

    def _parse(self) -> tuple[list[tuple[dict[str, Any], bytes]], int]:
        """(rows with the line of each, bytes up to the end of the last whole row)."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return [], 0
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read ({error.strerror}).", "Check the path.") from None
        found: list[tuple[dict[str, Any], bytes]] = []
        end = 0
        lines = data.split(b"\n")
        for number, line in enumerate(lines, 1):
            if not line.strip():
                end += len(line) + 1
                continue
            try:
                row = parse_json(line)
                if not isinstance(row, dict):
                    raise ValueError("not a JSON object")
            except ValueError as error:  # JSONDecodeError and UnicodeDecodeError too
                if any(rest.strip() for rest in lines[number:]):
                    raise UserError(
                        f"{self.path}: line {number} is not a row of metrics ({error}).",
                        "Delete that line, or the run's folder, and run the command again with --resume.",
                    ) from None
                return found, end
            found.append((restore(row), line))
            end += len(line) + 1
        return found, min(end, len(data))

    def _mend(self) -> None:
        """Cut a torn last line off, or end a whole last line, before anything is appended."""
        if not self.path.is_file():
            return
        _, end = self._parse()
        with self.path.open("r+b") as file:
            file.truncate(end)
            if end:
                file.seek(end - 1)
                if file.read(1) != b"\n":
                    file.write(b"\n")
