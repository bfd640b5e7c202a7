"""Following a run's metrics while another process writes them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

__all__ = ["Tail"]


class Tail:
    """New rows of a JSON Lines file at each call; a file that was replaced is read from its beginning.

    Args:
        path: the file; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        """See the class."""
        self.path = path
        self._offset = 0
        self._inode = 0

    def rows(self) -> list[dict[str, Any]]:
        """Rows that were completed since the last call."""
        try:
            with self.path.open("rb") as file:
                inode = os.fstat(file.fileno()).st_ino
                if inode != self._inode:
                    self._inode, self._offset = inode, 0
                file.seek(self._offset)
                whole, newline, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return []
        if not newline:
            return []
        self._offset += len(whole) + 1
        found = []
        for line in whole.split(b"\n"):
            try:
                row = json.loads(line)
            except ValueError:
                continue  # a torn line that the worker mends when it goes on
            if isinstance(row, dict):
                found.append(row)
        return found
