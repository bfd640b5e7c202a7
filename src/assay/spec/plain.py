"""JSON and TOML text as plain data, where every failure is a `ValueError` and nothing nests without end.

Python's own readers have more ways to fail: RecursionError where text nests deeply, ValueErrors that are no
JSONDecodeError where a number has thousands of digits. What they read just before that would fail later, wherever it is
printed, compared or written.
"""

from __future__ import annotations

import json
import tomllib
from typing import Any

__all__ = ["DEEPEST", "parse_json", "parse_toml"]

DEEPEST = 64
"""Levels of nesting that any file of ours, or a published one, may have: none that exists has a fourth of it."""


def parse_json(text: str | bytes) -> Any:
    """What JSON text says.

    Raises:
        ValueError: no JSON, not UTF-8, a number of thousands of digits, or nested deeper than DEEPEST; the message is
            for users. A syntax error is a `json.JSONDecodeError`, with its line.
    """
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError(f"nested deeper than {DEEPEST} levels") from None
    except json.JSONDecodeError:
        raise
    except ValueError as error:
        raise ValueError(_first(error)) from None
    _check(found)
    return found


def parse_toml(text: str) -> dict[str, Any]:
    """What TOML text says.

    Raises:
        ValueError: no TOML, a number of thousands of digits, or nested deeper than DEEPEST; the message is for users.
    """
    try:
        found = tomllib.loads(text)
    except RecursionError:
        raise ValueError(f"nested deeper than {DEEPEST} levels") from None
    except ValueError as error:
        raise ValueError(_first(error)) from None
    _check(found)
    return found


def _first(error: ValueError) -> str:
    """Python's message without its advice on interpreter settings."""
    text = str(error)
    return "a number has thousands of digits" if "integer string conversion" in text else text


def _check(value: Any) -> None:
    """Level by level, so that the check itself does not recurse."""
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise ValueError(f"nested deeper than {DEEPEST} levels")
