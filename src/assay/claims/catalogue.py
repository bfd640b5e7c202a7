"""All claims, found by their files' names: `c09.py` holds C9."""

from __future__ import annotations

import importlib
import pkgutil
import re
from functools import cache

import assay.claims
from assay.claims.base import Claim
from assay.errors import UserError

__all__ = ["claim", "claims", "keys"]


@cache
def keys() -> tuple[str, ...]:
    """Keys of all claims in order; nothing but file names is read."""
    found = (re.fullmatch(r"c(\d\d)", module.name) for module in pkgutil.iter_modules(assay.claims.__path__))
    return tuple(f"C{int(match[1])}" for match in sorted(filter(None, found), key=lambda match: int(match[1])))


def claim(key: str) -> Claim:
    """The claim of a key, in either case: "C9", "c9", "c09".

    Raises:
        UserError: there is none, with those that there are.
    """
    match = re.fullmatch(r"[cC]0*(\d+)", key.strip())
    name = f"C{match[1]}" if match else key
    if name not in keys():
        raise UserError(f"claim {key!r} is not in the book.", f"Give one of {', '.join(keys())}.")
    found = importlib.import_module(f"assay.claims.c{int(name[1:]):02d}").CLAIM
    assert isinstance(found, Claim) and found.key == name, f"c{int(name[1:]):02d}.py holds no claim {name}"
    return found


def claims() -> list[Claim]:
    """All claims in order."""
    return [claim(key) for key in keys()]
