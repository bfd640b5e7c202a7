"""What is read, and how its inputs are made: one target each."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tools.fuzz.cases import Case

__all__ = ["TARGETS", "Target", "target"]


@dataclass(frozen=True)
class Target:
    """A reader that users call."""

    name: str
    what: str
    """The files, in words."""
    make: Callable[[random.Random], Case]
    """A changed input."""
    read: Callable[[Path], None]
    """Reads a folder as users would."""
    good: Callable[[], list[Case]]
    """The inputs that it begins from: all are read without an error."""

    def case(self, seed: int, number: int) -> Case:
        """Input `number`, the same for everyone."""
        return self.make(random.Random(f"{self.name} {seed} {number}"))


TARGETS: dict[str, Target] = {}


def target(name: str, what: str, make: Callable[[random.Random], Case], good: Callable[[], list[Case]]):
    """Register a reader under a name."""

    def register(read: Callable[[Path], None]) -> Callable[[Path], None]:
        TARGETS[name] = Target(name, what, make, read, good)
        return read

    return register
