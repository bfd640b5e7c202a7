"""What a finished run's folder must hold, and how a measured series moved."""

from __future__ import annotations

import statistics
from typing import Any

from assay.errors import UserError
from assay.runs import RunFolder, verify_files

WARM = 0.2
"""Share of a haul that is warm-up: what is measured comes after it."""
GROWTH, SLOWER = 0.01, 0.05
"""How much memory may grow, and speed may fall, from the first to the last fifth of what is measured."""


def change(values: list[float]) -> float:
    """How much the last fifth of what is measured lies above the first, by medians, as a share; of nothing, 0."""
    measured = values[int(len(values) * WARM) :]
    if not measured:
        return 0.0
    fifth = max(len(measured) // 5, 1)
    first, last = statistics.median(measured[:fifth]), statistics.median(measured[-fifth:])
    return last / first - 1


def intact(run: RunFolder, steps: int, evaluations: int) -> list[str]:
    """What is wrong with a finished run's folder."""
    if not run.done:
        return [f"{run.path.name}: not finished ({run.failure})"]
    rows = run.metrics()
    found = gaps(run, rows, steps)
    if sum(row["kind"] == "eval" for row in rows) != evaluations + 1:
        found.append(f"{run.path.name}: not every evaluation once in the metrics")
    if run.result["steps"] != steps:
        found.append(f"{run.path.name}: the result is of {run.result['steps']} steps")
    try:
        verify_files(run.checkpoint(steps), ["model.safetensors"])
    except UserError as error:
        found.append(str(error))
    return found


def gaps(run: RunFolder, rows: list[dict[str, Any]], steps: int) -> list[str]:
    """What is wrong with the metrics of a run's first steps."""
    there = [row["step"] for row in rows if row["kind"] == "train"] == list(range(1, steps + 1))
    return [] if there else [f"{run.path.name}: not every step once in the metrics"]


def thinned(samples: list[Any], most: int) -> list[Any]:
    """At most so many of them, evenly."""
    return samples[:: max(-(-len(samples) // most), 1)]
