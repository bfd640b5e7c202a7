"""SOURCE, the argument of every command: a preset's name, a spec file, or a folder that holds a spec.

Published formats are read by a room below this one, so their reader is handed in (`published/source.py` does so).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from assay.spec.model import ModelSpec
    from assay.spec.study import StudySpec

__all__ = ["Reader", "is_hub_id", "resolve", "resolve_study"]

Reader = Callable[["str | Path"], "ModelSpec"]
"""From a folder or file in a published format, or a hub id, to what it describes."""

SPEC = "spec.json"
STUDY = "study.toml"
STUDY_FIELDS = {"model", "vary", "train", "seeds", "data", "objective", "match"}
"""Fields that a study has and a model has not."""
PUBLISHED_FIELDS = {"model_type", "architectures", "hidden_size", "n_embd", "dim", "d_model", "num_hidden_layers"}
"""Fields that published configurations have and ours have not."""


def resolve(source: str | Path, *, published: Reader | None = None) -> ModelSpec:
    """The model that a SOURCE describes; no weights are read.

    Args:
        source: a preset's name ("llama-7b"), a TOML or JSON file with the fields of a ModelSpec, or a run's folder;
            with `published` also what that reads: a published checkpoint's folder or configuration, a .gguf file,
            a hub id.
        published: the reader of published formats.

    Raises:
        UserError: there is nothing of that name, or what is there describes no model.
    """
    text = str(source)
    if not text.strip():
        raise UserError("SOURCE is empty.", "Give a preset such as gpt2, a spec file, or a run's folder.")
    path = Path(text).expanduser()
    # A file or folder beats a preset of the same name only when it is written as a path.
    written_as_path = (
        isinstance(source, Path) or any(mark in text for mark in "/\\~") or bool(path.suffix[1:].isalpha())
    )
    if not written_as_path:
        from assay.spec.published import canonical, preset

        if canonical(text) is not None:
            return preset(text)
        if not path.exists():
            raise _unknown(text)
    if path.is_dir():
        return _folder(path, published)
    if path.is_file():
        return _file(path, published)
    if written_as_path:
        from assay.spec.published import canonical, preset

        if not isinstance(source, Path):
            if canonical(text) is not None:
                return preset(text)  # names with a dot or a slash of their own, such as llama3.1-8b
            if published is not None and is_hub_id(text):
                return published(text)
        raise _missing(path)
    raise _unknown(text)


def is_hub_id(text: str) -> bool:
    """Whether a text reads as a hub id, owner/name, and not as a path: no such folder and no file's suffix."""
    path = Path(text)
    return (
        re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", text) is not None
        and not path.parent.exists()
        and path.suffix.lower() not in (".toml", ".json", ".gguf", ".safetensors", ".bin", ".pt", ".pth")
    )


def resolve_study(source: str | Path, *, published: Reader | None = None) -> StudySpec:
    """The study that a file or a study's folder describes; of any other SOURCE, the default study of that model.

    Raises:
        UserError: there is nothing of that name, or a field is wrong.
    """
    from assay.spec.study import StudySpec

    path = Path(source).expanduser()
    if (path / STUDY).is_file():
        path = path / STUDY
    if path.is_file() and path.suffix.lower() in (".toml", ".json") and _is_study(path):
        return StudySpec.from_toml(path) if path.suffix.lower() == ".toml" else StudySpec.from_json(path)
    return StudySpec(model=resolve(source, published=published))


def _folder(path: Path, published: Reader | None) -> ModelSpec:
    from assay.spec.model import ModelSpec

    if (path / SPEC).is_file():
        return ModelSpec.from_json(path / SPEC)
    runs = sorted(found.parent for found in path.glob(f"runs/*/{SPEC}"))
    if runs:
        raise UserError(
            f"{path}: a study of {len(runs)} runs, and a SOURCE is one model.", f"Give one of them: {runs[0]}."
        )
    if published is not None and any(path.iterdir()):
        return published(path)
    raise UserError(
        f"{path}: holds no {SPEC}, so it is no run's folder.", "Give a folder OUT/runs/<hash>, or a spec file."
    )


def _file(path: Path, published: Reader | None) -> ModelSpec:
    from assay.spec.model import ModelSpec

    suffix = path.suffix.lower()
    if suffix == ".toml":
        _refuse_study(path)
        return ModelSpec.from_toml(path)
    if suffix == ".json":
        if published is not None and _fields(path).keys() & PUBLISHED_FIELDS:
            return published(path)
        _refuse_study(path)
        return ModelSpec.from_json(path)
    if suffix == ".gguf" and published is not None:
        return published(path)
    if suffix in (".safetensors", ".bin", ".pt", ".pth"):
        raise UserError(f"{path}: weights alone say little of their model.", f"Give the whole folder: {path.parent}.")
    also = ", a model in one file in .gguf" if published is not None else ""
    raise UserError(f"{path}: a spec file ends in .toml or .json{also}.", "Rename it, if it holds a spec.")


def _refuse_study(path: Path) -> None:
    """A study's file in place of a model's is a likely slip: say what it is, not that `vary` is unknown."""
    if _is_study(path):
        raise UserError(
            f"{path}: describes a study, and a SOURCE is one model.",
            f"See its runs with: assay compare --spec {path} --dry-run. Or move its [model] to a file of its own.",
        )


def _is_study(path: Path) -> bool:
    """Whether a TOML or JSON file has fields that only a study has."""
    return bool(_fields(path).keys() & STUDY_FIELDS)


def _fields(path: Path) -> dict[str, Any]:
    """What stands in a TOML or JSON file; nothing where it cannot be read: the reader of descriptions tells why."""
    import json
    import tomllib

    parse = tomllib.loads if path.suffix.lower() == ".toml" else json.loads
    try:
        fields = parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _unknown(name: str) -> UserError:
    from assay.spec.published import ALIASES, presets

    hint = did_you_mean(name, [*presets(), *ALIASES], at_most=8)
    return UserError(f"{name}: no preset, file or folder of that name.", hint)


def _missing(path: Path) -> UserError:
    siblings = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    hint = did_you_mean(path.name, siblings)
    return UserError(f"{path}: no such file or folder.", hint if hint.startswith("Did") else "Check the path.")
