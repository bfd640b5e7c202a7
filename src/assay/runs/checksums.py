"""What a folder's files were when they were written, so that a flipped bit is found before it is trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from assay.errors import UserError
from assay.runs.files import read_json, write_json

__all__ = ["CHECKSUMS", "verify_files", "write_checksums"]

CHECKSUMS = "checksums.json"
"""File name to the SHA-256 of its content."""


def write_checksums(folder: Path) -> None:
    """Write CHECKSUMS over every file that lies in a folder.

    Raises:
        UserError: the disk is full.
    """
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_file() and entry.name != CHECKSUMS)
    write_json(folder / CHECKSUMS, {name: _digest(folder / name) for name in names})


def verify_files(folder: Path, names: Iterable[str] | None = None) -> None:
    """Compare files with what was written; a folder without CHECKSUMS (of an earlier version) is believed.

    Nothing older is taken in a damaged checkpoint's place: a disk that loses bits is for its owner to know of.

    Args:
        folder: of a checkpoint.
        names: the files that will be read; None: all that were written.

    Raises:
        UserError: a file is missing, has another size or other content, naming it and what helps.
    """
    if not (folder / CHECKSUMS).is_file():
        return
    known = read_json(folder / CHECKSUMS)
    for name in known if names is None else names:
        file = folder / name
        try:
            wrong = "" if _digest(file) == known.get(name) else "its content has changed since it was written"
        except FileNotFoundError:
            wrong = "it was written and is gone"
        except OSError as error:
            wrong = f"it cannot be read ({error.strerror or error})"
        if wrong:
            raise UserError(
                f"{file}: {wrong} (wrong SHA-256).",
                f"Put a good copy there, or delete the folder {folder}: with --resume the run then goes on from an "
                "earlier checkpoint, or begins anew where there is none.",
            )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
