"""Files on their way between machines: what changed under some paths, and putting it in place elsewhere.

A worker on another machine sees the tree that it works in under a root of its own: `/tmp/assay-x1/home/ann/out/runs/1a`
is `/home/ann/out/runs/1a` of the machine that holds the study. Parcels name files as the latter does, and the root is
taken out of their content too (a message may name a file).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from assay.runs.files import write_bytes

__all__ = ["Parcel", "Watch", "clear", "pack", "under", "unpack"]

GROWING = (".jsonl", ".log")
"""Files that are added to at the end: only what is new travels."""
WEIGHTS = ".safetensors"
LOOKS = 5
"""Times that files are looked at until two looks agree."""


@dataclass
class Parcel:
    """Changes to files, in the order in which they were made."""

    whole: dict[str, bytes] = field(default_factory=dict)
    """Path to content."""
    more: dict[str, bytes] = field(default_factory=dict)
    """Path to what is added at its end."""
    gone: list[str] = field(default_factory=list)
    """Files that are there no longer."""

    def __bool__(self) -> bool:
        """Whether anything changed."""
        return bool(self.whole or self.more or self.gone)


class _Look(NamedTuple):
    inode: int
    size: int
    time: int


def pack(paths: Sequence[Path]) -> Parcel:
    """All that is under some paths, whole."""
    return Parcel({str(path): path.read_bytes() for path in _files(paths)})


class Watch:
    """Changes under some paths since the last call.

    Args:
        paths: files and folders, as their own machine names them; they need not exist. Hidden files are passed over:
            they are what an atomic write has not finished.
        root: under which they lie here.
    """

    def __init__(self, paths: Sequence[Path], root: Path) -> None:
        """What is there now is known; what comes is told."""
        self._root, self._paths = root, [under(root, path) for path in paths]
        self._known = self._look()

    def changes(self, *, last: bool = False) -> Parcel:
        """What has changed. Of a growing file whole lines alone, but for the `last` time.

        Files that change while they are read (a checkpoint that makes room for the next one) are left for another time.
        """
        for _ in range(LOOKS):
            now = self._look()
            found, parcel = self._gather(now, last=last)
            if parcel is not None and _settled(now, self._look()):
                self._known = found
                return parcel
        return Parcel()

    def _gather(self, now: dict[Path, _Look], *, last: bool) -> tuple[dict[Path, _Look], Parcel | None]:
        """What will be known, and the changes; None where a file went away meanwhile."""
        known, parcel = dict(now), Parcel()
        for path, look in sorted(now.items(), key=lambda item: item[1].time):
            before = self._known.get(path)
            if before == look:
                continue
            grown = path.suffix in GROWING and before is not None and before.inode == look.inode
            start = before.size if grown and before is not None and before.size <= look.size else 0
            try:
                with path.open("rb") as file:
                    file.seek(start)
                    content = file.read()
            except FileNotFoundError:
                return known, None
            if path.suffix in GROWING:
                content = content if last else content[: content.rfind(b"\n") + 1]
                known[path] = look._replace(size=start + len(content))  # it may have grown since it was looked at
                if grown and not content:
                    continue
            if path.suffix != WEIGHTS:
                content = content.replace(str(self._root).encode(), b"")
            (parcel.more if start else parcel.whole)[self._name(path)] = content
        parcel.gone = [self._name(path) for path in self._known if path not in now]
        return known, parcel

    def _look(self) -> dict[Path, _Look]:
        found = {}
        for path in _files(self._paths):
            with suppress(FileNotFoundError):
                stat = path.stat()
                found[path] = _Look(stat.st_ino, stat.st_size, stat.st_mtime_ns)
        return found

    def _name(self, path: Path) -> str:
        return str(path).removeprefix(str(self._root))


def unpack(parcel: Parcel, root: Path = Path("/")) -> None:
    """Make the changes of a parcel, below a root. A folder that is new appears whole or not at all.

    Raises:
        UserError: the disk is full or may not be written to.
    """
    for name, content in parcel.more.items():
        with under(root, name).open("ab") as file:
            file.write(content)
    groups: dict[Path, list[tuple[Path, bytes]]] = {}
    for name, content in parcel.whole.items():
        path = under(root, name)
        missing = [folder for folder in path.parents if not folder.exists()]
        groups.setdefault(missing[-1] if missing else path, []).append((path, content))
    for target, files in groups.items():
        if files[0][0] == target:
            write_bytes(target, files[0][1])
            continue
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        for path, content in files:
            write_bytes(aside / path.relative_to(target), content)
        os.chmod(aside, 0o755)
        os.replace(aside, target)
    for name in parcel.gone:
        path = under(root, name)
        path.unlink(missing_ok=True)
        with suppress(OSError):  # others are in it
            path.parent.rmdir()


def under(root: Path, path: str | Path) -> Path:
    """An absolute path of the study's machine, below a root."""
    return root / str(path).lstrip("/")


def _settled(before: dict[Path, _Look], after: dict[Path, _Look]) -> bool:
    """Whether nothing but growing files changed between two looks."""
    a, b = ({p: look for p, look in looks.items() if p.suffix not in GROWING} for looks in (before, after))
    return a == b


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_file():
            yield path
            continue
        for folder, inner, names in os.walk(path):
            inner[:] = sorted(name for name in inner if not name.startswith("."))
            yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))


def clear(root: Path) -> None:
    """Remove all that lies below a root."""
    for entry in root.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
