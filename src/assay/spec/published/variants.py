"""How a family's file says what its sizes share."""

from __future__ import annotations

from typing import Any

Fields = dict[str, Any]


def variants(base: Fields, sizes: dict[str, Fields]) -> dict[str, Fields]:
    """Each size's fields over the family's own, group by group."""
    return {name: merged(base, fields) for name, fields in sizes.items()}


def merged(base: Fields, over: Fields) -> Fields:
    """`over`'s fields over `base`'s; groups of fields are merged, anything else is replaced."""
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result
