"""The GGUF container (version 2 and 3), read without torch and without the `gguf` package.

Layout: magic, version, number of tensors, number of metadata entries, the entries (name, type, value), one record a
tensor (name, dimensions innermost first, type, offset), then the data, aligned. Source: the format's own document,
docs/gguf.md in the ggml repository.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.errors import UserError
from assay.published.files import AGAIN

__all__ = ["BLOCKS", "GGUF", "Stored"]

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Types of metadata values, as `struct` writes them."""
TEXT, ARRAY = 8, 9

BLOCKS: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136), 28: ("F64", 1, 8), 29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
}  # fmt: skip
"""Types of tensors: name, elements a block, bytes a block."""

MOST = 1 << 28
"""More entries than any file has: a count above it is damage."""
DEEPEST = 16
"""Arrays within arrays; files have one."""


@dataclass(frozen=True)
class Stored:
    """One tensor in the file."""

    name: str
    shape: tuple[int, ...]
    """Outermost axis first, as elsewhere here."""
    kind: int
    begin: int
    """Byte where its data begins in the file."""
    size: int
    """Bytes."""


@dataclass(frozen=True)
class GGUF:
    """Metadata and tensor records of a file."""

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, Stored]

    @classmethod
    def read(cls, path: Path) -> GGUF:
        """The header, checked against the file's size.

        Raises:
            UserError: no GGUF file, an unsupported version or tensor type, or a truncated or damaged file.
        """
        try:
            with path.open("rb") as file:
                data = _mapped(file)
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: cannot be opened ({error}).", "Check the path.") from None
        return _Reader(path, data).whole()


def _mapped(file: Any) -> memoryview:
    import mmap

    return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


class _Reader:
    """A cursor over the file's bytes."""

    def __init__(self, path: Path, data: memoryview) -> None:
        self.path, self.data, self.at, self.depth = path, data, 0, 0

    def whole(self) -> GGUF:
        if bytes(self.data[:4]) != b"GGUF":
            raise UserError(f"{self.path}: is no GGUF file (it begins with {bytes(self.data[:4])!r}).", AGAIN)
        self.at = 4
        version = self.scalar("I")
        if version not in (2, 3):
            why = "big-endian" if version in (2 << 24, 3 << 24) else f"version {version}"
            raise UserError(f"{self.path}: GGUF of {why} is not supported.", "Use a little-endian file of version 3.")
        tensors, entries = self.count(), self.count()
        metadata = {self.text(): self.value(self.scalar("I")) for _ in range(entries)}
        records = [self.record() for _ in range(tensors)]
        align = metadata.get("general.alignment", 32)
        if not isinstance(align, int) or align < 1:
            raise self.damaged(f"general.alignment is {align!r}")
        begin = -(-self.at // align) * align
        found = {name: self.stored(name, shape, kind, begin + offset) for name, shape, kind, offset in records}
        if len(found) != tensors:
            raise self.damaged("a tensor stands there twice")
        return GGUF(self.path, metadata, found)

    def stored(self, name: str, shape: tuple[int, ...], kind: int, begin: int) -> Stored:
        if kind not in BLOCKS:
            raise UserError(
                f"{self.path}: tensor {name} is of the GGUF type {kind}, which is not supported.",
                "Use a file in F16, BF16, Q8_0, Q4_K or another common type.",
            )
        label, elements, width = BLOCKS[kind]
        if not shape or shape[-1] % elements or not all(shape):
            raise self.damaged(f"tensor {name} of type {label} has shape {list(shape)}")
        size = math.prod(shape) // elements * width
        if begin + size > len(self.data):
            beyond = begin + size - len(self.data)
            raise UserError(f"{self.path}: truncated: tensor {name} ends {beyond} bytes past the file's end.", AGAIN)
        return Stored(name, shape, kind, begin, size)

    def record(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self.text()
        axes = self.scalar("I")
        if axes > 4:
            raise self.damaged(f"tensor {name} has {axes} axes")
        shape = tuple(self.scalar("Q") for _ in range(axes))[::-1]
        return name, shape, self.scalar("I"), self.scalar("Q")

    def value(self, kind: int) -> Any:
        if kind in SCALARS:
            return self.scalar(SCALARS[kind])
        if kind == TEXT:
            return self.text()
        if kind != ARRAY:
            raise self.damaged(f"a metadata value has the unknown type {kind}")
        inner, number = self.scalar("I"), self.count()
        if inner == ARRAY:
            self.depth += 1
            if self.depth > DEEPEST:
                raise self.damaged(f"arrays nested deeper than {DEEPEST} levels")
        if inner in SCALARS:
            letter = SCALARS[inner]
            raw = self.take(number * struct.calcsize("<" + letter))
            return list(struct.unpack(f"<{number}{letter}", raw))
        found = [self.value(inner) for _ in range(number)]
        self.depth -= inner == ARRAY
        return found

    def text(self) -> str:
        return bytes(self.take(self.count())).decode("utf-8", errors="replace")

    def count(self) -> int:
        number: int = self.scalar("Q")
        if number > MOST:
            raise self.damaged(f"a count of {number}")
        return number

    def scalar(self, letter: str) -> Any:
        return struct.unpack("<" + letter, self.take(struct.calcsize("<" + letter)))[0]

    def take(self, size: int) -> memoryview:
        end = self.at + size
        if end > len(self.data):
            raise UserError(f"{self.path}: truncated: its header goes past the file's {len(self.data)} bytes.", AGAIN)
        piece = self.data[self.at : end]
        self.at = end
        return piece

    def damaged(self, what: str) -> UserError:
        return UserError(f"{self.path}: corrupt: {what}.", AGAIN)
