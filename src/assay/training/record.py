"""What a run's folder says: what it was (`run.json`, `spec.json`), how far it is, what came out (`DONE`)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from assay.runs import RunFolder, disk_guard, provenance
from assay.spec.study import RunSpec
from assay.training.accounting import BatchCount
from assay.training.same import described, refuse_other
from assay.training.text import Text

__all__ = ["Counters", "begin", "result"]


MEASURES = (
    "bits_per_byte", "nats_per_token", "windows",
    "masked_nats_per_token", "masked_tokens", "masked_standard_error",
)  # fmt: skip
"""What evaluations say of held-out text: the first three, or, of an encoder, the last three."""


@dataclass
class Counters:
    """How far a run is: everything beside tensors that it needs to go on."""

    step: int = 0
    """Steps done."""
    epoch: int = 0
    place: int = 0
    """The next batch is (epoch, place)."""
    progress: float = 0.0
    """Share of the run that is done."""
    flops: float = 0.0
    targets: int = 0
    inputs: int = 0
    slots: int = 0
    seconds: float = 0.0
    """In steps: without evaluation, checkpoints and compilation."""
    setup_seconds: float = 0.0
    peak_bytes: int = 0
    compiled: str = ""
    """"yes", or the reason why not; empty: not decided."""
    skipped: int = 0
    """Batches that were left out (`TrainSpec.on_bad_loss`)."""
    together: int = 0
    """Members of the batched model that did its steps, most of all; 0: alone throughout."""
    recent: list[list[float]] = field(default_factory=list)
    """[loss, gradient norm] of the last steps, where spikes are looked for."""

    def add(self, count: BatchCount) -> None:
        """One more step with this batch."""
        self.step += 1
        self.flops += count.flops
        self.targets += count.targets
        self.inputs += count.inputs
        self.slots += count.slots

    def plain(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def begin(folder: RunFolder, name: str, run: RunSpec, text: Text, command: str | None) -> None:
    """Write `run.json`, `spec.json` and the tokenizer, unless this very run has begun here.

    Args:
        folder: where.
        name: hash of the run as it was described, before the vocabulary was set from the tokenizer.
        run: the run with its vocabulary.
        text: the data.
        command: what does the run again; None: this process's command.

    Raises:
        UserError: the folder holds another run, or the same on another text or with another tokenizer.
    """
    data = text.facts
    if (folder.path / "run.json").is_file():
        refuse_other(folder, name, run, data)
        (folder.path / "FAILED").unlink(missing_ok=True)  # what ended it before is over
        return
    found = provenance(command)
    with disk_guard(folder.path, 0):
        text.tokenizer.save(folder.path)
    folder.write_json("spec.json", run.model.to_dict(full=True))
    folder.write_json(
        "run.json",
        {
            "hash": name,
            "labels": run.labels,
            "model_name": run.model.name or run.name,
            **described(run),
            "data": data,
            "provenance": found,
            "command": found["command"],
        },
    )


def result(run: RunSpec, at: Counters, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What DONE holds, with the last evaluation's held-out measure: `bits_per_byte`, or, of an encoder,
    `masked_nats_per_token`.
    """
    evaluations = [row for row in rows if row.get("kind") == "eval"]
    last = evaluations[-1]
    parameters = run.model.parameters()
    return {
        **{name: last[name] for name in MEASURES if name in last},
        "supervised_tokens": at.targets,
        "input_tokens": at.inputs,
        "flops": at.flops,
        "steps": at.step,
        "seconds": at.seconds,
        "eval_seconds": sum(row.get("eval_seconds", 0.0) for row in evaluations),
        "setup_seconds": at.setup_seconds,
        "tokens_per_second": at.inputs / max(at.seconds, 1e-9),
        "supervised_tokens_per_flop": at.targets / max(at.flops, 1.0),
        "peak_bytes": at.peak_bytes,
        "parameters": dict(parameters.parts),
        "parameters_total": int(parameters),
        "padding_share": 1 - at.inputs / max(at.slots, 1),
        "epochs": at.epoch + 1,
        "compiled": True if at.compiled == "yes" else at.compiled,
        **{name: number for name, number in (("skipped", at.skipped), ("together", at.together)) if number},
    }
