"""Binary formats taken apart, changed where their structure is, and put together again, consistent or not."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tools.fuzz.mutate import NUMBERS, TEXTS, blind, dumped, tree

__all__ = ["Gguf", "protobuf", "safetensors", "zipped"]


def safetensors(rng: random.Random, content: bytes) -> bytes:
    """A safetensors file with another header, other lengths, or other data."""
    if rng.random() < 0.15:
        return blind(rng, content)
    length = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    names = [name for name in header if name != "__metadata__"]
    for _ in range(rng.choice((1, 1, 2, 3))):
        header = _entry(rng, header, names, len(data))
    text = dumped(rng, header)
    said = rng.choice((len(text),) * 12 + (0, len(text) - 1, len(text) + 1, 2**63, 2**64 - 1, 10**8, len(content)))
    if rng.random() < 0.1:
        data = data[: rng.randrange(len(data) + 1)] if rng.random() < 0.6 else data + rng.randbytes(8)
    return said.to_bytes(8, "little") + text + data


def _entry(rng: random.Random, header: Any, names: list[str], size: int) -> Any:
    if not isinstance(header, dict) or not names or rng.random() < 0.3:
        return tree(rng, header, known=("F32", "BF16", "F8_E4M3", "I64", "F4", "BOOL", [2, 2], [0, size]), changes=1)
    name, other = rng.choice(names), rng.choice(names)
    entry = header.get(name)
    if not isinstance(entry, dict):
        return header
    how = rng.randrange(8)
    if how == 0:
        entry["data_offsets"] = (header.get(other) or entry).get("data_offsets")
    elif how == 1:
        entry["data_offsets"] = [rng.choice((-8, 0, 1, size - 1, size, size + 8, 2**63, 2**64)) for _ in range(2)]
    elif how == 2:
        entry["dtype"] = rng.choice(("F64", "F16", "BF16", "I8", "U64", "F8_E5M2", "F8_E8M0", "F4", "f32", "", "C64"))
    elif how == 3:
        entry["shape"] = [
            rng.choice((-2, 0, 1, 2, 3, 2**16, 2**31, 2**32, 2**62, 2**64)) for _ in range(rng.randrange(6))
        ]
    elif how == 4:
        entry["shape"] = [*(entry.get("shape") or []), 1] if rng.random() < 0.5 else (entry.get("shape") or [0])[::-1]
    elif how == 5:
        header[rng.choice((*TEXTS[:20], name + "x", "__metadata__"))] = header.pop(name)
    elif how == 6:
        header["__metadata__"] = rng.choice(({"format": "pt"}, {"format": 3}, [], "x", None, {"a": {"b": 1}}))
    else:
        begin, end = 0, rng.choice((0, 4, size))
        header[rng.choice(TEXTS[:12]) or "more"] = {
            "dtype": "F32",
            "shape": [(end - begin) // 4],
            "data_offsets": [begin, end],
        }
    return header


SCALAR = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
TEXT, ARRAY = 8, 9


@dataclass
class Gguf:
    """A GGUF file as data: metadata as (key, type, value), tensors as (name, dimensions, type, offset)."""

    metadata: list[tuple[str, int, Any]] = field(default_factory=list)
    tensors: list[tuple[str, list[int], int, int]] = field(default_factory=list)
    data: bytes = b""
    version: int = 3

    def say(self, key: str, value: Any) -> None:
        """Metadata with the type that a converter would give it; a list is an array of its first item's type."""
        self.metadata.append((key, *_typed(value)))

    def add(self, name: str, dimensions: list[int], content: bytes, kind: int = 0) -> None:
        """A tensor, innermost dimension first."""
        self.tensors.append((name, dimensions, kind, len(self.data)))
        self.data += content + b"\0" * (-len(content) % 32)

    def bytes(self, rng: random.Random | None = None) -> bytes:
        """The file; with `rng`, its counts may be wrong."""
        wrong = rng.choice((None,) * 10 + (0, 1, 2**28, 2**29, 2**63, 2**64 - 1)) if rng else None
        counts = [len(self.tensors), len(self.metadata)]
        if wrong is not None and rng is not None:
            counts[rng.randrange(2)] = wrong
        out = [b"GGUF", struct.pack("<IQQ", self.version & 0xFFFFFFFF, *counts)]
        for key, kind, value in self.metadata:
            out += [_text(key), struct.pack("<I", kind & 0xFFFFFFFF), _value(kind, value)]
        for name, dimensions, kind, offset in self.tensors:
            out += [_text(name), struct.pack("<I", len(dimensions))]
            out += [struct.pack("<Q", d % 2**64) for d in dimensions] + [
                struct.pack("<IQ", kind % 2**32, offset % 2**64)
            ]
        head = b"".join(out)
        return head + b"\0" * (-len(head) % 32) + self.data

    def changed(self, rng: random.Random) -> bytes:
        """The file with its structure changed."""
        if rng.random() < 0.15:
            return blind(rng, self.bytes())
        made = Gguf(list(self.metadata), list(self.tensors), self.data, self.version)
        for _ in range(rng.choice((1, 1, 2, 4))):
            made._change(rng)
        content = made.bytes(rng if rng.random() < 0.1 else None)
        return blind(rng, content) if rng.random() < 0.05 else content

    def _change(self, rng: random.Random) -> None:
        how = rng.randrange(10)
        if how == 0:
            self.version = rng.choice((0, 1, 2, 3, 4, 2 << 24, 3 << 24, 2**32 - 1))
        elif how < 6 and self.metadata:
            at = rng.randrange(len(self.metadata))
            key, kind, value = self.metadata[at]
            if rng.random() < 0.5:
                key, kind, value = self.metadata[rng.choice(self._small() or [at])]
                at = next(i for i, entry in enumerate(self.metadata) if entry[0] == key)
            self.metadata[at : at + 1] = _entries(rng, key, kind, value)
        elif how == 6:
            self.metadata.append((rng.choice(("general.alignment", "llama.rope.scaling.type", "x")), *_odd(rng)))
        elif self.tensors:
            at = rng.randrange(len(self.tensors))
            name, dimensions, kind, offset = self.tensors[at]
            what = rng.randrange(7)
            if what == 0:
                name = rng.choice((*TEXTS[:20], "rope_freqs.weight", "output.weight", self.tensors[0][0]))
            elif what == 1:
                dimensions = [
                    rng.choice((0, 1, 2, 31, 32, 256, 2**32, 2**63, 2**64 - 1)) for _ in range(rng.randrange(6))
                ]
            elif what == 2:
                kind = rng.choice((*range(42), 255, 2**31))
            elif what == 3:
                offset = rng.choice((0, 1, offset + 1, offset + 32, len(self.data), 2**63, 2**64 - 1))
            elif what == 4:
                self.tensors.insert(at, self.tensors[at])
            elif what == 5:
                dimensions = dimensions[::-1]
            if what == 6:
                del self.tensors[at]
            else:
                self.tensors[at] = (name, dimensions, kind, offset)

    def _small(self) -> list[int]:
        """Entries that are no long arrays: sizes and settings."""
        return [
            i
            for i, (_, kind, value) in enumerate(self.metadata)
            if kind != ARRAY or len(value) != 2 or len(value[1]) < 20
        ]


def _entries(rng: random.Random, key: str, kind: int, value: Any) -> list[tuple[str, int, Any]]:
    how = rng.randrange(7)
    if how == 0:
        return []
    if how == 1:
        return [(key, kind, value), (key, *_odd(rng))]
    if how == 2:
        return [(rng.choice((key + "x", *TEXTS[:12])), kind, value)]
    if how == 3 and kind == ARRAY and isinstance(value, tuple):
        inner, items = value
        items = list(items)
        at = rng.randrange(len(items) + 1)
        if rng.random() < 0.5:
            del items[at:]
        elif inner == TEXT:
            items.insert(at, rng.choice(TEXTS[:24]))
        elif items:
            items[at % len(items)] = items[0]
        return [(key, ARRAY, (inner, items))]
    return [(key, *_odd(rng))]


def _odd(rng: random.Random) -> tuple[int, Any]:
    """A metadata value, well or badly formed."""
    how = rng.randrange(9)
    if how < 2:
        return _typed(rng.choice([n for n in NUMBERS if isinstance(n, float) or abs(n) < 2**63]))
    if how == 2:
        return TEXT, rng.choice((*TEXTS[:30], "a" * 20_000))
    if how == 3:
        return 7, rng.random() < 0.5
    if how == 4:
        kind = rng.choice((0, 4, 5, 6, 10))
        return ARRAY, (kind, [0] * rng.choice((0, 1, 3, 300)))
    if how == 5:
        return ARRAY, (TEXT, [rng.choice(TEXTS[:24]) for _ in range(rng.choice((0, 1, 3)))])
    if how == 6:
        value: Any = (0, [1])
        for _ in range(rng.choice((1, 3, 100, 3_000))):
            value = (ARRAY, [value])
        return ARRAY, value
    if how == 7:
        return ARRAY, rng.randbytes(12)  # raw: type and length of an array that is not there
    return rng.choice((13, 99, 2**31)), b""


def _typed(value: Any) -> tuple[int, Any]:
    if isinstance(value, bool):
        return 7, value
    if isinstance(value, int):
        return (4 if 0 <= value < 2**32 else 11), value
    if isinstance(value, float):
        return (6 if value != value or abs(value) < 1e38 else 12), value
    if isinstance(value, str):
        return TEXT, value
    kind = _typed(value[0])[0] if value else 4
    return ARRAY, (kind, value)


def _text(text: str) -> bytes:
    content = text.encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(content)) + content


def _value(kind: int, value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if kind == TEXT:
        return _text(value)
    if kind != ARRAY:
        return struct.pack("<" + SCALAR[kind], value)
    closed = b""
    while True:  # nests without recursion
        inner, items = value
        closed += struct.pack("<IQ", inner, len(items))
        if inner != ARRAY:
            return closed + b"".join(_value(inner, item) for item in items)
        (value,) = items


def protobuf(rng: random.Random, content: bytes) -> bytes:
    """A protobuf message (SentencePiece's model) with a field changed, doubled, dropped or of another length."""
    if rng.random() < 0.25:
        return blind(rng, content)
    fields = list(_fields(content))
    for _ in range(rng.choice((1, 1, 2, 5))):
        if not fields:
            break
        at = rng.randrange(len(fields)) if rng.random() < 0.6 else -1 - rng.randrange(min(4, len(fields)))
        number, wire, value = fields[at]
        how = rng.randrange(7)
        if how == 0:
            del fields[at]
        elif how == 1:
            fields.insert(at, fields[at])
        elif how == 2:
            fields[at] = (rng.choice((1, 2, 3, 4, 5, 100)), wire, value)
        elif wire == 2 and how == 3 and len(value) > 2:
            fields[at] = (number, wire, protobuf(rng, value))
        elif wire == 2:
            fields[at] = (number, wire, rng.choice((b"", blind(rng, value), value * 2, value + rng.randbytes(4))))
        elif wire == 0:
            fields[at] = (number, wire, rng.choice((0, 1, 2**31 - 1, 2**31, 2**63, 2**64 - 1, 5)))
        else:
            fields[at] = (number, wire, rng.randbytes(len(value)))
    return b"".join(_written(*entry) for entry in fields)


def _fields(content: bytes) -> Iterator[tuple[int, int, Any]]:
    at = 0
    while at < len(content):
        tag, at = _varint(content, at)
        wire = tag & 7
        if wire == 0:
            value, at = _varint(content, at)
            yield tag >> 3, wire, value
        elif wire == 2:
            size, at = _varint(content, at)
            yield tag >> 3, wire, content[at : at + size]
            at += size
        else:
            size = 8 if wire == 1 else 4
            yield tag >> 3, wire, content[at : at + size]
            at += size


def _written(number: int, wire: int, value: Any) -> bytes:
    tag = _number(number << 3 | wire)
    if wire == 0:
        return tag + _number(value)
    return tag + (_number(len(value)) if wire == 2 else b"") + value


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(content):
        value |= (content[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if not content[at - 1] & 0x80:
            break
    return value, at


def _number(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def zipped(rng: random.Random, content: bytes, change: Any) -> bytes:
    """A zip archive with an entry changed by `change`, renamed, doubled, packed, left out, or blown up."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = [(info.filename, archive.read(info)) for info in archive.infolist()]
    packing = zipfile.ZIP_STORED
    for _ in range(rng.choice((1, 1, 2))):
        at = rng.randrange(len(entries))
        name, inner = entries[at]
        how = rng.randrange(10)
        if how < 4:
            pickles = [i for i, (n, _) in enumerate(entries) if n.endswith(".pkl")]
            at = pickles[0] if pickles else at
            entries[at] = (entries[at][0], change(rng, entries[at][1]))
        elif how == 4:
            entries[at] = (
                rng.choice(("../evil.pkl", "/tmp/evil", "archive/../../x", name + "x", "data.pkl", "")),
                inner,
            )
        elif how == 5:
            entries.insert(at, (name, inner))
        elif how == 6:
            entries[at] = (name, b"\0" * rng.choice((1 << 20, 1 << 20, 1 << 20, 1 << 20, 80 << 20)))
            packing = zipfile.ZIP_DEFLATED
        elif how == 7 and len(entries) > 1:
            del entries[at]
        elif how == 8:
            packing = rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
        else:
            entries[at] = (name, blind(rng, inner))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", packing) as archive:
        for name, inner in entries:
            archive.writestr(zipfile.ZipInfo(name) if name else "empty", inner, packing)
    made = out.getvalue()
    return blind(rng, made) if rng.random() < 0.15 else made
