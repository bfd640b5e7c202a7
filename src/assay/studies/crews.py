"""Which runs of a study share a worker and are trained together there as one batched model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial

from assay.errors import UserError
from assay.runs import hardware
from assay.spec.study import RunSpec
from assay.training.together.eligible import MOST, When, kin, pays, why_alone

__all__ = ["Crews", "Together", "crews", "together"]


@dataclass(frozen=True)
class Crews:
    """Who is trained with whom."""

    of: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Hash of a run to those of its crew, its own among them; runs that have a worker to themselves are not in it."""
    apart: dict[str, int] = field(default_factory=dict)
    """Why other runs are not trained together, and how many."""


Together = Callable[[Sequence[RunSpec], int], Crews]
"""Crews of runs that wait, given how many workers there are."""


def together(when: str, *, timed: Collection[str] | None = None) -> Together:
    """`crews` by the name of a choice.

    Raises:
        UserError: there is no such.
    """
    try:
        return partial(crews, when=When(when), timed=timed)
    except ValueError:
        raise UserError(f"together = {when!r} is not known.", "Give auto, never or always.") from None


def crews(
    runs: Sequence[RunSpec], workers: int, when: When = When.auto, *, timed: Collection[str] | None = None
) -> Crews:  # fmt: skip
    """Crews of runs that differ in seed, rates or length alone; every worker gets one before any crew grows.

    Args:
        runs: that wait, in the order in which they would start.
        workers: processes at a time.
        when: `auto` leaves out what was not measured to be faster.
        timed: hashes of runs whose times are looked at, which stay alone. None: those of all are compared, so that
            `auto` trains all together, or none.
    """
    if when is When.never:
        return Crews()
    if hardware()["accelerators"]:
        return Crews(apart={"it was measured on processors alone": len(runs)})
    apart: Counter[str] = Counter()
    kinds: dict[str, list[RunSpec]] = {}
    for run in runs:
        if why := _why_alone(run, when, timed or ()):
            apart[why] += 1
        else:
            kinds.setdefault(kin(run), []).append(run)
    if apart and timed is None and when is When.auto:
        rest = len(runs) - sum(apart.values())
        return Crews(apart=dict(apart) | ({"times would not compare with those of the others": rest} if rest else {}))
    most = min(MOST, math.ceil(len(runs) / max(workers, 1)))
    found: dict[str, tuple[str, ...]] = {}
    for members in kinds.values():
        number = math.ceil(len(members) / most)
        for crew in (members[i::number] for i in range(number)):
            if len(crew) > 1:
                names = tuple(run.hash for run in crew)
                found |= dict.fromkeys(names, names)
            else:
                apart["there is no other of its kind, or a worker of its own is free"] += 1
    return Crews(found, dict(apart))


def _why_alone(run: RunSpec, when: When, timed: Collection[str]) -> str:
    if run.hash in timed:
        return "its time is looked at"
    slow = when is When.auto and not pays(run)
    return why_alone(run) or ("together is not faster at this size" if slow else "")
