"""Finished runs tuned on small tasks, all families alike: what the claims on task fit share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from assay.claims.lab import Cell, Lab
from assay.runs import read_json, write_json

if TYPE_CHECKING:
    from assay.evaluation.tasks import Task, Three

__all__ = ["Scores", "real_texts", "three", "tuned"]

Scores = Mapping[str, Mapping[str, float]]
"""Task to "nats" (a token of the right answers) and "accuracy" (the likeliest choice is right), after tuning."""


def real_texts(cell: Cell) -> tuple[list[str], list[str]]:
    """Documents that the cell's runs were trained on, and held-out ones."""
    from assay.data.sources import read
    from assay.data.split import split

    data = cell.runs[0].run.data
    train, heldout = split(read(data.source, text_field=data.text_field), data.heldout)
    return list(train.documents), list(heldout.documents)


def tuned(lab: Lab, cell: Cell, tasks: Mapping[str, Three], *, steps: int, length: int) -> list[Scores | None]:
    """Every seed's run tuned on all tasks at equal rates, then measured on each; None where the run diverged.

    Scores are kept in the claim's scratch folder, so that what was tuned once is read.
    """
    from assay.evaluation.evaluate import evaluate_task
    from assay.evaluation.pairs import Codec
    from assay.training.tuning import Part, tune
    from assay.training.tuning_spec import TuneSpec

    spec = TuneSpec.model_validate(
        {"steps": steps, "length": length, "evaluations": 4, "heldout": 64, "optimizer": {"learning_rate": 3e-3}}
    )
    found: list[Scores | None] = []
    for run in cell.runs:
        if not run.done:
            found.append(None)
            continue
        kept = lab.scratch / f"{run.run.hash}-{spec.hash}-{'-'.join(tasks)}.json"
        if not kept.is_file():
            model = run.model()
            tune(model, [Part(three.train, three.valid) for three in tasks.values()], spec, seed=run.run.seed)
            codec = Codec(model, length=length)
            rows = {name: evaluate_task(codec, three.test, end=True, written=False) for name, three in tasks.items()}
            scores = {
                name: {"nats": row["nats_per_token"]["value"], "accuracy": row["accuracy"]["value"]}
                for name, row in rows.items()
            }
            write_json(kept, scores)
        found.append(read_json(kept))
    return found


def three(train: Task, valid: Task, test: Task) -> Three:
    """Three tasks as one set."""
    from assay.evaluation.tasks import Three

    return Three(train, valid, test)
