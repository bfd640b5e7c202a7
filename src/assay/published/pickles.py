"""What a pickle would call, read off its opcodes: nothing is unpickled and nothing is executed."""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

__all__ = ["calls", "is_packed"]

MOST = 64 << 20
"""Bytes of a pickle that are looked at: those of weights are far smaller, since tensors lie beside them."""

NEEDED = ("collections.OrderedDict", "torch.", "numpy.", "_codecs.encode")
"""What weights are made of; the rest is foreign."""


def calls(path: Path) -> list[str]:
    """Globals that a file's pickles would look up and that no weights need, such as "posix.system", in order.

    Args:
        path: a zip archive as torch writes it, or one pickle after another (torch's older format, plain pickles).

    Returns:
        Names as "module.name"; empty where there are none, or where the file holds no pickle.
    """
    found: dict[str, None] = {}
    try:
        for name in _names(path):
            if not name.startswith(NEEDED):
                found[name] = None
    except Exception:  # a damaged pickle: what stands before the damage is what is known of it
        return list(found)
    return list(found)


def is_packed(path: Path) -> bool:
    """Whether a zip archive holds compressed entries, or entries that lie on one another: torch writes neither.

    The first would be mapped as if they were tensors, and of both a small file can unpack to any size.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return False  # its damage is told by whoever reads it
    stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
    return not stored or sum(entry.file_size for entry in entries) > path.stat().st_size


def _names(path: Path) -> Iterator[str]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if entry.filename.endswith(".pkl") and entry.file_size <= MOST:
                    with archive.open(entry) as file:
                        yield from _globals(file)
        return
    with path.open("rb") as file:
        while file.peek(1) and file.tell() < MOST:
            yield from _globals(file)


def _globals(file: IO[bytes]) -> Iterator[str]:
    """Globals of one pickle. STACK_GLOBAL takes its two names from the stack: the last two texts pushed."""
    texts: list[str] = []
    memo: dict[int, str] = {}
    for opcode, argument, _ in pickletools.genops(file):
        name = opcode.name
        if name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".")
        elif name == "STACK_GLOBAL":
            yield ".".join(texts[-2:])
        elif name in ("MEMOIZE",):
            memo[len(memo)] = texts[-1] if texts else ""
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[int(argument or 0)] = texts[-1] if texts else ""
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            texts.append(memo.get(int(argument or 0), ""))
        elif isinstance(argument, str):
            texts.append(argument)
