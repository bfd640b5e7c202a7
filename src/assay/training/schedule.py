"""The learning rate over a run, as a pure function of the share of the run that is done (and of held-out losses).

A run may be measured in steps or in FLOPs. Both give one number, the progress in (0, 1] at the end of a step, and
the schedule is a function of that number alone: equal budgets then go through equal schedules, whatever a step
costs, and nothing has to be planned ahead. A warmup given in steps becomes a share by what the first step costs.

Reduce-on-plateau follows the held-out losses measured so far. They are in the run's metrics, so a resumed run knows
them all and goes on at the rate that it had.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from assay.spec.training import ScheduleKind, ScheduleSpec

__all__ = ["factor", "reductions", "warmup_share"]


def warmup_share(schedule: ScheduleSpec, step_share: float) -> float:
    """The share of the run that warms up.

    Args:
        schedule: whose `warmup` is a share below 1, or a number of steps from 1 on.
        step_share: the share of the run that one step takes.

    Returns:
        In [0, 1]; a warmup longer than the run is the whole run.
    """
    share = schedule.warmup if schedule.warmup < 1 else schedule.warmup * step_share
    return min(share, 1.0)


def factor(schedule: ScheduleSpec, progress: float, warmup: float, heldout: Sequence[float] = ()) -> float:
    """What the peak learning rate is multiplied by in the step that ends at `progress`.

    Args:
        schedule: the shape.
        progress: share of the run that is done when the step ends, in [0, 1]; beyond 1 it counts as 1.
        warmup: share of the run that warms up (`warmup_share`).
        heldout: held-out losses measured since the warmup ended, oldest first; plateau alone reads them.

    Returns:
        In [0, 1]: `progress / warmup` while warming up, then the shape; `final` at the end of linear, cosine, wsd.
        Reversed is the cosine at 1 - progress, warmup and all.
    """
    progress = min(max(progress, 0.0), 1.0)
    if schedule.kind is ScheduleKind.reversed:
        return factor(schedule.model_copy(update={"kind": ScheduleKind.cosine}), 1.0 - progress, warmup)
    if progress < warmup:
        return progress / warmup
    after = (progress - warmup) / (1.0 - warmup) if warmup < 1 else 0.0
    final = schedule.final
    match schedule.kind:
        case ScheduleKind.constant:
            return 1.0
        case ScheduleKind.linear:
            return 1.0 - (1.0 - final) * after
        case ScheduleKind.cosine:
            return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * after))
        case ScheduleKind.inverse_sqrt:
            # Without a warmup there is no time constant to decay from: the peak is kept.
            return math.sqrt(warmup / progress) if warmup > 0 else 1.0
        case ScheduleKind.wsd:
            start = max(1.0 - schedule.decay, warmup)
            if progress <= start:
                return 1.0
            return 1.0 - (1.0 - final) * (progress - start) / (1.0 - start)
        case ScheduleKind.plateau:
            return max(schedule.reduction ** reductions(schedule, heldout), min(final, 1.0))


def reductions(schedule: ScheduleSpec, heldout: Sequence[float]) -> int:
    """How often reduce-on-plateau has lowered the rate.

    A loss is better where it lies below the best so far by the share `improvement`. After `patience` losses in a row
    that are not, the rate falls and the count begins anew. torch's `ReduceLROnPlateau` with patience `patience - 1`,
    whose patience counts losses that are forgiven.

    Args:
        schedule: its `patience` and `improvement`.
        heldout: losses, oldest first; one that is not finite is not better.
    """
    best, waited, times = math.inf, 0, 0
    for loss in heldout:
        if loss < best * (1 - schedule.improvement):
            best, waited = loss, 0
        else:
            waited += 1
        if waited >= schedule.patience:
            waited, times = 0, times + 1
    return times
