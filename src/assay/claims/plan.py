"""From a claim's experiments to runs, wave by wave: what starts from another's weights, or at a swept rate, waits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from assay.claims.base import Experiment
from assay.runs import RunFolder, StudyFolder
from assay.spec.study import InitFrom, RunSpec

__all__ = ["MARGIN", "all_runs", "best", "combinations", "final_runs", "next_runs", "sweeps"]

MARGIN = 0.02
"""Bits per byte by which a higher rate must be better, on the sweep's one seed, to be preferred to a lower one.

At the highest rate that trains one seed, others may spike: a gain that other seeds would not show is not worth that.
"""


def next_runs(experiment: Experiment, folder: StudyFolder) -> list[RunSpec]:
    """Runs that can be done now and have not ended; none when the experiment is complete."""
    if experiment.begins is not None and (first := next_runs(experiment.begins, folder)):
        return first
    swept = [run for runs in _swept(experiment, folder).values() for run in runs]
    waiting = [run for run in swept if not _ended(folder.run(run.hash))]
    return waiting or [run for run in final_runs(experiment, folder) if not _ended(folder.run(run.hash))]


def all_runs(experiment: Experiment, folder: StudyFolder) -> list[RunSpec]:
    """Every run of an experiment, sweeps and starts included; final ones as far as the sweeps have ended."""
    before = all_runs(experiment.begins, folder) if experiment.begins is not None else []
    swept = [run for runs in _swept(experiment, folder).values() for run in runs]
    return [*before, *swept, *final_runs(experiment, folder)]


def final_runs(experiment: Experiment, folder: StudyFolder) -> list[RunSpec]:
    """The experiment's runs, each combination at its best rate, in the study's order."""
    runs = []
    for (_, group), sweep in zip(combinations(experiment.study.runs()), sweeps(experiment, folder), strict=True):
        if sweep:
            group = [run.with_(**{"train.optimizer.learning_rate": best(sweep)}) for run in group]
        runs += group
    return _begun(experiment, runs, folder)


def sweeps(experiment: Experiment, folder: StudyFolder) -> list[dict[float, float]]:
    """For each combination in the study's order, rate to held-out loss, infinite where the run diverged or has not run.

    Empty mappings where nothing is swept.
    """
    found: list[dict[float, float]] = [{} for _ in combinations(experiment.study.runs())]
    for rate, runs in _swept(experiment, folder).items():
        for sweep, run in zip(found, runs, strict=True):
            ended = folder.run(run.hash)
            sweep[rate] = float(ended.result["bits_per_byte"]) if ended.done else math.inf
    return found


def best(sweep: Mapping[float, float]) -> float:
    """The lowest rate whose loss is within `MARGIN` of the lowest loss; the lowest rate where every one diverged."""
    least = min(sweep.values())
    return min(rate for rate, loss in sweep.items() if loss <= least + MARGIN)


def combinations(runs: Sequence[RunSpec]) -> list[tuple[dict[str, str], list[RunSpec]]]:
    """Runs by combination: those of one combination stand together, seeds ascending from 0."""
    groups: list[tuple[dict[str, str], list[RunSpec]]] = []
    for run in runs:
        if run.seed == 0:
            groups.append((dict(run.labels), []))
        groups[-1][1].append(run)
    return groups


def _swept(experiment: Experiment, folder: StudyFolder) -> dict[float, list[RunSpec]]:
    """For each rate, seed 0 of every combination in the study's order."""
    if experiment.rates is None:
        return {}
    single = experiment.study.with_(seeds=1)
    return {
        rate: _begun(experiment, single.with_(**{"train.optimizer.learning_rate": rate}).runs(), folder)
        for rate in experiment.rates
    }


def _begun(experiment: Experiment, runs: list[RunSpec], folder: StudyFolder) -> list[RunSpec]:
    """The runs with what each begins from."""
    if experiment.begins is None:
        return runs
    parents = final_runs(experiment.begins, folder)
    assert len(combinations(parents)) == 1, "runs begin from an experiment of one combination"
    starts = {
        parent.seed: InitFrom(source=str(folder.run(parent.hash).path), identity=f"run:{parent.hash}")
        for parent in parents
    }
    return [run.model_copy(update={"init": starts[run.seed]}) for run in runs]


def _ended(folder: RunFolder) -> bool:
    return folder.done or folder.failure is not None
