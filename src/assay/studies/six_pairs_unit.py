"""One unit of the six pairs: pretrain (or go on from another run), measure zero-shot, tune, measure again."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from assay.data.loader import Loader
from assay.data.shards import tokenize
from assay.evaluation.cloze import cloze_task
from assay.evaluation.evaluate import evaluate
from assay.evaluation.generated import continuation_task, generated_task
from assay.evaluation.pairs import Codec
from assay.evaluation.tasks import Task
from assay.generation.model import Model
from assay.nn.batch import to_tensors
from assay.nn.loss import target_nats
from assay.runs import RunFolder, read_json, write_json
from assay.spec.study import RunSpec
from assay.studies.six_pairs_spec import SixPairs
from assay.studies.worker import attend, leave
from assay.training.checkpoint import load_weights
from assay.training.loop import Training
from assay.training.text import Text, load_text
from assay.training.tuning import Part, tune

__all__ = ["RESULT", "PairTraining", "do_unit", "is_complete", "main", "test_tasks"]

RESULT = "pair.json"
"""In the run's folder: what the unit measured."""
HELDOUT_BATCHES = 4
"""Batches of the held-out objective's loss."""
CLOZE = 4
"""Cloze items for one of any other task: they are short, and where tiny models first differ."""
MEASURED = 2
"""Raised when what a unit measures changes: earlier measurements are then taken again."""
SEED = 2022
"""Of the held-out batches and test items: the same for all runs."""


class PairTraining(Training):
    """A run that may begin from another's weights, and whose evaluations add its own objective's held-out loss."""

    def __init__(self, run: RunSpec, folder: RunFolder, text: Text, command: str | None, start: Path | None) -> None:
        """Args: start: a checkpoint whose weights it begins from; None: fresh ones."""
        self._batches: list[Any] | None = None
        super().__init__(run, folder, text, "cpu", lambda row: None, command)
        if start is not None and self.at.step == 0:
            load_weights(start, self.model)

    def _row(self, row: dict[str, Any]) -> None:
        if row.get("kind") == "eval":
            row = {**row, "objective_nats": self._objective_loss()}
        super()._row(row)

    @torch.no_grad()
    def _objective_loss(self) -> float:
        """Mean nats a target of the run's own objective on held-out text; the same targets at every evaluation."""
        if self._batches is None:
            loader = Loader(
                tokenize(self.text.heldout, self.text.tokenizer), self.loader.objective,
                batch_size=self.run.train.batch_size, length=self.run.train.length,
                decoder_length=self.run.train.decoder_length, seed=SEED,
            )  # fmt: skip
            count = min(HELDOUT_BATCHES, loader.steps(0))
            self._batches = [to_tensors(loader.batch(0, step), self.device) for step in range(count)]
        training = self.model.training
        self.model.eval()
        with torch.compiler.set_stance("force_eager"):
            found = torch.cat([target_nats(self.model, batch) for batch in self._batches])
        self.model.train(training)
        return float(found.mean())


def main(arguments: list[str]) -> int:
    """Do the unit of a folder, in a worker process; the exit status."""
    return attend(arguments, _work)


def _work(folder: RunFolder, request: dict[str, Any], stop: Callable[[], bool]) -> str:
    study, run = SixPairs.from_dict(request["study"]), RunSpec.from_dict(request["run"])
    start = Path(request["start"]) if request["start"] else None
    why = do_unit(study, run, folder, start, request["command"], stop=stop)
    return {None: "done", "stopped": "stopped"}.get(why, "diverged")


def do_unit(
    study: SixPairs, run: RunSpec, folder: RunFolder, start: Path | None, command: str | None, *, stop: Any = None
) -> str | None:
    """Do a unit, or what is left of it; None when it is done, else why it is not.

    Args:
        study: what is tuned on and measured.
        run: the pretraining.
        folder: of the run; the measurements go to its RESULT.
        start: the folder of a finished run whose weights it begins from; such a unit is neither tuned nor measured
            on tasks: its curves are what is wanted.
        command: recorded as what does this again.
        stop: asked after every step.
    """
    asked = stop or (lambda: False)
    text = load_text(run.data)
    if not folder.done:
        weights = None
        if start is not None:
            before = RunFolder(start)
            weights = before.checkpoint(before.checkpoint_steps()[-1])
        with torch.random.fork_rng(devices=[]):
            training = PairTraining(run, folder, text, command, weights)
            if start is not None:
                write_json(folder.path / "start.json", {"from": start.name})
            outcome = training.go(asked)
            folder.close()
        if outcome["status"] != "done":
            return str(outcome.get("failed", "stopped"))
    if start is not None or _known(folder, study):
        return None
    from assay.training.api import Run

    model = Model(Run(folder).model(), text.tokenizer).eval()
    codec, tests = Codec(model, length=study.tune.length), test_tasks(study, text)
    zero = evaluate(codec, tests, written=False)
    parts = [
        Part(generated_task(n, study.train_items, part="train"), generated_task(n, 100, part="valid"))
        for n in study.tasks
    ]
    tuned = tune(model, parts, study.tune, seed=run.seed, stop=asked)
    if asked():
        return "stopped"
    after = evaluate(codec, tests[2:], end=True, written=False)
    result = {
        "study": study.hash, "measured": MEASURED,
        "zero": [_brief(row) for row in zero], "tuned": [_brief(row) for row in after],
        "tuning": {
            "steps": tuned.step, "best_step": tuned.best_step, "loss": tuned.best_loss, "flops": tuned.flops,
            "seconds": tuned.seconds, "stopped": tuned.stopped,
        },
    }  # fmt: skip
    write_json(folder.path / RESULT, result)
    return None


def _known(folder: RunFolder, study: SixPairs) -> bool:
    path = folder.path / RESULT
    if not path.is_file():
        return False
    found = read_json(path)
    return found.get("study") == study.hash and found.get("measured") == MEASURED


def is_complete(folder: RunFolder, study: SixPairs, *, begun: bool) -> bool:
    """Whether a unit's folder holds all that is wanted; `begun`: from another's weights, so that curves suffice."""
    return folder.done and (begun or _known(folder, study))


def test_tasks(study: SixPairs, text: Text) -> list[Task]:
    """The two tasks on held-out text, those of the mixture, and those that tuning never sees."""
    made = [generated_task(name, study.items, seed=SEED) for name in (*study.tasks, *study.others)]
    words = cloze_task(text.heldout.documents, CLOZE * study.items, seed=SEED)
    return [words, continuation_task(text.heldout.documents, study.items, seed=SEED), *made]


def _brief(row: dict[str, Any]) -> dict[str, Any]:
    """What the study keeps of a task's results."""
    kept = {name: row[name]["value"] for name in ("accuracy", "accuracy_by_byte", "nats_per_token", "ece")}
    return {"task": row["task"], "items": row["items"], "chance": row["chance"], **kept}


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
