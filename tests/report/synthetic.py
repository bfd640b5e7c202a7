"""Synthetic study folders: written as a study writes them, with numbers that look like real ones."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from assay.report.rows import Row
from assay.runs import RunFolder, StudyFolder, provenance
from assay.spec.study import RunSpec, StudySpec
from assay.stats import mean_interval

EVALUATIONS = 8
BUCKETS = (0, 16, 32, 64, 128, 256, 384)


def write_run(folder: RunFolder, run: RunSpec, level: float, *, noise: float = 0.01, until: float = 1.0) -> None:
    """One run whose loss falls to about `level` bits per byte; `until` below 1 leaves it unfinished."""
    rng = np.random.default_rng([run.seed, int(run.hash[:8], 16)])
    budget = run.train.budget or 3e12
    steps, shift = 400, rng.normal(0, noise)
    per_step = budget / steps
    per_token = run.model.flops(run.train.length, training=True).per_token
    tokens = int(per_step / per_token)
    objective = run.objective.model_dump(mode="json")
    share = 1.0 if objective["kind"] == "causal_lm" else 0.5
    folder.write_json(
        "run.json",
        {
            "labels": run.labels,
            "seed": run.seed,
            "model_name": run.model.name,
            "train": run.train.to_dict(full=True),
            "objective": objective,
            "data": {
                "source": run.data.source,
                "name": "Python 3.11 standard library, prose",
                "hash": "5d0f3c9a1b2e4d67",
                "bytes": 2_113_482,
                "documents": 612,
                "heldout_bytes": 211_190,
                "tokenizer": "byte-level BPE",
                "tokenizer_hash": "0a1b2c3d4e5f6071",
                "vocab_size": 2048,
            },
            "provenance": provenance(),
            "command": "assay compare --seeds 3 --budget 3e12 --out demo",
        },
    )
    folder.write_json("spec.json", run.model.to_dict(full=True))
    (folder.path / "metrics.jsonl").unlink(missing_ok=True)
    bits = math.nan
    for step in range(0, int(steps * until) + 1, 2):
        t = (step + 4) / steps
        loss = level + shift + 1.1 * (t + 0.04) ** -0.32 - 1.1
        if step:
            nats = loss * 2.05 + rng.normal(0, 0.05)
            row = {"kind": "train", "step": step, "loss": nats, "lr": 3e-3 * (1 - t / 2), "grad_norm": 0.8}
            counts = {"tokens": int(step * tokens * share), "input_tokens": step * tokens, "flops": step * per_step}
            folder.append_metrics({**row, **counts, "seconds": step * 0.11, "tokens_per_second": tokens / 0.11})
        if step and step % (steps // EVALUATIONS) == 0:
            bits = loss + rng.normal(0, noise / 3)
            positions = [[start, bits * 2 + 0.5 * math.exp(-start / 60) - 0.1, 400] for start in BUCKETS]
            row = {"kind": "eval", "step": step, "flops": step * per_step, "tokens": step * tokens * share}
            more = {
                "seconds": step * 0.11,
                "bits_per_byte": bits,
                "nats_per_token": bits * 2,
                "by_position": positions,
                "position_unit": "bytes",
            }
            folder.append_metrics({**row, **more})
    if until >= 1:
        folder.mark_done(
            {
                "bits_per_byte": bits,
                "supervised_tokens": int(steps * tokens * share),
                "input_tokens": steps * tokens,
                "flops": budget,
                "steps": steps,
                "seconds": steps * 0.11,
                "tokens_per_second": tokens / 0.11,
                "peak_bytes": 48_000_000 + int(run.model.parameters()) * 16,
                "parameters": run.model.parameters().parts,
                "padding_share": 0.02,
                "compiled": "the run is too short to earn compiling back",
            }
        )
    folder.close()


def write_study(
    path: Path, study: StudySpec | None = None, *, levels: Callable[[RunSpec], float] | None = None, **options: Any
) -> StudySpec:
    """A study folder in which every run is finished; `levels` gives each run's bits per byte."""
    study = study or StudySpec()
    base = {"causal": 2.31, "prefix": 2.42, "encoder_decoder": 2.47}
    folder = StudyFolder(path)
    folder.write_study(study.to_toml())
    for run in study.runs():
        level = levels(run) if levels else base.get(run.model.family.value, 2.4)
        write_run(folder.run(run.hash), run, level, **options)
    return study


def row(name: str, values: list[float], **labels: str) -> Row:
    """A row of a table: one value a seed, seeds 0, 1, 2 ..."""
    by_seed = dict(enumerate(values))
    return Row(labels or {"x": name}, list(by_seed), mean_interval(values), by_seed)


def grid(**changes: list[float]) -> list[Row]:
    """Two norms by two placements: the placement matters, the norm does not."""
    cells = {
        "l/pre": [2.0, 2.1, 2.2],
        "l/post": [2.4, 2.52, 2.6],
        "r/pre": [2.01, 2.1, 2.2],
        "r/post": [2.41, 2.5, 2.6],
    }
    cells |= {name.replace("_", "/"): values for name, values in changes.items()}
    return [row("", values, norm=name.split("/")[0], placement=name.split("/")[1]) for name, values in cells.items()]
