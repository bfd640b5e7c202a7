"""Where a tuning is, on disk: Ctrl-C, a crash or a full disk costs little, and the rest is the same to the bit.

The order of examples and dropout depend on (seed, step) alone, so that weights, the best weights so far, the
optimizer's moments and the history are all there is to keep.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from assay.errors import UserError
from assay.evaluation.tasks import Task
from assay.runs import RunFolder, read_json, verify_files, write_json
from assay.training.checkpoint import moments, restore_moments
from assay.training.tuning_spec import TuneSpec

if TYPE_CHECKING:
    from assay.training.tuning import Tuned

__all__ = ["TuningState", "tuning_key"]

STATE, WEIGHTS, BEST, MOMENTS = "state.json", "model.safetensors", "best.safetensors", "optimizer.safetensors"
EVERY = 60.0
"""Seconds between states that are written in passing."""


def tuning_key(spec: TuneSpec, tasks: Sequence[tuple[Task, float]], seed: int, identity: str) -> str:
    """16 hexadecimal digits over what decides a tuning: how, on which items at which rates, and from which weights."""
    digest = hashlib.sha256(json.dumps([spec.hash, seed, identity]).encode())
    for task, rate in tasks:
        digest.update(json.dumps([task.name, rate, [[i.prompt, i.answer, i.choices] for i in task.items]]).encode())
    return digest.hexdigest()[:16]


@dataclass
class TuningState:
    """The state of one tuning in a folder of its own, written whole or not at all."""

    folder: Path
    key: str
    """Of `tuning_key`: another tuning's state is refused."""
    waited: int = 0
    """Evaluations in a row without improvement."""
    _written: float = field(default_factory=time.monotonic)

    @property
    def there(self) -> bool:
        """Whether there is a state to go on from."""
        return bool(self._run.checkpoint_steps())

    @property
    def _run(self) -> RunFolder:
        return RunFolder(self.folder)

    def save(
        self, net: nn.Module, optimizer: torch.optim.Optimizer, best: dict[str, torch.Tensor], tuned: Tuned,
        *, at_once: bool = False,
    ) -> None:  # fmt: skip
        """Write where it is; in passing only where some time has gone by since the last.

        Raises:
            UserError: the disk is full; the earlier state is kept.
        """
        if not at_once and time.monotonic() - self._written < EVERY:
            return
        run = self._run
        with run.writing_checkpoint(tuned.step) as path:
            weights = {n: p.detach().cpu().contiguous() for n, p in net.named_parameters() if p.requires_grad}
            save_file(weights, str(path / WEIGHTS))
            save_file({name: value.cpu().contiguous() for name, value in best.items()}, str(path / BEST))
            save_file(moments(net, optimizer), str(path / MOMENTS))
            counters = {k: v for k, v in dataclasses.asdict(tuned).items() if k not in ("cut", "trained")}
            write_json(path / STATE, {"key": self.key, "waited": self.waited, "tuned": counters})
        run.keep_checkpoints(1)
        self._written = time.monotonic()

    def check(self) -> None:
        """Refuse another tuning's state.

        Raises:
            UserError: the folder holds the state of other options.
        """
        if self.there and self._read()["key"] != self.key:
            raise UserError(
                f"{self.folder.parent}: holds another tuning than these options, data and weights describe.",
                "Give the options that it was begun with, or another --out.",
            )

    def restore(
        self, net: nn.Module, optimizer: torch.optim.Optimizer, best: dict[str, torch.Tensor], tuned: Tuned
    ) -> None:
        """Bring everything to the state that was written, where there is one."""
        if not self.there:
            return
        self.check()
        path = self._run.checkpoint(self._run.checkpoint_steps()[-1])
        verify_files(path)
        state = self._read()
        saved, kept = load_file(str(path / WEIGHTS)), load_file(str(path / BEST))
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                if name in saved:
                    parameter.copy_(saved[name])
                if name in kept:
                    best[name] = kept[name].to(parameter.device).clone()
        restore_moments(net, optimizer, load_file(str(path / MOMENTS)))
        self.waited = int(state["waited"])
        for name, value in state["tuned"].items():
            setattr(tuned, name, value)

    def _read(self) -> dict[str, Any]:
        steps = self._run.checkpoint_steps()
        found: dict[str, Any] = read_json(self._run.checkpoint(steps[-1]) / STATE)
        return found

    def remove(self) -> None:
        """It is over: nothing goes on from here."""
        shutil.rmtree(self.folder, ignore_errors=True)
