"""Checkpoints: weights and optimizer state in safetensors, the counters in JSON. Nothing is pickled.

A checkpoint holds `model.safetensors` (names of `spec.parameters.layout`), `state.json`, and, unless the run is
over, `optimizer.safetensors`. `RunFolder.writing_checkpoint` makes it whole or not at all. Random numbers need no
saving: data and dropout depend on (seed, step) alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from assay.errors import UserError
from assay.runs import RunFolder, read_json, verify_files, write_json

__all__ = [
    "Keeper",
    "check_names",
    "load_checkpoint",
    "load_weights",
    "moments",
    "named_weights",
    "restore_moments",
    "resumable",
    "save_checkpoint",
]

MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"


def named_weights(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter by name, tied ones once, with the names of the model as it is before compilation."""
    return {name.replace("_orig_mod.", ""): p.detach() for name, p in model.named_parameters()}


def save_checkpoint(
    folder: RunFolder, step: int, model: nn.Module, optimizer: torch.optim.Optimizer | None, state: dict[str, Any]
) -> None:
    """Write the checkpoint of a step and delete older ones.

    Args:
        folder: of the run.
        step: steps done.
        model: whose weights are written.
        optimizer: whose state is written; None at the end of a run, which nothing continues.
        state: counters, plain data.

    Raises:
        UserError: the disk is full; the earlier checkpoint is kept.
    """
    with folder.writing_checkpoint(step) as path:
        weights = {name: p.cpu().contiguous() for name, p in named_weights(model).items()}
        save_file(weights, str(path / MODEL), metadata={"format": "pt"})
        if optimizer is not None:
            save_file(moments(model, optimizer), str(path / OPTIMIZER), metadata={"format": "pt"})
        write_json(path / STATE, state)
    folder.keep_checkpoints(1)


def load_checkpoint(folder: RunFolder, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any] | None:
    """Bring model and optimizer to the newest checkpoint's state.

    Returns:
        The counters as they were saved, or None where there is no checkpoint to go on from.

    Raises:
        UserError: the checkpoint is damaged or of another model.
    """
    path = resumable(folder)
    if path is None:
        return None
    verify_files(path)
    state = read_json(path / STATE)
    _fill(model, path / MODEL)
    restore_moments(model, optimizer, _read(path / OPTIMIZER))
    return dict(state)


def resumable(folder: RunFolder) -> Path | None:
    """The newest checkpoint, where a run can go on from it; None: there is none, or the run has ended with it.

    Raises:
        UserError: the moments of a run that has not ended are gone; it does not begin anew without a word.
    """
    steps = folder.checkpoint_steps()
    path = folder.checkpoint(steps[-1]) if steps else None
    if path is None or (path / OPTIMIZER).is_file():
        return path
    if not folder.done:
        verify_files(path)
    return None


class Keeper:
    """Writes and reads the checkpoints of a run in one process; `parallel.checkpoint.TeamKeeper` is that of several.

    Args:
        folder: of the run.
        model, optimizer: whose state it is.
    """

    failed = False
    """Whether a write under way has come to nothing: here none outlasts `save`."""

    def __init__(self, folder: RunFolder, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """See the class."""
        self.folder, self.model, self.optimizer = folder, model, optimizer

    def load(self) -> dict[str, Any] | None:
        """See `load_checkpoint`."""
        return load_checkpoint(self.folder, self.model, self.optimizer)

    def save(self, step: int, state: dict[str, Any]) -> None:
        """See `save_checkpoint`."""
        save_checkpoint(self.folder, step, self.model, self.optimizer, state)

    def wait(self) -> None:
        """Until what `save` began is written: it is."""


def load_weights(path: Path, model: nn.Module) -> None:
    """Copy a checkpoint's weights into a model of the same spec.

    Raises:
        UserError: a file is missing or damaged, or names and shapes are those of another model.
    """
    verify_files(path, [MODEL])
    _fill(model, path / MODEL)


def _fill(model: nn.Module, file: Path) -> None:
    found, wanted = _read(file), named_weights(model)
    check_names(file, *({name: tuple(t.shape) for name, t in side.items()} for side in (found, wanted)))
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(found[name])


def check_names(file: Path, found: dict[str, tuple[int, ...]], wanted: dict[str, tuple[int, ...]]) -> None:
    """Refuse the weights of another model.

    Args:
        file: for the message.
        found, wanted: shapes by name.

    Raises:
        UserError: names or shapes differ.
    """
    wrong = sorted(set(found) ^ set(wanted)) or [name for name in wanted if wanted[name] != found[name]]
    if wrong:
        raise UserError(
            f"{file}: holds another model than spec.json describes (first difference: {wrong[0]}).",
            "Give the folder of the run that wrote it, or delete the checkpoint.",
        )


def moments(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state by parameter name: `<name>/exp_avg`, `<name>/exp_avg_sq`, `<name>/step`."""
    names = {id(p): name.replace("_orig_mod.", "") for name, p in model.named_parameters()}
    return {
        f"{names[id(p)]}/{field}": value.detach().cpu().contiguous()
        for p, fields in optimizer.state.items()
        for field, value in fields.items()
    }


def restore_moments(model: nn.Module, optimizer: torch.optim.Optimizer, saved: dict[str, Tensor]) -> None:
    """Put a state that `moments` gave back, by parameter name."""
    parameters = {name.replace("_orig_mod.", ""): p for name, p in model.named_parameters()}
    for key, value in saved.items():
        name, _, field = key.rpartition("/")
        parameter = parameters[name]
        # A copy: what safetensors returns may lie in a file that is deleted later.
        optimizer.state[parameter][field] = value.to(parameter.device).clone()


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(str(path))
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path}: cannot be read as a checkpoint ({error}).",
            "Delete this checkpoint's folder; the run starts again from an earlier one or anew.",
        ) from None
