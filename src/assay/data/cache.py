"""A cache addressed by content: entries are written atomically, believed when their checksum holds."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

__all__ = ["cache_dir", "cached_bytes", "read_checked", "write_atomic", "write_checked"]


def cache_dir() -> Path:
    """The cache folder: `ASSAY_CACHE`, else the platform's place for caches. It may not exist yet."""
    given = os.environ.get("ASSAY_CACHE")
    if given:
        return Path(given).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "assay" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "assay"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "assay"


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all.

    Raises:
        OSError: the folder cannot be written or the disk is full; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def write_checked(path: Path, content: bytes) -> None:
    """Write `content` after a line with its sha256. Raises OSError as `write_atomic` does."""
    write_atomic(path, hashlib.sha256(content).hexdigest().encode() + b"\n" + content)


def read_checked(path: Path) -> bytes | None:
    """Content written by `write_checked`, or None where it is missing, torn or changed."""
    try:
        digest, found, content = path.read_bytes().partition(b"\n")
    except OSError:
        return None
    if not found or hashlib.sha256(content).hexdigest().encode() != digest:
        return None
    return content


def cached_bytes(kind: str, key: str, build: Callable[[], bytes]) -> bytes:
    """`build()`'s result, from the cache where an intact entry has this key.

    A cache that cannot be written costs time, not the work: that is a warning, never an error.

    Args:
        kind: folder of the entry ("tokenizer").
        key: hexadecimal hash of everything that the result depends on.
        build: makes the content.
    """
    path = cache_dir() / kind / key
    content = read_checked(path)
    if content is None:
        content = build()
        try:
            write_checked(path, content)
        except OSError as error:
            warnings.warn(
                f"{path}: cannot be written ({error.strerror or error}), so this work will be done again "
                "next time. Free some space, or set ASSAY_CACHE to a folder that can be written.",
                stacklevel=2,
            )
    return content
