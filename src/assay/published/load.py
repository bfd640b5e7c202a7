"""`load`: a Model from published files or from assay's own folders.

The front of the package takes `build` and `Model` from here too: whoever comes this way can save as "hf".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from assay import nn
from assay.data.tokenizer import FILE as TOKENIZER
from assay.data.tokenizer import load_tokenizer
from assay.errors import UserError
from assay.generation.build import build
from assay.generation.model import Model
from assay.published.base import Family, Given, Row
from assay.published.config import Config
from assay.published.describe import SPEC, Described, describe, locate
from assay.published.files import Files, weight_files
from assay.published.gguf import Quantised, describe_gguf
from assay.published.gguf_tokens import gguf_tokenizer
from assay.published.reading import open_files, translate
from assay.published.save import register
from assay.published.tokens import folder_tokenizer
from assay.runs import RunFolder, verify_files
from assay.spec.model import ModelSpec
from assay.spec.parameters import layout

__all__ = ["Model", "build", "load"]

register()  # from here on Model.save knows "hf"

DTYPES = ("float32", "float16", "bfloat16", "float64")


def load(
    source: str | Path,
    *,
    dtype: str | torch.dtype = "float32",
    device: str | torch.device = "cpu",
    hint: Mapping[str, Any] | None = None,
) -> Model:
    """A model with its weights.

    Safetensors are memory-mapped: what needs no change of type or layout is read when it is first used.

    Args:
        source: a folder in a published format, a .gguf file, a folder that `Model.save` wrote, an assay run's
            folder, or a hub id.
        dtype: of the weights in memory: float32, float16 or bfloat16, whatever the file holds.
        device: where they go.
        hint: what no published configuration says, such as `{"position": "alibi", "norm_head": False}` for Baichuan.

    Raises:
        UserError: nothing there, a family that is not supported, damaged files, or weights that contradict the
            configuration; the file, the tensor and the remedy are named, and nothing is half-loaded.
    """
    kind = _dtype(dtype)
    path = locate(source)
    if path.suffix.lower() == ".gguf" and path.is_file():
        return _gguf(path, kind, device, hint)
    if path.is_file():
        raise UserError(f"{path}: is a file.", "Give the folder that holds the checkpoint, or a .gguf file.")
    if (path / SPEC).is_file():
        return _own(path, kind, device)
    found = describe(path, hint)
    if found.files is None:
        raise UserError(f"{path}: holds {found.family.name}'s configuration and no weights.", "Add the weight files.")
    weights = open_files(found.files, found.family, found.given, path)
    named = found.given.config.raw("model_type") or found.family.name.partition(" ")[0].lower()
    tokenizer = folder_tokenizer(path, found.spec, str(named))
    tensors = translate(found.family, found.spec, weights, str(path), dtype=kind, device=device)
    return _published(found, tensors, tokenizer)


def _gguf(path: Path, dtype: torch.dtype, device: str | torch.device, hint: Mapping[str, Any] | None) -> Model:
    """A GGUF file, with the tokenizer inside it."""
    if hint:
        raise UserError(f"hint: {next(iter(hint))!r} means nothing to a GGUF file, which says all of it.")
    found, file = describe_gguf(path)
    tokenizer = gguf_tokenizer(file, found.spec)
    tensors = translate(found.family, found.spec, Quantised(file), str(path), dtype=dtype, device=device)
    return _published(found, tensors, tokenizer)


def _published(found: Described, tensors: Mapping[str, torch.Tensor], tokenizer: Any) -> Model:
    model = Model(nn.assemble(found.spec, tensors), tokenizer).eval()
    model.published_as = found.family.name
    model.states_before_norm = found.family.states_before_norm
    return model


def _dtype(name: str | torch.dtype) -> torch.dtype:
    plain = str(name).removeprefix("torch.")
    if plain not in DTYPES:
        raise UserError(f"dtype: {plain!r} is not supported.", f"Use one of {', '.join(DTYPES[:3])}.")
    kind = getattr(torch, plain)
    assert isinstance(kind, torch.dtype)
    return kind


def _own(path: Path, dtype: torch.dtype, device: str | torch.device) -> Model:
    """A folder of assay's own: saved by `Model.save`, or a run's with its newest checkpoint."""
    spec = ModelSpec.from_json(path / SPEC)
    folder = path
    run = RunFolder(path)
    if (path / "checkpoints").is_dir():
        steps = run.checkpoint_steps()
        if not steps:
            raise UserError(f"{path}: this run has no checkpoint yet.", "Let it run on, or resume it.")
        folder = run.checkpoint(steps[-1])
    single = folder / "model.safetensors"
    if single.is_file():
        verify_files(folder, [single.name])
    files = Files(((single,),)) if single.is_file() else weight_files(folder)
    if files is None:
        raise UserError(f"{folder}: holds no weights beside its description.", "Give the folder of a finished run.")
    weights = open_files(files, OWN, Given(Config({}, path / SPEC)), folder)
    tensors = translate(OWN, spec, weights, str(folder), dtype=dtype, device=device)
    tokenizer = load_tokenizer(path) if (path / TOKENIZER).is_file() else folder_tokenizer(path, spec)
    return Model(nn.assemble(spec, tensors), tokenizer).eval()


def _same_names(spec: ModelSpec) -> Iterable[Row]:
    return (Row(info.name, info.name) for info in layout(spec))


def _no_config(given: Given) -> dict[str, Any]:
    raise AssertionError("assay's own folders hold their description")


OWN = Family(name="this description", to_spec=_no_config, table=_same_names, files=(SPEC,), transformers=False)
"""assay's own format, as a family: our names on both sides."""
