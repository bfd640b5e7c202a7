"""Export: a model as a published family's own files, by the family's table read backwards."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from assay.errors import UserError
from assay.generation.model import Model
from assay.generation.saving import exporters
from assay.published.base import Family, Fields, assignments
from assay.published.compare import written
from assay.published.registry import families
from assay.published.trained import OWN, published_form
from assay.published.writing import replace, write_weights
from assay.runs.files import disk_guard
from assay.spec.model import ModelSpec

__all__ = ["choose", "export", "published_tensors", "register"]


def export(model: Model, folder: Path, family: Family | None = None) -> None:
    """config.json, safetensors and the tokenizer's files, in the form of the family that says what the model is.

    A tokenizer that assay trained is written as tokenizer.json; one that came with a checkpoint keeps its own files.

    Args:
        model: any whose description a published family can express.
        folder: where; made where it is missing.
        family: which; None: the one it was loaded from, else the first that transformers can load.

    Raises:
        UserError: no family can express it (the fields in the way are named), or the tokenizer is another model's.
    """
    chosen, config = choose(model.spec, family or _origin(model))
    own = model.tokenizer
    tokenizer = published_form(own, model.spec) if isinstance(own, OWN) else own
    tensors = published_tensors(chosen, model)
    dtype = str(model.transformer.embedding.weight.dtype).removeprefix("torch.")
    config = {**config, "torch_dtype": dtype}
    with disk_guard(folder, sum(tensor.nbytes for tensor in tensors.values())):
        folder.mkdir(parents=True, exist_ok=True)
        write_weights(folder, tensors)
        replace(folder / chosen.files[0], json.dumps(config, indent=2) + "\n")
        # transformers' own tokenizers have the one name, and what training holds (`training.borrowed`) the other.
        save = getattr(tokenizer, "save_pretrained", None) or getattr(tokenizer, "save", None)
        if save is not None:
            save(str(folder))


def choose(spec: ModelSpec, family: Family | None = None) -> tuple[Family, Fields]:
    """The family to export as, and its configuration.

    Raises:
        UserError: no family can express the spec; the fields in the way of the nearest one are named.
    """
    candidates = [f for f in families() if f.from_spec is not None and f.transformers]
    candidates = candidates if family is None else [family, *(f for f in candidates if f is not family)]
    nearest: tuple[Family, dict[str, tuple[object, object]]] | None = None
    for candidate in candidates:
        config, odd = written(candidate, spec)
        if not odd:
            return candidate, _named(candidate, config)
        if nearest is None or len(odd) < len(nearest[1]):
            nearest = candidate, odd
    assert nearest is not None
    near, odd = nearest
    said = [name for name in odd if _value(spec, name) is not None]  # what follows from another field is no news
    fields = ", ".join(_told(spec, name) for name in said or odd)
    raise UserError(
        f"format hf: no published family can express this model. Nearest is {near.name}; in the way: {fields}.",
        'Change these fields before training, or save with format="assay".',
    )


def _told(spec: ModelSpec, name: str) -> str:
    """A field with its value, as the spec has it."""
    value = _value(spec, name)
    return f"{name} = {value}" if isinstance(value, str | int | float) else name


def _value(spec: ModelSpec, name: str) -> object:
    value: object = spec
    for part in name.split("."):
        value = getattr(value, part, None)
    return value


def _named(family: Family, config: Fields) -> Fields:
    named: Fields = {"architectures": list(family.architectures[:1])} if family.architectures else {}
    if family.model_types:
        named["model_type"] = family.model_types[0]
    return {**named, **config}


def _origin(model: Model) -> Family | None:
    name = model.published_as
    return next((f for f in families() if f.name == name and f.from_spec is not None), None)


def published_tensors(family: Family, model: Model) -> dict[str, Tensor]:
    """Every tensor of the family's files, from the model's parameters."""
    own = {name: parameter.detach() for name, parameter in model.transformer.named_parameters()}
    out: dict[str, Tensor] = {}
    with torch.no_grad():
        for row in assignments(family, model.spec):
            theirs = row.by.write([own[name] for name in row.ours])
            out |= dict(zip(row.theirs, theirs, strict=True))
    return out | {copy: out[name] for copy, name in (family.copies(model.spec) if family.copies else {}).items()}


def _as_hf(model: Model, folder: Path) -> None:
    export(model, folder)


def register() -> None:
    """Let `Model.save` write format "hf"."""
    exporters["hf"] = _as_hf
