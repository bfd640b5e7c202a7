"""Pickles changed opcode by opcode, and pickles that would execute something."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import random
import struct
from typing import Any

from tools.fuzz.containers import zipped
from tools.fuzz.mutate import blind

__all__ = ["changed", "hostile", "opcodes"]

CANARY = "touch executed"
CALLS = (
    ("posix", "system"),
    ("os", "system"),
    ("builtins", "eval"),
    ("builtins", "exec"),
    ("subprocess", "Popen"),
    ("builtins", "getattr"),
    ("builtins", "__import__"),
    ("torch", "load"),
    ("torch.hub", "load"),
    ("runpy", "run_path"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch", "Tensor"),
    ("torch", "Size"),
    ("builtins", "bytearray"),
    ("collections", "Counter"),
    ("collections", "OrderedDict"),
    ("_codecs", "encode"),
    ("numpy", "ones"),
    ("torch", "ones"),
    ("torch.storage", "_load_from_bytes"),
    ("torch.jit", "load"),
    ("numpy.core.multiarray", "_reconstruct"),
)
"""Globals that a file may ask for: some harmful, some only large."""


def hostile(rng: random.Random) -> bytes:
    """Opcodes that look a global up and call it, with a text or a number."""
    module, name = rng.choice(CALLS)
    argument = rng.choice((_text(CANARY), _text("1"), b"M\xff\xff", b"J\xff\xff\xff\x7f", b"\x8a\x05\0\0\0\0\1"))
    known = f"c{module}\n{name}\n".encode()
    if rng.random() < 0.3:
        known = _short(module) + _short(name) + b"\x93"
    if rng.random() < 0.15:
        return b"(" + argument + f"i{module}\n{name}\n".encode()
    return known + argument + b"\x85" + rng.choice((b"R", b"R", b"R", b"\x81", b"R}b"))


def opcodes(rng: random.Random, content: bytes) -> bytes:
    """One pickle with opcodes dropped, doubled, moved, or put in."""
    if rng.random() < 0.15:
        return blind(rng, content)
    try:
        starts = [at for _, _, at in pickletools.genops(content) if at is not None]
    except Exception:
        return blind(rng, content)
    ends = [*starts[1:], starts[-1] + 1]
    pieces = [content[a:b] for a, b in zip(starts, ends, strict=True)]
    rest = content[ends[-1] :]
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(pieces))
        how = rng.randrange(8)
        if how == 0 and len(pieces) > 1:
            del pieces[at]
        elif how == 1:
            pieces.insert(at, pieces[at])
        elif how == 2:
            other = rng.randrange(len(pieces))
            pieces[at], pieces[other] = pieces[other], pieces[at]
        elif how in (3, 4):
            pieces.insert(max(at, 1), hostile(rng))
            if rng.random() < 0.5:
                pieces.insert(max(at, 1) + 1, b"0")
        elif how == 5:
            numbers = [i for i, p in enumerate(pieces) if p[:1] in b"KMJ"] or [at]
            pieces[rng.choice(numbers)] = rng.choice(
                (
                    b"K\0",
                    b"K\xff",
                    b"M\xff\xff",
                    b"J\xff\xff\xff\x7f",
                    b"J\xff\xff\xff\xff",
                    b"\x8a\x08" + b"\xff" * 7 + b"\x7f",
                    b"G" + struct.pack(">d", float("nan")),
                    b"N",
                    b"(t",
                    b"]",
                    b"\x8a\xff" + b"\x7f" * 255,
                )
            )
        elif how == 6:
            pieces.insert(max(at, 1), rng.choice((b"(" * 200, b"(" * 4000 + b"t" * 4000, b"]" * 3000 + b"a" * 2999)))
        else:
            pieces[at] = blind(rng, pieces[at]) or b"."
    return b"".join(pieces) + rest


def changed(rng: random.Random, content: bytes) -> bytes:
    """A checkpoint in any of the forms that pickles come in."""
    if content[:2] == b"PK":
        return zipped(rng, content, opcodes) if rng.random() < 0.85 else blind(rng, content)
    if rng.random() < 0.1:
        return b"\x80" + bytes([rng.randrange(6)]) + hostile(rng) + b"."
    if rng.random() < 0.05:
        return _tar(rng)
    ends = _pickles(content)
    at = rng.randrange(len(ends))
    begin = ends[at - 1] if at else 0
    return content[:begin] + opcodes(rng, content[begin : ends[at]]) + content[ends[at] :]


def forms(state: Any) -> list[bytes]:
    """A state dict as torch writes it (zip, and as it did before), and as plain pickles."""
    import torch

    out = []
    for new in (True, False):
        buffer = io.BytesIO()
        torch.save(state, buffer, _use_new_zipfile_serialization=new)
        out.append(buffer.getvalue())
    return [*out, *(pickle.dumps({"a": [1, 2.5, "x"], "b": os.system}, protocol=p) for p in (0, 2, 4))]


def _pickles(content: bytes) -> list[int]:
    """Where the pickles that stand one after another end."""
    file, ends = io.BytesIO(content), []
    while True:
        try:
            for _ in pickletools.genops(file):
                pass
        except Exception:
            return ends or [len(content)]
        ends.append(file.tell())


def _tar(rng: random.Random) -> bytes:
    """Torch's oldest form, with a member that climbs out."""
    import tarfile

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("storages", "tensors", rng.choice(("../executed", "/tmp/executed", "pickle"))):
            info = tarfile.TarInfo(name)
            content = pickle.dumps(rng.randrange(3), protocol=2)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def _text(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def _short(text: str) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text.encode()
