"""One model in several sizes on a made task, each answer written down in every metric: a table for `assay emergence`.

The sizes differ in width alone: text, tokens, steps and the schedule are equal, and each trains at the best of the
given rates (lowest held-out loss on seed 0). All are asked the same test items, which no training text holds.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from assay.errors import UserError
from assay.evaluation.generated import generated_task
from assay.evaluation.outcomes import Outcomes, outcomes
from assay.evaluation.pairs import Codec
from assay.runs import StudyFolder
from assay.runs.files import write_text
from assay.spec.study import RunSpec, StudySpec
from assay.stats.composition import WHOLE
from assay.studies.crews import together
from assay.studies.runner import in_turns, run_all

__all__ = ["FILE", "Sizes", "rows", "sizes"]

FILE = "results.csv"
HEADS = ("model", "scale", "seed", "token_logprob", "length", "accuracy", "edit_distance", "subtask", "score")


def heads(width: int) -> int:
    """Of about 16 features each."""
    return max(1, width // 16)


@dataclass(frozen=True)
class Sizes:
    """What is trained and asked."""

    task: str
    """A made task, such as addition (`data.items.GENERATED`)."""
    size: int
    """Of its items: digits, parts."""
    widths: tuple[int, ...] = (8, 16, 24, 32, 48, 64)
    layers: int = 2
    steps: int = 4000
    """Each of 16 rows of 128 bytes."""
    rates: tuple[float, ...] = (4e-3,)
    """Peak learning rates; of several each width takes its best on seed 0."""
    seeds: int = 3
    train_items: int = 60_000
    """Of the training text."""
    test_items: int = 400

    def __post_init__(self) -> None:
        """Raises UserError: widths that are equal or too few, or not whole heads."""
        if len(set(self.widths)) < 2:
            raise UserError(f"widths = {self.widths}: nothing grows.", "Give two widths or more: --widths 8,16,32,64.")
        for width in self.widths:
            if width < 2 or width % (2 * heads(width)):
                raise UserError(
                    f"widths = {width}: {heads(width)} heads of an even width do not fill it.",
                    f"Give a multiple of {2 * heads(width)}.",
                )

    def study(self, rate: float) -> StudySpec:
        """All widths and seeds at a rate."""
        widths = tuple(sorted(set(self.widths)))
        base = StudySpec.from_dict(
            {
                "name": f"{self.task} in {len(widths)} sizes",
                "model": {"layers": self.layers, "width": widths[0], "attention": {"heads": 1}, "context": 256},
                "train": {
                    "steps": self.steps, "batch_size": 16, "length": 128, "evaluations": 1, "checkpoints": 1,
                    "compile": False, "schedule": {"warmup": 0.1}, "optimizer": {"learning_rate": rate},
                },
                "data": {
                    "source": f"made:{self.task}:items={self.train_items}:sizes={self.size}",
                    "tokenizer": {"kind": "bytes", "sentinels": 1},
                },
                "vary": {"width": widths}, "seeds": self.seeds,
            },
            source="sizes",
        )  # fmt: skip
        return base

    def runs(self, rate: float) -> list[RunSpec]:
        """The runs at a rate."""
        return [
            run.model_copy(update={"model": run.model.with_(**{"attention.heads": heads(run.model.width)})})
            for run in self.study(rate).runs()
        ]


def rows(name: str, scale: float, seed: int, found: Outcomes) -> list[dict[str, Any]]:
    """The lines of one model: an item each, then each of its parts where answers have several."""
    parts = found.parts.shape[1] if found.parts.ndim == 2 and found.parts.shape[1] > 1 else 0
    lines: list[dict[str, Any]] = []
    for i in range(len(found.nats)):
        whole = {"subtask": WHOLE, "score": f"{found.exact[i]:g}"} if parts else {}
        lines.append(
            {
                "model": name, "scale": f"{scale:g}", "seed": seed, "length": f"{found.tokens[i]:g}",
                "token_logprob": f"{-found.nats[i] / found.tokens[i]:.6g}", "accuracy": f"{found.exact[i]:g}",
                "edit_distance": f"{found.edits[i]:g}", **whole,
            }
        )  # fmt: skip
        lines += [
            {"model": name, "scale": f"{scale:g}", "seed": seed, "subtask": f"part {part + 1}",
             "score": f"{found.parts[i, part]:g}"}
            for part in range(parts)
        ]  # fmt: skip
    return lines


def sizes(
    given: Sizes,
    study: StudyFolder,
    *,
    workers: int | None = None,
    progress: Callable[[dict[str, Any]], None] | None = None,
    command: str | None = None,
) -> list[str]:
    """Train what is not trained yet, ask every model, and write FILE in the folder, for `stats.results.read_results`.

    Seeds of a width are one model's rows, so a curve is their mean.

    Returns:
        What a reader must know: runs that failed, rates at the edge.

    Raises:
        UserError: fewer than two widths came to their end, or the disk is full.
        KeyboardInterrupt: on Ctrl-C; finished runs are kept.
    """
    do = {"workers": workers, "progress": progress, "command": command, "together": together("auto", timed=())}
    told: list[str] = []
    best: dict[int, float] = {}
    if len(given.rates) > 1:
        swept = [run for rate in given.rates for run in given.runs(rate) if run.seed == 0]
        run_all(in_turns(swept), study, **do)  # type: ignore[arg-type]
        for width in given.widths:
            losses = {rate: _loss(study, given, width, rate) for rate in given.rates}
            best[width] = min(losses, key=lambda rate: (losses[rate], rate))
            if best[width] in (min(given.rates), max(given.rates)):
                told.append(f"Width {width}: the best rate, {best[width]:g}, is at the edge of the sweep.")
    wanted = [run for rate in given.rates for run in given.runs(rate) if best.get(run.model.width, rate) == rate]
    run_all(in_turns(wanted), study, **do)  # type: ignore[arg-type]
    task = generated_task(given.task, given.test_items, sizes=(given.size,))
    lines: list[dict[str, Any]] = []
    for run in sorted(wanted, key=lambda run: (run.model.width, run.seed)):
        folder = study.run(run.hash)
        if not folder.done:
            told.append(f"Width {run.model.width}, seed {run.seed}: {folder.failure or 'not finished'}; left out.")
            continue
        from assay.published.load import load

        model = load(folder.path)
        lines += rows(
            f"width {run.model.width}", float(int(model.spec.parameters())), run.seed, outcomes(Codec(model), task)
        )
    if len({line["model"] for line in lines}) < 2:
        raise UserError(f"{study.path}: fewer than two sizes came to their end: {' '.join(told)}", "Try a lower --lr.")
    text = io.StringIO()
    writer = csv.DictWriter(text, HEADS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    write_text(study.path / FILE, text.getvalue())
    return told


def _loss(study: StudyFolder, given: Sizes, width: int, rate: float) -> float:
    """Held-out loss of seed 0; infinite where the run diverged."""
    (run,) = (run for run in given.runs(rate) if run.seed == 0 and run.model.width == width)
    folder = study.run(run.hash)
    return float(folder.result["bits_per_byte"]) if folder.done else math.inf
