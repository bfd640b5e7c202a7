"""What a study would do, before it does it: runs, parameters, FLOPs, steps, time."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from assay.spec.axes import Family
from assay.spec.objective import ObjectiveKind
from assay.spec.study import RunSpec, StudySpec
from assay.studies.runner import default_workers
from assay.training.text import resolve

__all__ = ["matmul_rate", "plan", "step_flops"]

EFFICIENCY = 0.5
"""Share of the matrix-multiply rate that small models reach in training here, evaluation included."""

STARTUP = 8.0
"""Seconds that a run takes beside its steps: starting, the first pass, checkpoints."""

_MEASURE = """
import time, numpy as np
a, b = np.ones((2048, 128), np.float32), np.ones((128, 352), np.float32)
best = 1.0
for _ in range(30):
    begin = time.perf_counter(); a @ b; best = min(best, time.perf_counter() - begin)
print(2 * 2048 * 128 * 352 / best)
"""


def plan(study: StudySpec, *, workers: int | None = None, rate: float | None = None) -> dict[str, Any]:
    """The runs of a study, counted from their descriptions; nothing is trained.

    Args:
        study: what would run.
        workers: parallel workers; None: as many as cores.
        rate: FLOPs a second of one worker's matrix products; None: measured, which takes under a second.

    Returns:
        "rows": a dict a combination with labels, name, seeds, runs (hashes), parameters, flops_per_token
        (training, per input token), flops (of a run), steps, tokens (input tokens of a run), seconds (of a run);
        "runs": how many; "workers"; "seconds": of the whole study; "rate".

    Raises:
        UserError: an axis or a combination is wrong.
    """
    workers = workers or default_workers()
    rate = rate or matmul_rate()
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for run in study.runs():
        row = rows.setdefault(tuple(run.labels.values()), _row(resolve(run), rate))
        row["seeds"] += 1
        row["runs"].append(run.hash)
    work = sum(row["seeds"] * row["seconds"] for row in rows.values())
    longest = max((row["seconds"] for row in rows.values()), default=0.0)
    runs = sum(row["seeds"] for row in rows.values())
    seconds = max(work / min(workers, runs or 1), longest)
    return {"rows": list(rows.values()), "runs": runs, "workers": workers, "seconds": seconds, "rate": rate}


def _row(run: RunSpec, rate: float) -> dict[str, Any]:
    flops, tokens = step_flops(run)
    steps = run.train.steps or max(-(-(run.train.budget or 0.0) // flops), 1)
    total = flops * steps
    return {
        "labels": dict(run.labels),
        "name": run.name or "the model",
        "seeds": 0,
        "runs": [],
        "parameters": int(run.model.parameters()),
        "flops_per_token": flops / tokens,
        "flops": total,
        "steps": int(steps),
        "tokens": int(tokens * steps),
        "seconds": total / (rate * EFFICIENCY) + STARTUP,
    }


def step_flops(run: RunSpec) -> tuple[float, int]:
    """(training FLOPs, input tokens) of a step whose rows are full and hold one document each.

    Prefixes take half of a row. What training spends is counted from its batches; this is for planning.
    """
    train, model = run.train, run.model
    length, kind = train.length, run.objective.kind
    two = model.family is Family.encoder_decoder
    decoder = (train.decoder_length or length) if two else None
    if two and train.decoder_length is None and kind is ObjectiveKind.span_corruption:
        decoder = round(length * (run.objective.density * (1 + 1 / run.objective.mean_span)))
    share = 1.0 if kind is ObjectiveKind.causal_lm else run.objective.split or 0.5
    targets = decoder if decoder is not None else round(length * share)
    prefix = length // 2 if kind is not ObjectiveKind.causal_lm else 0
    flops = model.flops(length, decoder_length=decoder, targets=targets, prefix=prefix, training=True)
    return train.batch_size * float(flops), train.batch_size * (length + (decoder or 0))


def matmul_rate() -> float:
    """FLOPs a second of a matrix product of the default model's shape, on one thread of this machine."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE], env={**os.environ, **threads}, capture_output=True, text=True, check=True
    )
    return float(done.stdout)
