"""SOURCE, the argument of every command: a preset's name, a spec file, or a folder that holds a spec."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from assay.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from assay.spec.model import ModelSpec
    from assay.spec.study import StudySpec

__all__ = ["resolve", "resolve_study"]

SPEC = "spec.json"
STUDY = "study.toml"
STUDY_FIELDS = {"model", "vary", "train", "seeds", "data", "objective", "match"}
"""Fields that a study has and a model has not."""


def resolve(source: str | Path) -> ModelSpec:
    """The model that a SOURCE describes; no weights are read.

    Args:
        source: a preset's name ("llama-7b"), a TOML or JSON file with the fields of a ModelSpec, or a run's folder.

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
        return _folder(path)
    if path.is_file():
        return _file(path)
    if written_as_path:
        from assay.spec.published import canonical, preset

        if not isinstance(source, Path) and canonical(text) is not None:
            return preset(text)  # names with a dot or a slash of their own, such as llama3.1-8b
        raise _missing(path)
    raise _unknown(text)


def resolve_study(source: str | Path) -> StudySpec:
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
    return StudySpec(model=resolve(source))


def _folder(path: Path) -> ModelSpec:
    from assay.spec.model import ModelSpec

    if (path / SPEC).is_file():
        return ModelSpec.from_json(path / SPEC)
    runs = sorted(found.parent for found in path.glob(f"runs/*/{SPEC}"))
    if runs:
        raise UserError(
            f"{path}: a study of {len(runs)} runs, and a SOURCE is one model.", f"Give one of them: {runs[0]}."
        )
    if (path / "config.json").is_file():
        raise UserError(
            f"{path}: holds config.json, a published checkpoint's; this version of assay reads no published formats.",
            "Give a preset's name, a spec file, or a run's folder.",
        )
    raise UserError(
        f"{path}: holds no {SPEC}, so it is no run's folder.", "Give a folder OUT/runs/<hash>, or a spec file."
    )


def _file(path: Path) -> ModelSpec:
    from assay.spec.model import ModelSpec

    suffix = path.suffix.lower()
    if suffix == ".toml":
        _refuse_study(path)
        return ModelSpec.from_toml(path)
    if suffix == ".json":
        _refuse_study(path)
        return ModelSpec.from_json(path)
    if suffix == ".gguf":
        raise UserError(
            f"{path}: this version of assay reads no GGUF files.",
            "Give a preset's name, a spec file, or a run's folder.",
        )
    raise UserError(f"{path}: a spec file ends in .toml or .json.", "Rename it, if it holds a spec.")


def _refuse_study(path: Path) -> None:
    """A study's file in place of a model's is a likely slip: say what it is, not that `vary` is unknown."""
    if _is_study(path):
        raise UserError(
            f"{path}: describes a study, and a SOURCE is one model.",
            f"See its runs with: assay compare --spec {path} --dry-run. Or move its [model] to a file of its own.",
        )


def _is_study(path: Path) -> bool:
    """Whether a TOML or JSON file has fields that only a study has."""
    import json
    import tomllib

    parse = tomllib.loads if path.suffix.lower() == ".toml" else json.loads
    try:
        fields = parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError):
        return False  # told better by the reader of descriptions
    return isinstance(fields, dict) and bool(fields.keys() & STUDY_FIELDS)


def _unknown(name: str) -> UserError:
    from assay.spec.published import ALIASES, presets

    hint = did_you_mean(name, [*presets(), *ALIASES], at_most=8)
    return UserError(f"{name}: no preset, file or folder of that name.", hint)


def _missing(path: Path) -> UserError:
    siblings = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    hint = did_you_mean(path.name, siblings)
    return UserError(f"{path}: no such file or folder.", hint if hint.startswith("Did") else "Check the path.")
