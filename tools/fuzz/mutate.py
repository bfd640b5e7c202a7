"""Changes to bytes, to trees of plain data, and to the texts that trees become."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

__all__ = ["HOSTILE", "blind", "dumped", "leaves", "odd", "text_damage", "tree"]

HOSTILE = "<script>alert(1)</script>\"'&amp;<img src=x onerror=alert(1)>"
"""A text that must never become markup."""

DEEP, DIGITS, TWICE = "@@deep@@", "@@digits@@", "@@twice@@"
"""Stand in a tree for what no tree holds: nesting without end, a number of thousands of digits, a key twice."""

NUMBERS: tuple[Any, ...] = (
    0,
    1,
    -1,
    2,
    3,
    7,
    255,
    256,
    65_535,
    2**31 - 1,
    2**31,
    2**32,
    2**53 + 1,
    2**63 - 1,
    2**63,
    2**64,
    10**12,
    10**18,
    10**40,
    -(10**18),
    0.0,
    -0.0,
    0.5,
    1e-320,
    1e308,
    -1e308,
    float("nan"),
    float("inf"),
    float("-inf"),
)
TEXTS = (
    "",
    " ",
    "x",
    "none",
    "null",
    "true",
    "-1",
    "1e999",
    "0x10",
    "NaN",
    "llama",
    "a" * 300,
    "a" * 70_000,
    "\0",
    "a\0b",
    "\x1b[2J\x1b[31mred",
    "\r\n\t",
    "\u202eevil",
    "\ud800",
    "\U0001f642" * 50,
    "é" * 100,
    HOSTILE,
    "../../../etc/passwd",
    "../outside.safetensors",
    "/etc/passwd",
    "..\\outside",
    "C:\\x",
    "file:///etc/passwd",
    "{0.__class__}",
    "%s%n%s",
    "{{ 7 * 7 }}",
    "${HOME}",
    "[bold red]x[/bold red]",
    "[/]",
    "con",
    ".",
    "..",
    "model.safetensors/",
    DEEP,
    DIGITS,
)


def odd(rng: random.Random) -> Any:
    """A value that a field seldom expects."""
    kind = rng.randrange(10)
    if kind < 3:
        return rng.choice(NUMBERS)
    if kind < 6:
        return rng.choice(TEXTS)
    if kind == 6:
        return rng.choice((None, True, False, [], {}, [[]], {"": None}))
    if kind == 7:
        return [odd(rng) for _ in range(rng.randrange(1, 4))]
    if kind == 8:
        return {str(odd(rng))[:50]: odd(rng) for _ in range(rng.randrange(1, 3))}
    value: Any = rng.choice(NUMBERS)
    for _ in range(rng.choice((2, 30, 90, 300))):
        value = [value] if rng.random() < 0.5 else {"a": value}
    return value


def leaves(value: Any, where: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to everything inside a tree, containers too."""
    found = [where] if where else []
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        found += leaves(item, (*where, key))
    return found


def tree(rng: random.Random, value: Any, *, known: tuple[Any, ...] = (), changes: int | None = None) -> Any:
    """A changed copy of a tree. `known`: values that some field of its kind takes, to put where others stand."""
    value = copy.deepcopy(value)
    for _ in range(changes if changes is not None else rng.choice((1, 1, 1, 1, 1, 1, 2, 2, 4))):
        value = _changed(rng, value, known)
    return value


def _changed(rng: random.Random, value: Any, known: tuple[Any, ...]) -> Any:
    places = leaves(value)
    if not places or rng.random() < 0.01:
        return odd(rng)
    place = rng.choice(places)
    holder = _at(value, place[:-1])
    key, item = place[-1], _at(value, place)
    how = rng.randrange(12)
    if how == 0:
        del holder[key]
    elif how == 1 and isinstance(holder, dict):
        holder[rng.choice((f"{key}_", str(key).upper(), str(key)[:-1], *map(str, TEXTS[:6]), TWICE))] = holder[key]
        if rng.random() < 0.5:
            holder.pop(key, None)
    elif how == 2 and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(item))
    elif how == 3:
        holder[key] = copy.deepcopy(_at(value, rng.choice(places)))
    elif how in (4, 5, 9, 10) and isinstance(item, int | float) and not isinstance(item, bool):
        holder[key] = _number(rng, item)
    elif how == 6:
        holder[key] = rng.choice(([item], {"a": item}, str(item), [item, item], {str(item)[:40]: item}))
    elif how == 7 and known:
        holder[key] = copy.deepcopy(rng.choice(known))
    elif how == 8 and isinstance(item, str):
        holder[key] = _text(rng, item)
    else:
        holder[key] = odd(rng)
    return value


def _number(rng: random.Random, item: float) -> Any:
    return rng.choice(
        (
            item + 1,
            item - 1,
            -item,
            item * 2,
            item // 2 if isinstance(item, int) else item / 3,
            0,
            item * 10**6,
            item * 10**15 if abs(item) < 1e100 else item,
            float(item) if abs(item) < 1e300 else item,
            item + 0.5,
            2**63,
        )
    )


def _text(rng: random.Random, item: str) -> str:
    at = rng.randrange(len(item) + 1)
    return rng.choice((item[:at], item[at:], item[:at] + rng.choice(TEXTS[:30]) + item[at:], item * 2, item.upper()))


def _at(value: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        value = value[key]
    return value


def dumped(rng: random.Random, value: Any, *, indent: int | None = None) -> bytes:
    """A tree as JSON, with what JSON text can hold and a tree cannot."""
    text = json.dumps(value, indent=indent)
    if DEEP in text:
        depth = rng.choice((60, 101, 500, 990, 5_000, 100_000))
        left, right = rng.choice((("[", "]"), ('{"a":', "}")))
        text = text.replace(f'"{DEEP}"', left * depth + "1" + right * depth, 1)
    if DIGITS in text:
        text = text.replace(f'"{DIGITS}"', rng.choice(("", "-")) + "9" * rng.choice((200, 4_300, 5_000)), 1)
    if f'"{TWICE}"' in text and isinstance(value, dict):
        text = text.replace(f'"{TWICE}"', json.dumps(rng.choice([k for k in value if k != TWICE] or ["a"])), 1)
    return text.encode()


def text_damage(rng: random.Random, content: bytes) -> bytes:
    """Now and then a text is damaged as text too."""
    how = rng.randrange(60)
    if how == 0:
        return blind(rng, content)
    if how == 1:
        return b"\xef\xbb\xbf" + content
    if how == 2:
        return content.decode("utf-8", "replace").encode("utf-16")
    if how == 3:
        return content[: rng.randrange(len(content) + 1)]
    return content


def blind(rng: random.Random, content: bytes) -> bytes:
    """Bytes changed without a look at what they mean."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(data) + 1)
        how = rng.randrange(9)
        if how == 0 and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif how == 1 and data:
            data[at % len(data)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif how == 2:
            del data[at:]
        elif how == 3:
            del data[at : at + rng.choice((1, 4, 8, 100))]
        elif how == 4:
            data[at:at] = rng.randbytes(rng.choice((1, 4, 8, 64)))
        elif how == 5:
            data[at:at] = data[at : at + rng.choice((1, 8, 100))]
        elif how == 6:
            data[at : at + 8] = rng.choice((0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)).to_bytes(8, "little")
        elif how == 7:
            data[at : at + 4] = rng.choice(
                (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"....", b"\n\n\n\n")
            )
        else:
            size = rng.choice((1, 16, 200))
            other = rng.randrange(len(data) + 1)
            data[at : at + size] = data[other : other + size]
    return bytes(data)
