"""An input: the files of a folder, by name; and how one is kept as a single readable file."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path

__all__ = ["Case", "case_of", "read_case", "write_case", "write_files"]

Case = dict[str, bytes]
"""File name inside the folder (no other folder's) to content."""


def write_files(case: Case, folder: Path) -> None:
    """Put the files into a folder that exists."""
    for name, content in case.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def case_of(folder: Path, *, most: int = 1 << 20) -> Case:
    """The files of a folder, large ones left out."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.stat().st_size <= most
    }


def write_case(path: Path, target: str, case: Case, why: str) -> None:
    """Keep an input: texts as texts, bytes packed."""
    files = {name: _said(content) for name, content in case.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"target": target, "why": why, "files": files}, indent=1, ensure_ascii=True)
    path.write_text(text + "\n", encoding="utf-8")


def read_case(path: Path) -> tuple[str, Case, str]:
    """Target, files, and what was wrong."""
    said = json.loads(path.read_text(encoding="utf-8"))
    return said["target"], {name: _meant(content) for name, content in said["files"].items()}, said["why"]


def _said(content: bytes) -> str | dict[str, str]:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = None
    if text is not None and len(text) < 4000 and "\0" not in text:
        return text
    return {"gzip": base64.b64encode(gzip.compress(content, mtime=0)).decode()}


def _meant(said: str | dict[str, str]) -> bytes:
    return said.encode() if isinstance(said, str) else gzip.decompress(base64.b64decode(said["gzip"]))
