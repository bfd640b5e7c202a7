"""What a claim's `measure` works with: the finished runs of its experiments, and a place for its own files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from assay.claims.base import Experiment, Tier, Words
from assay.claims.plan import combinations, final_runs, sweeps
from assay.runs import RunFolder, StudyFolder
from assay.spec.study import RunSpec
from assay.stats import Interval, mean_interval, paired_difference

if TYPE_CHECKING:
    from assay.generation.model import Model
    from assay.training.text import Text

__all__ = ["NEVER", "SCRATCH", "Cell", "Lab", "Results", "Trained"]


SCRATCH = "scratch"
"""Folder of the claims' own files in a book's folder."""
NEVER = Interval(math.nan, -math.inf, math.inf, 0.95, 0, "no run came to its end")
"""The answer where every run diverged: it decides nothing."""


@dataclass(frozen=True)
class Trained:
    """One run that has ended: done, or diverged."""

    run: RunSpec
    folder: RunFolder

    @property
    def done(self) -> bool:
        """Whether it came to its end; else it diverged (or failed)."""
        return self.folder.done

    @property
    def result(self) -> dict[str, Any]:
        """What DONE holds. Raises UserError where the run is not done."""
        found: dict[str, Any] = self.folder.result
        return found

    @property
    def bits_per_byte(self) -> float:
        """Held-out continuation loss at the end; infinite where the run diverged."""
        return float(self.result["bits_per_byte"]) if self.done else math.inf

    def rows(self, kind: str = "train") -> list[dict[str, Any]]:
        """Rows of metrics of a kind: "train" (loss, lr, grad_norm, tokens, flops ...) or "eval"."""
        return [row for row in self.folder.metrics() if row.get("kind") == kind]

    def model(self) -> Model:
        """The trained model with its tokenizer."""
        from assay.published.load import load

        return load(self.folder.path)

    def text(self) -> Text:
        """The text it was trained on, as tokens, with its held-out windows."""
        from assay.training.text import load_text

        return load_text(self.run.data)


@dataclass(frozen=True)
class Cell:
    """All seeds of one combination of an experiment."""

    labels: Mapping[str, str]
    """Axis to value, as texts."""
    runs: Sequence[Trained]
    """By seed."""
    rate: float
    """Peak learning rate of these runs."""
    sweep: Mapping[float, float] = field(default_factory=dict)
    """Rate to held-out bits per byte of the sweep's run (infinite: diverged); empty where no rate was swept."""

    @property
    def bits(self) -> NDArray[np.float64]:
        """[seeds] held-out bits per byte; infinite where a run diverged."""
        return np.array([run.bits_per_byte for run in self.runs])

    @property
    def mean(self) -> Interval:
        """Mean held-out bits per byte of the seeds that came to their end, with its 95% Student t interval."""
        done = self.bits[np.isfinite(self.bits)]
        return mean_interval(done) if len(done) else NEVER

    def minus(self, other: Cell) -> Interval:
        """This cell's held-out bits per byte less another's, paired by the seeds that both brought to their end."""
        both = np.isfinite(self.bits) & np.isfinite(other.bits)
        return paired_difference(self.bits[both], other.bits[both]) if both.any() else NEVER

    @property
    def all_done(self) -> bool:
        """Whether no seed diverged."""
        return all(run.done for run in self.runs)

    @property
    def at_edge(self) -> bool:
        """Whether the best rate is the sweep's lowest or highest."""
        return len(self.sweep) > 1 and self.rate in (min(self.sweep), max(self.sweep))


@dataclass(frozen=True)
class Results:
    """An experiment's combinations."""

    cells: Sequence[Cell]

    def cell(self, **labels: Any) -> Cell:
        """The one combination with these labels: `results.cell(norm="rmsnorm")`; dots in an axis as "__".

        Raises:
            KeyError: none, or several.
        """
        wanted = {axis.replace("__", "."): str(value) for axis, value in labels.items()}
        found = [c for c in self.cells if all(c.labels.get(axis) == value for axis, value in wanted.items())]
        if len(found) != 1:
            raise KeyError(f"{wanted}: {len(found)} combinations of {[dict(c.labels) for c in self.cells]}")
        return found[0]

    def remarks(self) -> list[Words]:
        """What a reader must know: rates at the sweep's edge, runs that diverged."""
        said = []
        for cell in self.cells:
            name = ", ".join(cell.labels.values()) or "the run"
            if cell.at_edge:
                said.append(
                    Words(
                        f"{name}: the best learning rate of the sweep, {cell.rate:g}, is at its edge.",
                        f"{name}：扫描得到的最佳学习率 {cell.rate:g} 位于扫描范围的边缘。",
                    )
                )
            lost = sum(not run.done for run in cell.runs)
            if lost:
                said.append(
                    Words(
                        f"{name}: {lost} of {len(cell.runs)} runs diverged.",
                        f"{name}：{len(cell.runs)} 次训练中有 {lost} 次发散。",
                    )
                )
        return said


class Lab:
    """What `measure` is handed.

    Attributes:
        key: the claim's.
        tier: how much is spent.
        folder: where the book's runs are.
        scratch: a folder of this claim's own, for what other rooms' functions write; it is kept, so that what they
            finished is found again.
    """

    def __init__(self, key: str, tier: Tier, folder: StudyFolder, experiments: Mapping[str, Experiment]) -> None:
        """See the class. `experiments`: the claim's runs of this tier."""
        self.key, self.tier, self.folder = key, tier, folder
        self._experiments = experiments

    @property
    def scratch(self) -> Path:
        """Made when it is first asked for."""
        path = self.folder.path / SCRATCH / self.key
        path.mkdir(parents=True, exist_ok=True)
        return path

    def by_tier(self, **values: Any) -> Any:
        """The value of this tier: `lab.by_tier(smoke=2, quick=10, full=100)`."""
        return values[self.tier.value]

    def results(self, name: str) -> Results:
        """The finished runs of one of the claim's experiments."""
        experiment = self._experiments[name]
        cells = []
        combined = combinations(final_runs(experiment, self.folder))
        for (labels, runs), sweep in zip(combined, sweeps(experiment, self.folder), strict=True):
            rate = runs[0].train.optimizer.learning_rate
            cells.append(Cell(labels, [Trained(run, self.folder.run(run.hash)) for run in runs], rate, sweep))
        return Results(cells)
