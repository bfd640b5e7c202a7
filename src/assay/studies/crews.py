"""Which runs of a study share a worker and are trained together there as one batched model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from assay.errors import UserError
from assay.runs import hardware
from assay.spec.study import RunSpec
from assay.training.together.eligible import MOST, When, kin, pays, why_alone

__all__ = ["Crews", "chosen", "crews"]


@dataclass(frozen=True)
class Crews:
    """Who is trained with whom."""

    of: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Hash of a run to those of its crew, its own among them; runs that have a worker to themselves are not in it."""
    apart: dict[str, int] = field(default_factory=dict)
    """Why other runs are not trained together, and how many."""


def chosen(together: str) -> When:
    """The choice by its name.

    Raises:
        UserError: there is no such.
    """
    try:
        return When(together)
    except ValueError:
        raise UserError(f"together = {together!r} is not known.", "Give auto, never or always.") from None


def crews(runs: Sequence[RunSpec], workers: int, when: When = When.auto) -> Crews:
    """Crews of runs that differ in seed, rates or length alone; every worker gets one before any crew grows.

    Args:
        runs: that wait, in the order in which they would start.
        workers: processes at a time.
        when: `auto` leaves out what was not measured to be faster.
    """
    if when is When.never:
        return Crews()
    if hardware()["accelerators"]:
        return Crews(apart={"it was measured on processors alone": len(runs)})
    apart: Counter[str] = Counter()
    kinds: dict[str, list[RunSpec]] = {}
    for run in runs:
        if why := why_alone(run):
            apart[why] += 1
        elif when is When.auto and not pays(run):
            apart["together is not faster at this size"] += 1
        else:
            kinds.setdefault(kin(run), []).append(run)
    most = min(MOST, math.ceil(len(runs) / max(workers, 1)))
    found = {}
    for members in kinds.values():
        number = math.ceil(len(members) / most)
        for crew in (members[i::number] for i in range(number)):
            if len(crew) > 1:
                names = tuple(run.hash for run in crew)
                found |= dict.fromkeys(names, names)
            else:
                apart["there is no other of its kind, or a worker of its own is free"] += 1
    return Crews(found, dict(apart))
