"""`Model.save`: assay's own format here; other formats register themselves, so this room knows of none below it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from assay.errors import UserError
from assay.nn import assemble
from assay.runs.files import disk_guard
from assay.spec.model import ModelSpec
from assay.spec.parameters import layout

if TYPE_CHECKING:
    from assay.generation.model import Model

__all__ = ["exporters", "read_assay", "save"]

SPEC, WEIGHTS = "spec.json", "model.safetensors"

exporters: dict[str, Callable[[Model, Path], None]] = {}
"""Formats besides "assay", by name; `published/` adds "hf"."""


def save(model: Model, folder: str | Path, format: str = "assay") -> None:
    """Write a model to a folder, made where it is missing.

    Args:
        model: what to write.
        folder: where. Files are replaced one by one, each in one step; a model that has them mapped keeps them.
        format: "assay" (spec.json and weights under our names), or one of `exporters`.

    Raises:
        UserError: an unknown format, a description that the format cannot say, or a folder that cannot be written.
    """
    if format != "assay" and format not in exporters:
        raise UserError(f"format: {format!r} is unknown.", f"Use one of {', '.join(sorted(['assay', *exporters]))}.")
    path = Path(folder)
    if path.exists() and not path.is_dir():
        raise UserError(f"{path}: is a file.", "Give a folder.")
    (_save_own if format == "assay" else exporters[format])(model, path)


def _save_own(model: Model, folder: Path) -> None:
    # Clones: safetensors refuses tensors that share memory, as cuts of one published matrix do.
    tensors = {n: p.detach().cpu().contiguous().clone() for n, p in model.transformer.named_parameters()}
    part = folder / f".{WEIGHTS}.part"
    with disk_guard(folder, sum(tensor.nbytes for tensor in tensors.values())):
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, str(part), metadata={"format": "pt"})
        os.replace(part, folder / WEIGHTS)
        (folder / f".{SPEC}.part").write_text(model.spec.to_json(full=True), encoding="utf-8")
        os.replace(folder / f".{SPEC}.part", folder / SPEC)
    if hasattr(model.tokenizer, "save"):
        model.tokenizer.save(folder)


def read_assay(
    folder: Path, *, dtype: str | torch.dtype = "float32", device: str | torch.device = "cpu", tokenizer: Any = None
) -> Model:
    """The model that `save` wrote in assay's own format.

    Raises:
        UserError: files are missing or damaged, or weights and description are of different models.
    """
    from assay.generation.model import Model

    spec, path = ModelSpec.from_json(folder / SPEC), folder / WEIGHTS
    try:
        found = load_file(str(path))
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: cannot be read as weights ({error}).", "Save the model again.") from None
    wanted = {info.name: info.shape for info in layout(spec)}
    wrong = sorted(set(found) ^ set(wanted)) or [n for n in wanted if tuple(found[n].shape) != wanted[n]]
    if wrong:
        raise UserError(f"{path}: holds another model than {SPEC} describes (first difference: {wrong[0]}).")
    kind = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    return Model(assemble(spec, {n: t.to(device=device, dtype=kind) for n, t in found.items()}), tokenizer).eval()
