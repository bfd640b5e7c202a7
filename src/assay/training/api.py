"""`assay.train`: one run from Python."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.errors import UserError
from assay.runs import RunFolder
from assay.spec.data import DataSpec
from assay.spec.model import ModelSpec
from assay.spec.objective import ObjectiveSpec
from assay.spec.study import RunSpec, default_objective
from assay.spec.training import TrainSpec

if TYPE_CHECKING:
    from assay.nn.transformer import Transformer

__all__ = ["Run", "make_run", "train"]

_SHORT = {"learning_rate": "optimizer.learning_rate", "weight_decay": "optimizer.weight_decay"}
"""Keywords of `train` that lie deeper in `TrainSpec`."""


class Run:
    """A run in its folder: what it measured, and the model it made.

    Attributes:
        folder: its `RunFolder`.
    """

    def __init__(self, folder: RunFolder | str | Path) -> None:
        """Args: folder: of a run that has begun. Nothing is read yet."""
        self.folder = folder if isinstance(folder, RunFolder) else RunFolder.open(folder)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """All rows of metrics: kind "train", "eval" or "event"."""
        return self.folder.metrics()

    @property
    def result(self) -> dict[str, Any]:
        """What came out: bits per byte (of an encoder: nats a masked token), tokens, FLOPs, times, memory.

        Raises:
            UserError: the run is not finished; where it failed, with the reason.
        """
        if self.folder.failure:
            raise UserError(f"{self.folder.path}: the run failed: {self.folder.failure}.")
        result: dict[str, Any] = self.folder.result
        return result

    @property
    def status(self) -> str:
        """ "done", "failed" or "unfinished"."""
        return "done" if self.folder.done else "failed" if self.folder.failure else "unfinished"

    def model(self, device: str = "cpu") -> Transformer:
        """The model with the weights of the newest checkpoint, ready for evaluation.

        Raises:
            UserError: there is no checkpoint, or it is damaged.
        """
        from assay.nn import build
        from assay.training.checkpoint import load_weights

        steps = self.folder.checkpoint_steps()
        if not steps:
            raise UserError(f"{self.folder.path}: there is no checkpoint.", "Train it further with --resume.")
        model = build(ModelSpec.from_dict(self.folder.read_json("spec.json")), device=device)
        load_weights(self.folder.checkpoint(steps[-1]), model)
        return model.eval()

    def __repr__(self) -> str:
        """Folder and state."""
        return f"Run({str(self.folder.path)!r}, {self.status})"


def make_run(
    spec: ModelSpec | dict[str, Any] | str | Path | None,
    data: DataSpec | dict[str, Any] | str | Path = "stdlib",
    *,
    objective: ObjectiveSpec | dict[str, Any] | str | None = None,
    seed: int = 0,
    init: str | Path | None = None,
    train: TrainSpec | None = None,
    **changes: Any,
) -> RunSpec:
    """The description of a run from what `train` takes.

    Raises:
        UserError: a field or a combination is wrong.
    """
    start = None
    if init is not None:
        from assay.training.start import find_start

        start = find_start(init)
    if spec is None and start is None:
        raise UserError("spec: None, and there is no init to take it from.", "Give a model.")
    model = start.model if start is not None and spec is None else _model(spec)  # type: ignore[arg-type]
    for name in ("budget", "steps"):
        if changes.get(name, 0) is None:
            del changes[name]
    if train is None and not {"budget", "steps"} & set(changes):
        changes["budget"] = 3e12
    # One of the two replaces the other, whichever the given TrainSpec had.
    base = (train or TrainSpec(steps=1)).to_dict()
    if {"budget", "steps"} & set(changes):
        base = {name: value for name, value in base.items() if name not in ("budget", "steps")}
        base |= {name: changes.pop(name) for name in ("budget", "steps") if name in changes}
    described = TrainSpec.from_dict(base).with_(**{_SHORT.get(name, name): v for name, v in changes.items()})
    text = str(data) if isinstance(data, Path) else data.model_dump(mode="json") if isinstance(data, DataSpec) else data
    goal = default_objective(model) if objective is None else objective
    goal = goal.model_dump(mode="json") if isinstance(goal, ObjectiveSpec) else goal
    run = RunSpec.from_dict(
        {
            "name": model.name,
            "model": model.model_dump(mode="json"),
            "train": described.to_dict(),
            "objective": goal,
            "data": text,
            "seed": seed,
        },
        source="train",
    )
    if start is None:
        return run
    from assay.training.start import begin_from

    return begin_from(run, start, tokenizer_given=isinstance(text, dict) and "tokenizer" in text)


def train(
    spec: ModelSpec | dict[str, Any] | str | Path | None,
    data: DataSpec | dict[str, Any] | str | Path = "stdlib",
    *,
    out: str | Path | None = None,
    objective: ObjectiveSpec | dict[str, Any] | str | None = None,
    seed: int = 0,
    init: str | Path | None = None,
    train: TrainSpec | None = None,
    device: str | None = None,
    progress: Callable[[dict[str, Any]], None] | None = None,
    stop: Callable[[], bool] | None = None,
    command: str | None = None,
    **changes: Any,
) -> Run:
    """Train a model in a run folder; an unfinished run there goes on, a finished one is not done again.

    `assay.train("model.toml", "my_texts/", budget=1e11, learning_rate=2e-3).result["bits_per_byte"]`

    Args:
        spec: a `ModelSpec`, its fields, or a SOURCE (a preset's name, a file, a run's folder, a published
            checkpoint's, of which the architecture is taken). Vocabulary size and special tokens are set from the
            tokenizer. None: that of `init`.
        data: a `DataSpec`, its fields, or a path to text; "stdlib": the running Python's own prose.
        out: the run's folder; None: `runs/<hash>`.
        objective: what is learned; None: causal LM in a causal decoder, masked LM in an encoder, else prefix LM.
        seed: of initialization, data order and dropout.
        init: begin from these weights, with their tokenizer: a finished run's folder, or any SOURCE with weights; the
            hash of what it began from is part of the run's identity. `assay.train(None, init=run.folder.path,
            objective={"kind": "ul2", "mixture": "upalm"})` is U-PaLM's recipe.
        train: the training fields; None: the defaults at a budget of 3e12 FLOPs.
        device: "cpu", "cuda"; None: an accelerator where there is one.
        progress: called with every row of metrics.
        stop: asked after every step; True: write a checkpoint and return.
        command: recorded as what does this run again; None: this process's own.
        **changes: training fields by keyword: budget or steps, batch_size, length, learning_rate, schedule ...

    Raises:
        UserError: something given is wrong, or the disk is full.
        KeyboardInterrupt: on Ctrl-C, after a checkpoint.
    """
    from assay.training.loop import train_run

    run = make_run(spec, data, objective=objective, seed=seed, init=init, train=train, **changes)
    folder = RunFolder(out if out is not None else Path("runs") / run.hash)
    train_run(run, folder, progress=progress, stop=stop, command=command, device=device)
    return Run(folder)


def _model(spec: ModelSpec | dict[str, Any] | str | Path) -> ModelSpec:
    if isinstance(spec, ModelSpec):
        return spec
    if isinstance(spec, dict):
        return ModelSpec.from_dict(spec)
    from assay.published.source import resolve

    return resolve(spec)
