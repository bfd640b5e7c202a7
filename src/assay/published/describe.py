"""What a source of weights is: its family and its description, without weights and without torch.

Only where a configuration cannot tell (Meta's feed-forward width) are the headers of files read; for pickles that
loads torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.errors import UserError, did_you_mean
from assay.published.base import Family, Given
from assay.published.config import Config
from assay.published.files import PICKLES, Files, header, weight_files
from assay.published.registry import recognise
from assay.spec.model import ModelSpec
from assay.spec.published import canonical

__all__ = ["Described", "describe", "locate", "spec_of"]

SPEC = "spec.json"
CONFIGS = ("config.json", "params.json", "model_config.json")


@dataclass(frozen=True)
class Described:
    """A published checkpoint: where, of which family, and what it is."""

    folder: Path
    family: Family
    spec: ModelSpec
    given: Given
    files: Files | None


def spec_of(source: str | Path, hint: Mapping[str, Any] | None = None) -> ModelSpec:
    """The description of a published checkpoint (or of an assay folder); no weights are read.

    Args:
        source: a folder, a published configuration (JSON), a .gguf file, or a hub id, of which only the small files
            are fetched.
        hint: what no configuration says, such as `{"position": "alibi"}` for Baichuan.

    Raises:
        UserError: nothing there, or a family that is not supported.
    """
    folder = locate(source, weights=False)
    if folder.suffix.lower() == ".gguf" and folder.is_file():
        from assay.published.gguf import describe_gguf

        return describe_gguf(folder)[0].spec
    if (folder / SPEC).is_file():
        return ModelSpec.from_json(folder / SPEC)
    return describe(folder, hint).spec


def describe(folder: Path, hint: Mapping[str, Any] | None = None) -> Described:
    """Family and description of the checkpoint in a folder, or of a configuration alone, whatever its file is called.

    Raises:
        UserError: no configuration, an unsupported family, a hint that the family does not take.
    """
    alone = folder.is_file()
    path = folder if alone else next((folder / name for name in CONFIGS if (folder / name).is_file()), None)
    if path is None:
        raise UserError(
            f"{folder}: holds no published checkpoint (no {' or '.join(CONFIGS)}) and no {SPEC}.",
            "Give the folder that the model was downloaded to.",
        )
    config = Config.read(path)
    if config.raw("quantization_config"):
        raise config.fail("quantization_config", "quantised weights are not supported.", "Use the original weights.")
    files = None if alone and path.name not in CONFIGS else weight_files(path.parent)
    given = Given(config, dict(hint or {}), lambda: shapes_of(files))
    family = recognise(given, path.name if path.name in CONFIGS else CONFIGS[0])
    for name in given.hint:
        if name not in family.hints:
            known = did_you_mean(name, family.hints) or f"{family.name} takes no hints."
            raise UserError(f"hint: {name!r} means nothing to {family.name}.", known)
    spec = ModelSpec.from_dict(family.to_spec(given), source=str(path))
    return Described(path.parent, family, spec, given, files)


def shapes_of(files: Files | None) -> dict[str, tuple[int, ...]]:
    """Names and shapes of published tensors (of the first rank's pieces, where there are ranks)."""
    found: dict[str, tuple[int, ...]] = {}
    for path in files.ranks[0] if files else ():
        if path.suffix in PICKLES:
            from assay.published.reading import pickled

            found |= {name: tuple(tensor.shape) for name, tensor in pickled(path).items()}
        else:
            found |= {name: entry.shape for name, entry in header(path).items()}
    return found


def locate(source: str | Path, *, weights: bool = True) -> Path:
    """The folder or file of a source, fetched from the hub where it is a hub id.

    Raises:
        UserError: no such folder, and no hub id that can be fetched.
    """
    text = str(source)
    path = Path(text).expanduser()
    if path.exists():
        return path
    if isinstance(source, Path) or not re.fullmatch(r"[\w.-]+/[\w.-]+", text) or text.startswith("."):
        if not isinstance(source, Path) and canonical(text) is not None:
            raise UserError(
                f"{text}: is a preset, a description without weights.",
                f"Give the folder, .gguf file or hub id that holds weights; assay.build(assay.preset({text!r})) makes "
                "the model with weights at random.",
            )
        near = [str(p) for p in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = did_you_mean(text, near)
        raise UserError(
            f"{text}: no such folder.",
            hint if hint.startswith("Did") else "Give a folder, or a hub id such as HuggingFaceTB/SmolLM2-135M.",
        )
    return _fetched(text, weights)


def _fetched(repo: str, weights: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    small = ["*.json", "*.model", "*.txt", "*.jinja"]
    try:
        if weights:
            names = [*small, "*.safetensors", "*.bin", "*.pth"]
            folder = _preferred(repo, names)
        else:
            folder = snapshot_download(repo, allow_patterns=small)
    except (OSError, ValueError, HfHubHTTPError) as error:
        why = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{repo}: no folder of that name, and it cannot be fetched from the hub ({why}).",
            "Check the name and the connection (HF_HUB_OFFLINE must not be set), or give a folder.",
        ) from None
    return Path(folder)


def _preferred(repo: str, names: list[str]) -> str:
    """Download safetensors alone where there are any."""
    from huggingface_hub import snapshot_download

    folder = snapshot_download(repo, allow_patterns=[n for n in names if n not in ("*.bin", "*.pth")])
    if any(Path(folder).glob("*.safetensors")):
        return folder
    return snapshot_download(repo, allow_patterns=names)
