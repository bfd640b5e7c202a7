"""`Model.save`: assay's own format here; others register themselves, so that this room knows of none below it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import save_file

from assay.errors import UserError
from assay.runs.files import disk_guard

if TYPE_CHECKING:
    from torch import Tensor

    from assay.generation.model import Model

__all__ = ["FORMATS", "save", "save_own", "write_weights"]

SHARD_BYTES = 5 * 10**9
"""Weights are cut into files of at most this many bytes."""


def save(model: Model, folder: str | Path, format: str) -> Path:
    """Write a model to a folder, made where it is missing.

    Args:
        model: what to write.
        folder: where.
        format: "assay" (spec.json and weights under our names), or "hf" (the family's published format).

    Returns:
        The folder.

    Raises:
        UserError: an unknown format, a description that the format cannot say, or a folder that cannot be written.
    """
    if format not in FORMATS:
        raise UserError(f"format: {format!r} is unknown.", f"Use one of {', '.join(sorted(FORMATS))}.")
    path = Path(folder)
    if path.exists() and not path.is_dir():
        raise UserError(f"{path}: is a file.", "Give a folder.")
    FORMATS[format](model, path)
    return path


def save_own(model: Model, folder: Path) -> None:
    """spec.json and model.safetensors: `assay.load` reads them back to an equal model."""
    tensors = {name: parameter.detach() for name, parameter in model.transformer.named_parameters()}
    size = sum(tensor.nbytes for tensor in tensors.values())
    with disk_guard(folder, size):
        folder.mkdir(parents=True, exist_ok=True)
        write_weights(folder, tensors)
        replace(folder / "spec.json", model.spec.to_json(full=True))


def write_weights(folder: Path, tensors: dict[str, Tensor]) -> None:
    """model.safetensors, or numbered parts with an index where it would be too large; each replaced in one step.

    A file that is mapped by a model stays whole for that model.
    """
    import json

    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if size and size + tensor.nbytes > SHARD_BYTES:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    count = len(shards)
    where: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        name = "model.safetensors" if count == 1 else f"model-{number:05d}-of-{count:05d}.safetensors"
        part = folder / f".{name}.part"
        # Clones: safetensors refuses tensors that share memory, as cuts of one fused matrix do.
        save_file({n: t.cpu().contiguous().clone() for n, t in shard.items()}, str(part), metadata={"format": "pt"})
        os.replace(part, folder / name)
        where |= dict.fromkeys(shard, name)
    index = folder / "model.safetensors.index.json"
    if count == 1:
        index.unlink(missing_ok=True)
        return
    total = sum(tensor.nbytes for tensor in tensors.values())
    replace(index, json.dumps({"metadata": {"total_size": total}, "weight_map": where}, indent=2) + "\n")


def replace(path: Path, text: str) -> None:
    """Write a small file in one step."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


FORMATS: dict[str, Callable[[Model, Path], None]] = {"assay": save_own}
"""What `Model.save` can write, by name; `published/` adds its own."""
