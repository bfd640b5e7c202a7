"""Makes an input that fails smaller while it fails in the same way."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from tools.fuzz.cases import Case
from tools.fuzz.mutate import leaves

__all__ = ["smaller"]


def smaller(case: Case, same: Callable[[Case], bool], *, tries: int = 150) -> Case:
    """The least input found in so many tries; `same` says whether one still fails as the first did."""
    left = tries
    again = True
    while again and left > 0:
        again = False
        for candidate in _candidates(case):
            left -= 1
            if left < 0:
                break
            if same(candidate):
                case, again = candidate, True
                break
    return case


def _candidates(case: Case) -> Iterator[Case]:
    for name in case:
        if len(case) > 1:
            yield {n: c for n, c in case.items() if n != name}
    for name, content in case.items():
        tree = _tree(content)
        for less in _less_tree(tree) if tree is not None else _less_bytes(content):
            if len(less) < len(content):
                yield {**case, name: less}


def _tree(content: bytes) -> Any:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict | list) else None


def _less_tree(tree: Any) -> Iterator[bytes]:
    for place in sorted(leaves(tree), key=len)[:200]:
        copy = json.loads(json.dumps(tree))
        holder = copy
        for key in place[:-1]:
            holder = holder[key]
        del holder[place[-1]]
        yield json.dumps(copy).encode()


def _less_bytes(content: bytes) -> Iterator[bytes]:
    size = len(content) // 2
    while size >= max(1, len(content) // 64):
        for at in range(0, len(content), size):
            yield content[:at] + content[at + size :]
        size //= 2
