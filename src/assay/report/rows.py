"""The table of a study: one row a combination, over its seeds; and the differences between combinations."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any

from assay.report.study import FAILED, UNFINISHED, WAITING, Combination, RunData, StudyData, load, name_of
from assay.runs import StudyFolder
from assay.stats import MINIMUM_REPEATS, Interval, mean_interval, paired_difference, t_cdf

SCHEMA = 1
LEVEL = 0.05
"""Chance of telling apart what does not differ, over all pairs of a study together."""


@dataclass
class Row:
    """One combination of a study, over its finished runs. Fields are None where no run is finished."""

    labels: dict[str, str]
    seeds: list[int]
    """Seeds of the finished runs."""
    bits_per_byte: Interval | None = None
    """Held-out continuation loss: mean over seeds, Student t interval."""
    by_seed: dict[int, float] = field(default_factory=dict)
    """Bits per byte of each finished run."""
    supervised_tokens_per_flop: float | None = None
    """Targets learned from per training FLOP."""
    tokens_per_second: float | None = None
    """Input tokens a second while training: median over seeds."""
    peak_bytes: int | None = None
    """Live tensor bytes at their peak: the largest over seeds."""
    parameters: dict[str, int] = field(default_factory=dict)
    """Parameters by part."""
    flops: float | None = None
    """Training FLOPs of a run: mean over seeds."""
    flops_per_token: float | None = None
    """Training FLOPs per input token."""
    steps: float | None = None
    """Optimizer steps of a run: mean over seeds."""
    seconds: float | None = None
    """Training time of a run: mean over seeds."""
    padding_share: float | None = None
    """Share of the positions that hold padding."""
    failures: list[dict[str, Any]] = field(default_factory=list)
    """Runs that ended early: seed, run, reason, step."""
    unfinished: list[int] = field(default_factory=list)
    """Seeds of runs begun and not ended, and of runs not begun."""

    @property
    def name(self) -> str:
        """The values that tell the combination from the others."""
        return name_of(self.labels)

    @property
    def total_parameters(self) -> int:
        """All parts together."""
        return sum(self.parameters.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain data for results.json."""
        bits = self.bits_per_byte
        told = {"mean": bits.estimate, "low": bits.low, "high": bits.high, "method": bits.method} if bits else None
        return {
            "labels": self.labels,
            "seeds": self.seeds,
            "n": len(self.seeds),
            "bits_per_byte": told,
            "bits_per_byte_by_seed": {str(seed): value for seed, value in self.by_seed.items()},
            "supervised_tokens_per_flop": self.supervised_tokens_per_flop,
            "tokens_per_second": self.tokens_per_second,
            "peak_bytes": self.peak_bytes,
            "parameters": self.parameters,
            "total_parameters": self.total_parameters,
            "flops": self.flops,
            "flops_per_token": self.flops_per_token,
            "steps": self.steps,
            "seconds": self.seconds,
            "padding_share": self.padding_share,
            "failures": self.failures,
            "unfinished": self.unfinished,
        }


@dataclass(frozen=True)
class Pair:
    """The difference of two combinations over the seeds that both finished: first minus second."""

    first: Row
    second: Row
    difference: Interval
    """Bits per byte, paired by seed; below 0: the first is better."""
    p: float
    """Two-sided p of the paired t test; 1 where fewer than 2 seeds are shared."""
    apart: bool
    """Whether the two are told apart, all pairs of the study considered (Holm 1979)."""

    @property
    def verdict(self) -> str:
        """In words."""
        n = self.difference.n or 0
        if n < MINIMUM_REPEATS:
            return f"too few seeds ({n})"
        if self.apart:
            return "told apart"
        return "not told apart" if 0 in self.difference else "only as a single pair"


def aggregate(folder: str | Path | StudyData) -> list[Row]:
    """The rows of a study, in its own order, from its run folders alone.

    Raises:
        UserError: no study there, or no finished run.
    """
    data = folder if isinstance(folder, StudyData) else load(folder)
    return [_row(combination) for combination in data.combinations]


def results(folder: str | Path | StudyData) -> dict[str, Any]:
    """What results.json holds: the rows and the differences, as plain data.

    Raises:
        UserError: as `aggregate`.
    """
    rows = aggregate(folder)
    pairs = [
        {
            "first": pair.first.labels,
            "second": pair.second.labels,
            "difference": pair.difference.estimate,
            "low": pair.difference.low,
            "high": pair.difference.high,
            "seeds": pair.difference.n,
            "p": pair.p,
            "verdict": pair.verdict,
        }
        for pair in differences(rows)
    ]
    return {"schema_version": SCHEMA, "rows": [row.to_dict() for row in rows], "differences": pairs}


def write_results(folder: str | Path) -> Path:
    """Write results.json of a study; its path.

    Raises:
        UserError: as `aggregate`, or the disk is full.
    """
    study = StudyFolder(folder)
    study.write_results(results(folder))
    return study.path / "results.json"


def _row(combination: Combination) -> Row:
    runs = combination.finished
    row = Row(
        combination.labels,
        [run.seed for run in runs],
        failures=[
            {"seed": run.seed, "run": run.name, "reason": run.reason, "step": run.last_step}
            for run in combination.runs
            if run.status == FAILED
        ],
        unfinished=[run.seed for run in combination.runs if run.status in (UNFINISHED, WAITING)],
    )
    if not runs:
        return row
    row.by_seed = {run.seed: run.bits_per_byte for run in runs}
    row.bits_per_byte = mean_interval(list(row.by_seed.values()))
    row.flops, row.steps = _mean(runs, "flops"), _mean(runs, "steps")
    row.seconds, row.padding_share = _mean(runs, "seconds"), _mean(runs, "padding_share")
    supervised, tokens = _mean(runs, "supervised_tokens"), _mean(runs, "input_tokens")
    if row.flops:
        row.supervised_tokens_per_flop = supervised / row.flops if supervised is not None else None
        row.flops_per_token = row.flops / tokens if tokens else None
    speeds = _values(runs, "tokens_per_second")
    row.tokens_per_second = median(speeds) if speeds else None
    peaks = _values(runs, "peak_bytes")
    row.peak_bytes = int(max(peaks)) if peaks else None
    row.parameters = {str(part): int(n) for part, n in (runs[0].result.get("parameters") or {}).items()}
    return row


def _values(runs: list[RunData], name: str) -> list[float]:
    values = (run.result.get(name) for run in runs)
    return [float(value) for value in values if isinstance(value, int | float) and math.isfinite(value)]


def _mean(runs: list[RunData], name: str) -> float | None:
    values = _values(runs, name)
    return fmean(values) if values else None


def differences(rows: list[Row]) -> list[Pair]:
    """All pairs of combinations, best first, over shared seeds.

    Two are told apart where Holm's step-down test over all pairs says so at 5% together, and 3 or more seeds are
    shared: so a study of many combinations does not find differences by looking often.

    Source: Holm 1979.
    """
    ranked = sorted(
        (row for row in rows if row.bits_per_byte),
        key=lambda row: row.bits_per_byte.estimate,  # type: ignore[union-attr]
    )
    found: list[tuple[Row, Row, Interval, float]] = []
    for first, second in itertools.combinations(ranked, 2):
        shared = [seed for seed in first.by_seed if seed in second.by_seed]
        if not shared:
            continue
        difference = paired_difference(
            [first.by_seed[seed] for seed in shared], [second.by_seed[seed] for seed in shared]
        )
        found.append((first, second, difference, _p(first, second, shared)))
    order = sorted(range(len(found)), key=lambda index: found[index][3])
    apart: set[int] = set()
    for rank, index in enumerate(order):
        if found[index][3] > LEVEL / (len(found) - rank):
            break
        apart.add(index)
    return [
        Pair(first, second, difference, p, index in apart and (difference.n or 0) >= MINIMUM_REPEATS)
        for index, (first, second, difference, p) in enumerate(found)
    ]


def effects(rows: list[Row]) -> dict[str, list[Pair]]:
    """What each axis does by itself, where several vary: differences between its values, averaged over the rest.

    Averages are taken within a seed, over the settings of the other axes that all of the axis's values finished,
    so a mean has as many repeats as there are seeds. Axes without such settings are left out; Holm's test covers
    the pairs of one axis.
    """
    axes = {axis: list(dict.fromkeys(row.labels[axis] for row in rows)) for axis in (rows[0].labels if rows else {})}
    varied = {axis: values for axis, values in axes.items() if len(values) > 1}
    if len(varied) < 2:
        return {}
    found = {}
    for axis, values in varied.items():
        cells = {(row.labels[axis], _rest(row, axis)): row.by_seed for row in rows}
        rests = [r for r in {_rest(row, axis) for row in rows} if all(cells.get((v, r)) for v in values)]
        seeds = [set(cells[value, rest]) for value in values for rest in rests]
        shared = sorted(set.intersection(*seeds)) if seeds else []
        if not shared:
            continue
        means = []
        for value in values:
            by_seed = {seed: fmean(cells[value, rest][seed] for rest in rests) for seed in shared}
            means.append(Row({axis: value}, shared, mean_interval(list(by_seed.values())), by_seed))
        found[axis] = differences(means)
    return found


def _rest(row: Row, axis: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in row.labels.items() if name != axis)


def _p(first: Row, second: Row, shared: list[int]) -> float:
    """Two-sided p of the paired t test."""
    n = len(shared)
    if n < 2:
        return 1.0
    gaps = [first.by_seed[seed] - second.by_seed[seed] for seed in shared]
    mean = fmean(gaps)
    error = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / (n - 1) / n)
    if error == 0:
        return 0.0 if mean else 1.0
    return 2 * t_cdf(-abs(mean / error), n - 1)
