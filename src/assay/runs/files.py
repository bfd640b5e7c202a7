"""Single files, written so that a crash or a full disk costs nothing that was there before."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from assay.errors import UserError
from assay.spec.plain import parse_json

__all__ = [
    "content_hash",
    "disk_full",
    "disk_guard",
    "plain",
    "read_json",
    "restore",
    "sync_folder",
    "write_bytes",
    "write_json",
    "write_text",
]

#: JSON has no non-finite numbers; they are written as these strings (as protobuf's JSON does) and read back.
_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def plain(value: Any) -> Any:
    """Plain JSON data that says the same as arrays, scalars, paths, enums, dataclasses or models.

    Non-finite numbers become "NaN", "Infinity", "-Infinity", as JSON has none; `restore` turns them back.

    Raises:
        TypeError: a value that JSON cannot hold.
    """
    if value is None or (isinstance(value, bool | int) and not isinstance(value, Enum)):
        return value
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(key.value if isinstance(key, Enum) else key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(plain(item) for item in value)
    if isinstance(value, Path):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if hasattr(value, "model_dump"):
        return plain(value.model_dump(mode="json"))
    if hasattr(value, "tolist"):  # NumPy arrays and scalars, torch tensors
        return plain(value.tolist())
    raise TypeError(f"{type(value).__name__} cannot be written as JSON: {value!r}")


def restore(value: Any) -> Any:
    """What `plain` made of non-finite numbers, turned back into floats, at any depth."""
    if isinstance(value, str):
        return _NON_FINITE.get(value, value)
    if isinstance(value, list):
        return [restore(item) for item in value]
    if isinstance(value, dict):
        return {key: restore(item) for key, item in value.items()}
    return value


def content_hash(value: Any) -> str:
    """16 hexadecimal digits that depend on the content alone.

    SHA-256 over canonical JSON (sorted keys, no white space, UTF-8): equal data in any order of its fields,
    in any process, on any machine give the same digits; NumPy values hash as the numbers that they hold.

    Raises:
        TypeError: a value that JSON cannot hold.
    """
    canonical = json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


@contextmanager
def disk_guard(path: Path, size: int) -> Iterator[None]:
    """Turn a full, read-only or forbidden disk, met inside, into one clear message.

    Args:
        path: the file being written.
        size: the bytes being written.

    Raises:
        UserError: naming the file, the bytes and the remedy. Other errors pass unchanged.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(path, size) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise UserError(
                f"{path}: cannot be written ({error.strerror}).",
                "Give a folder that you may write to (--out DIR).",
            ) from error
        raise


def disk_full(path: Path, size: int, *, at_least: bool = False) -> UserError:
    """The error to raise where bytes for a file found no room.

    Args:
        path: the file, or the folder of a checkpoint.
        size: the bytes that were to be written.
        at_least: `size` is only what was written when the room ended.
    """
    amount = f"more than {size:,} bytes" if at_least and size else f"{size:,} bytes" if size else "the file"
    free = "unknown"
    with suppress(OSError):
        free = f"{shutil.disk_usage(path.parent).free:,}"
    return UserError(
        f"{path}: the disk is full: {amount} could not be written ({free} bytes are free).",
        "Free some space, or give a folder on another disk (--out DIR); what was written before is kept, and "
        "--resume goes on from there.",
    )


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically: a reader, or a crash, sees the old content or the new, no mixture.

    The bytes go into a temporary file in the same folder, reach the disk (fsync) and take the name at once.

    Raises:
        UserError: the disk is full or may not be written to; the earlier content is kept.
    """
    with disk_guard(path, len(data)):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o666 & ~_umask())  # mkstemp makes files private
            os.replace(name, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(name)
            raise
        sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file atomically; see `write_bytes`."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write data as indented JSON atomically; what `plain` understands may be in it. See `write_bytes`."""
    write_text(path, json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Data from a JSON file, non-finite numbers restored.

    Raises:
        UserError: no such file, or it does not hold JSON.
    """
    try:
        return restore(parse_json(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file.", "Give a folder that assay wrote, or run the study again.") from None
    except ValueError as error:
        raise UserError(
            f"{path}: does not hold valid JSON ({error}).",
            "Delete it (or the run's folder) and run the same command with --resume: it is made anew.",
        ) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).", "Check the path and its rights.") from None


def sync_folder(folder: Path) -> None:
    """Bring a folder's list of names to the disk, where the system can."""
    with suppress(OSError):  # some file systems, and Windows, do not open folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
