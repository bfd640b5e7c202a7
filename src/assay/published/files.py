"""Which files hold a checkpoint's weights, and the headers of safetensors; read without torch.

Header of a safetensors file: 8 bytes little-endian length, then JSON: name -> dtype, shape, data_offsets.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from assay.errors import UserError
from assay.spec.plain import parse_json

__all__ = ["Entry", "Files", "header", "weight_files"]

AGAIN = "Download the file again."
BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
    "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "U32": 4, "U64": 8,
}  # fmt: skip
LONGEST = 100_000_000
"""Bytes of a header; safetensors itself allows no more."""

LONGEST_NAME = 255
"""Bytes of a file's name: file systems allow no more."""

PICKLES = (".bin", ".pt", ".pth")
NOT_WEIGHTS = {"expected.safetensors", "optimizer.safetensors", "optimizer.pt", "training_args.bin", "scheduler.pt"}


@dataclass(frozen=True)
class Entry:
    """One tensor in a file."""

    file: Path
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Files:
    """The files of one checkpoint: `ranks` holds one tuple a tensor-parallel rank (one rank: not cut)."""

    ranks: tuple[tuple[Path, ...], ...]
    listed: dict[str, Path] | None = None
    """Tensors by an index's own account."""

    @property
    def all(self) -> tuple[Path, ...]:
        """Every file."""
        return tuple(path for rank in self.ranks for path in rank)


def header(path: Path) -> dict[str, Entry]:
    """Names, shapes and types of a safetensors file, checked against its size.

    Raises:
        UserError: truncated, corrupt, or no safetensors file at all.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, LONGEST):
                raise UserError(f"{path}: truncated, or not a safetensors file ({size} bytes).", AGAIN)
            fields = parse_json(file.read(length))
    except OSError as error:
        raise UserError(f"{path}: cannot be opened ({error.strerror or error}).", "Check the path.") from None
    except ValueError:
        raise UserError(f"{path}: its header is corrupt.", AGAIN) from None
    if not isinstance(fields, dict):
        raise UserError(f"{path}: its header is corrupt.", AGAIN)
    fields.pop("__metadata__", None)
    entries, room = {}, size - 8 - length
    for name, said in fields.items():
        entries[name] = _entry(path, name, said, room)
    end = max((said["data_offsets"][1] for said in fields.values()), default=0)
    if end != room:
        raise UserError(f"{path}: {room} bytes of data where its header tells of {end}; it is corrupt.", AGAIN)
    return entries


def _entry(path: Path, name: str, said: Any, room: int) -> Entry:
    try:
        kind, shape, (begin, end) = said["dtype"], tuple(said["shape"]), said["data_offsets"]
        whole = all(type(number) is int and 0 <= number < 1 << 63 for number in (*shape, begin, end))
        sound = whole and begin <= end and end - begin == BYTES.get(kind, 0) * math.prod(shape)
    except (KeyError, TypeError, ValueError):
        sound, kind, shape, end = False, "", (), 0
    if kind and kind not in BYTES:
        raise UserError(f"{path}: tensor {name} is of type {kind}, which is not supported.")
    if not sound:
        raise UserError(f"{path}: its entry for tensor {name} is corrupt.", AGAIN)
    if end > room:
        raise UserError(f"{path}: truncated: tensor {name} ends {end - room} bytes past the file's end.", AGAIN)
    return Entry(path, shape, kind)


def weight_files(folder: Path) -> Files | None:
    """The weights in a folder: safetensors before pickles, an index before a single file; None: there are none.

    Raises:
        UserError: an index that is damaged, points outside the folder, or names a file that is not there.
    """
    for stem, suffix in (("model", ".safetensors"), ("pytorch_model", ".bin")):
        index, single = folder / f"{stem}{suffix}.index.json", folder / f"{stem}{suffix}"
        if single.is_file() and not index.is_file():
            return Files(((single,),))
        if index.is_file():
            return _indexed(index)
    ranks = _ranks(folder)
    if ranks:
        return Files(tuple((path,) for path in ranks))
    loose = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix in (".safetensors", *PICKLES) and path.name not in NOT_WEIGHTS
    ]
    if len(loose) > 1:
        raise UserError(
            f"{folder}: {len(loose)} files of weights ({loose[0].name}, {loose[1].name}, ...) and no index.",
            "Name the whole one model.safetensors, or add model.safetensors.index.json.",
        )
    return Files((tuple(loose),)) if loose else None


def _ranks(folder: Path) -> list[Path]:
    """Files cut over ranks: Meta's consolidated.NN.pth, or Megatron's <iteration>/mp_rank_NN_model_states.pt."""
    meta = sorted(folder.glob("consolidated.[0-9][0-9].pth"))
    if meta:
        return _whole(folder, meta, r"consolidated\.(\d+)\.pth")
    latest = folder / "latest"
    if not latest.is_file():
        return []
    try:
        iteration = latest.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{latest}: cannot be read as text ({error}).", AGAIN) from None
    inner = folder / _inside(latest, iteration)
    found = sorted(inner.glob("mp_rank_[0-9][0-9]_model_states.pt"))
    if not found:
        raise UserError(f"{latest}: names iteration {iteration!r}, and {inner} holds no mp_rank_NN_model_states.pt.")
    return _whole(folder, found, r"mp_rank_(\d+)_model_states\.pt")


def _whole(folder: Path, found: list[Path], pattern: str) -> list[Path]:
    numbers = [int(match[1]) for path in found if (match := re.fullmatch(pattern, path.name))]
    missing = sorted(set(range(max(numbers) + 1)) - set(numbers))
    if missing:
        raise UserError(f"{folder}: rank {missing[0]} is missing beside {found[-1].name}.", "Add its file.")
    return found


def _indexed(index: Path) -> Files:
    try:
        where = parse_json(index.read_text(encoding="utf-8"))["weight_map"]
        listed = {str(name): str(file) for name, file in where.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{index}: is no index of weights (an object with weight_map).", AGAIN) from None
    files = {file: index.parent / _inside(index, file) for file in sorted(set(listed.values()))}
    for file, path in files.items():
        if not path.is_file():
            raise UserError(f"{index}: names {file}, which is not there.", f"Download {file} into {index.parent}.")
    return Files((tuple(files.values()),), {name: files[file] for name, file in listed.items()})


def _inside(place: Path, name: str) -> PurePosixPath:
    """A relative path that stays in its folder; a checkpoint may not send the reader elsewhere."""
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or any(mark in name for mark in "\\:\0"):
        raise UserError(f"{place}: names {name!r}, which lies outside of its folder; refused.", "Do not trust it.")
    if not name.isprintable() or max(map(len, map(os.fsencode, path.parts)), default=0) > LONGEST_NAME:
        raise UserError(f"{place}: names {name!r}, which is no file's name; it is corrupt.", AGAIN)
    return path
