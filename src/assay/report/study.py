"""A study as its folder tells it: runs read back, put together by combination, in the study's own order.

Everything comes from run folders; `study.toml` adds the order of the combinations, and the runs not begun yet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from assay.errors import UserError
from assay.runs import RunFolder, StudyFolder
from assay.spec.model import ModelSpec
from assay.spec.study import RunSpec, StudySpec

FINISHED, FAILED, UNFINISHED, WAITING = "finished", "failed", "unfinished", "not started"


@dataclass
class RunData:
    """One run: what it was, how far it got, what it measured."""

    name: str
    """Its folder's name, which is its hash."""
    labels: dict[str, str]
    seed: int
    status: str
    """FINISHED, FAILED, UNFINISHED or WAITING."""
    reason: str = ""
    """Why it failed, in a sentence."""
    run: dict[str, Any] = field(default_factory=dict)
    """run.json."""
    spec: dict[str, Any] = field(default_factory=dict)
    """spec.json."""
    result: dict[str, Any] = field(default_factory=dict)
    """DONE."""
    metrics: list[dict[str, Any]] = field(default_factory=list)
    """Rows of metrics.jsonl."""

    @property
    def bits_per_byte(self) -> float:
        """Held-out continuation loss at the end."""
        return float(self.result["bits_per_byte"])

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        """Rows of held-out measurements, in order; those that are no finite number are left out."""
        return [
            row
            for row in self.metrics
            if row.get("kind") == "eval" and math.isfinite(row.get("bits_per_byte", math.nan))
        ]

    @property
    def training(self) -> list[dict[str, Any]]:
        """Rows of training steps with a finite loss, in order."""
        return [row for row in self.metrics if row.get("kind") == "train" and math.isfinite(row.get("loss", math.nan))]

    @property
    def last_step(self) -> int:
        """The newest step that metrics know of."""
        return max((int(row.get("step", 0)) for row in self.metrics), default=0)


def name_of(labels: dict[str, str]) -> str:
    """What reports call a combination: its values, joined by a sign that sentences do not use."""
    return " · ".join(labels.values()) or "the model"


@dataclass
class Combination:
    """Runs that differ in their seed alone."""

    labels: dict[str, str]
    runs: list[RunData] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The values that tell it from the others."""
        return name_of(self.labels)

    @property
    def finished(self) -> list[RunData]:
        """Its finished runs, by seed."""
        return sorted((run for run in self.runs if run.status == FINISHED), key=lambda run: run.seed)

    @cached_property
    def model(self) -> ModelSpec | None:
        """Its model, or None where no run holds a description that this assay reads."""
        for run in self.runs:
            if run.spec:
                try:
                    return ModelSpec.from_dict(run.spec)
                except UserError:
                    continue
        return None


@dataclass
class StudyData:
    """A whole study."""

    path: Path
    combinations: list[Combination]
    toml: str = ""
    """The text of study.toml."""
    spec: StudySpec | None = None
    """What study.toml says, where this assay can read it."""
    strangers: int = 0
    """Runs in the folder that belong to another study."""

    @property
    def runs(self) -> list[RunData]:
        """All runs, in the order of combinations and seeds."""
        return [run for combination in self.combinations for run in combination.runs]

    def by_status(self, status: str) -> list[RunData]:
        """Its runs of one status."""
        return [run for run in self.runs if run.status == status]

    @property
    def finished(self) -> list[Combination]:
        """The combinations that have a finished run."""
        return [combination for combination in self.combinations if combination.finished]

    @property
    def first(self) -> RunData:
        """A finished run, for what all runs share."""
        return self.by_status(FINISHED)[0]


def load(folder: str | Path) -> StudyData:
    """Read a study folder.

    A damaged run does not hide the others: it counts as failed, with the damage as its reason.

    Raises:
        UserError: there is no study, or not one finished run, with what would work.
    """
    study = StudyFolder.open(folder)
    runs = {run.name: _read(run) for run in study.runs()}
    try:
        toml: str | None = study.study_toml
    except UserError:
        toml = None
    data = StudyData(Path(folder), [], toml or "", _spec(toml))
    planned = data.spec.runs() if data.spec else []
    matched = _match(runs, planned)
    data.strangers = len(runs) - len(matched) if planned else 0
    found = []
    for plan in planned:
        waiting = RunData(plan.hash, plan.labels, plan.seed, WAITING, spec=plan.model.to_dict(full=True))
        run = matched.get(plan.hash, waiting)
        run.labels = plan.labels  # a run made by another study bears that study's labels
        found.append(run)
    if not matched:
        data.strangers = 0
        found = sorted(runs.values(), key=lambda run: (list(run.labels.values()), run.seed))
    by_labels: dict[tuple[tuple[str, str], ...], Combination] = {}
    for run in found:
        combination = by_labels.setdefault(tuple(run.labels.items()), Combination(run.labels))
        combination.runs.append(run)
    data.combinations = list(by_labels.values())
    if not data.by_status(FINISHED):
        raise UserError(_none_finished(data))
    return data


def _match(runs: dict[str, RunData], planned: list[RunSpec]) -> dict[str, RunData]:
    """The runs that a study planned, by its hashes; where an older plan's hashes fit none, by labels and seed."""
    matched = {plan.hash: runs[plan.hash] for plan in planned if plan.hash in runs}
    if not matched:
        by_labels = {(tuple(sorted(run.labels.items())), run.seed): run for run in runs.values()}
        keys = {plan.hash: (tuple(sorted(plan.labels.items())), plan.seed) for plan in planned}
        matched = {name: by_labels[key] for name, key in keys.items() if key in by_labels}
    return matched


def _none_finished(data: StudyData) -> str:
    failed, unfinished = data.by_status(FAILED), data.by_status(UNFINISHED)
    states = [f"{len(runs)} {word}" for runs, word in ((unfinished, "unfinished"), (failed, "failed")) if runs]
    first = f" The first failure: {failed[0].reason.rstrip('.')}." if failed else ""
    return (
        f"{data.path}: no run is finished ({', '.join(states)}), so there is nothing to report yet.{first} "
        f"Finish them: assay compare --out {data.path} --resume."
    )


def _spec(toml: str | None) -> StudySpec | None:
    if toml is None:
        return None
    try:
        spec = StudySpec.from_toml(toml + "\n")  # the line end says that this is text, not a path
        spec.runs()
        return spec
    except UserError:  # an older or hand-changed file: the run folders say enough
        return None


def _read(folder: RunFolder) -> RunData:
    data = RunData(folder.name, {}, 0, FAILED)
    try:
        data.run = folder.read_json("run.json")
        labels = data.run.get("labels") or {}
        data.labels = {str(axis): str(value) for axis, value in labels.items()}
        data.seed = int(data.run.get("seed", 0))
        data.metrics = folder.metrics()
        data.spec = folder.read_json("spec.json")
        if folder.done:
            data.result = folder.result
            data.status, data.reason = FINISHED, ""
            if not math.isfinite(data.bits_per_byte):
                data.status, data.reason = FAILED, f"diverged: held-out loss is not finite at step {data.last_step}"
        elif folder.failure is not None:
            data.reason = folder.failure
        else:
            data.status = UNFINISHED
    except UserError as error:
        data.status, data.reason = FAILED, f"its folder is damaged: {error}"
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        data.status, data.reason = FAILED, f"its folder is damaged ({type(error).__name__}: {error})"
    return data
