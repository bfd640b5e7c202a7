"""What limits a run besides time and memory: the batch that still helps, and what breaks."""

from __future__ import annotations

import math
from dataclasses import dataclass

from assay.spec.plan.fabric import Assumed

__all__ = ["Reliability", "critical_batch", "reliability"]


@dataclass(frozen=True)
class Reliability:
    """How often a run of so many GPUs is interrupted, and what that costs when checkpoints are as far apart as best."""

    hours_between: float
    """Between interruptions of the whole run."""
    checkpoint_seconds: float
    """To write one checkpoint while training waits."""
    interval_seconds: float
    """Between checkpoints, by Young's rule."""
    useful: float
    """Share of the time that is training which is kept."""


def reliability(gpus: int, state: float, assumed: Assumed) -> Reliability:
    """Young 1974: with checkpoints of d seconds and failures every M, the best interval is sqrt(2 d M).

    Lost are d of every interval, half an interval and a restart at every failure.

    Args:
        gpus: of the run.
        state: bytes of a checkpoint, over all ranks.
        assumed: failures, writing and restarts.
    """
    mean = assumed("failure_hours") * 3600 / gpus
    write = state / (gpus * assumed("write_bandwidth"))
    interval = math.sqrt(2 * write * mean)
    lost = write / (interval + write) + (interval / 2 + assumed("restart_seconds")) / mean
    return Reliability(mean / 3600, write, interval, 1 / (1 + lost))


def critical_batch(parameters: float) -> tuple[float, float]:
    """Tokens of a batch beyond which more of them buy little, near the end of training, and the loss assumed there.

    Kaplan et al. 2020, equations 1.1 and 1.4: L = (8.8e13 / N)^0.076 nats a token for N parameters outside the
    embedding, trained until it no longer falls; B_crit = 2e8 / L^(1 / 0.21) tokens. At B_crit a run takes twice the
    fewest steps and twice the fewest tokens (McCandlish et al. 2018). Measured on small models and one corpus; take
    it as an order of magnitude.
    """
    loss = (8.8e13 / max(parameters, 1.0)) ** 0.076
    return 2e8 / loss ** (1 / 0.21), loss
