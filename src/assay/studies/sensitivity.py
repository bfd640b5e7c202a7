"""Learning-rate sensitivity of a study that sweeps the rate: a number for every combination of its other axes.

assay compare --spec tiny --vary train.optimizer.learning_rate=3e-4,3e-3,3e-2 --vary placement=post,pre --out sweep
python -c "from assay.studies.sensitivity import of_study; print(of_study('sweep'))"
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from assay.errors import UserError
from assay.runs import RunFolder, StudyFolder
from assay.spec.study import StudySpec
from assay.stats import Interval, mean_interval
from assay.training.sensitivity import sensitivity

__all__ = ["AXIS", "Sensitivity", "of_study"]

AXIS = "train.optimizer.learning_rate"


@dataclass(frozen=True)
class Sensitivity:
    """One combination of the other axes."""

    labels: dict[str, str]
    """The values of the other axes."""
    rates: tuple[float, ...]
    losses: dict[int, tuple[float, ...]]
    """Seed to final held-out bits per byte by rate; NaN where the run diverged."""
    sensitivity: Interval
    """Bits per byte that a rate drawn from the range costs over the best; mean and interval over seeds."""
    best_rate: float
    """The rate of the lowest mean loss over seeds."""


def of_study(folder: str | Path) -> list[Sensitivity]:
    """Sensitivity of every combination, from finished and diverged runs; seeds with a run missing are left out.

    Raises:
        UserError: no study, one that does not vary the rate, or no seed with all of its rates.
    """
    study = StudyFolder.open(folder)
    spec = StudySpec.from_toml(study.study_toml + "\n")
    if len(spec.vary.get(AXIS, ())) < 2:
        raise UserError(f"{folder}: this study does not vary the learning rate.", f"Sweep it: --vary {AXIS}=1e-3,1e-2.")
    groups: dict[tuple[tuple[str, str], ...], dict[int, dict[float, tuple[float, float]]]] = {}
    for run in spec.runs():
        found = _read(study.run(run.hash))
        if found is not None:
            rest = tuple((axis, value) for axis, value in run.labels.items() if axis != AXIS)
            groups.setdefault(rest, {}).setdefault(run.seed, {})[run.train.optimizer.learning_rate] = found
    rates = tuple(sorted(float(rate) for rate in spec.vary[AXIS]))
    rows = []
    for rest, by_seed in groups.items():
        whole = {seed: sweep for seed, sweep in by_seed.items() if len(sweep) == len(rates)}
        if not whole:
            continue
        values, losses = [], {}
        for seed, sweep in whole.items():
            losses[seed] = tuple(sweep[rate][0] for rate in rates)
            values.append(sensitivity(rates, losses[seed], max(start for _, start in sweep.values())))
        means = [sum(losses[seed][i] for seed in losses) / len(losses) for i in range(len(rates))]
        told = [(mean, rate) for mean, rate in zip(means, rates, strict=True) if not math.isnan(mean)]
        best = min(told)[1] if told else math.nan
        rows.append(Sensitivity(dict(rest), rates, losses, mean_interval(values), best))
    if not rows:
        raise UserError(f"{folder}: no combination has finished at all of its rates.", "Finish it with --resume.")
    return rows


def _read(folder: RunFolder) -> tuple[float, float] | None:
    """(final loss, NaN where it diverged; loss before training), or None for a run that is not finished."""
    if not (folder.done or folder.failure):
        return None
    evaluations = [row for row in folder.metrics() if row.get("kind") == "eval"]
    if not evaluations:
        return None
    start = float(evaluations[0]["bits_per_byte"])
    return (float(folder.result["bits_per_byte"]) if folder.done else math.nan), start
