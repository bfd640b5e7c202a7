"""Whether a folder's run is the one that is to go on, and in what they differ, field by field."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from assay.errors import UserError
from assay.runs import RunFolder
from assay.spec.base import Part
from assay.spec.model import ModelSpec
from assay.spec.study import RunSpec
from assay.spec.training import TrainSpec

__all__ = ["described", "differences", "refuse_other"]

FACTS = ("hash", "bytes", "documents", "heldout_bytes", "heldout_documents", "tokenizer_hash", "vocab_size")
"""What of a text's facts says that it is the same text, cut into the same tokens."""
SHOWN = 12
"""Differences that a message lists."""


def described(run: RunSpec) -> dict[str, Any]:
    """What of a run's description `run.json` keeps beside the model's, which `spec.json` holds. Plain data."""
    return {
        "seed": run.seed,
        "train": run.train.to_dict(full=True),
        "objective": run.objective.model_dump(mode="json"),
        "data_spec": run.data.model_dump(mode="json"),
        **({"init": run.init.model_dump(mode="json")} if run.init else {}),
    }


def refuse_other(folder: RunFolder, name: str, run: RunSpec, facts: dict[str, Any] | None = None) -> None:
    """Refuse to go on with a run under another description, or on another text, or with other tokens.

    How a run is spread over processes may change, and so may where its text and its first weights lie, if the hash of
    the description says so.

    Args:
        folder: of a run that has begun.
        name: hash of the run that is to go on, as it was described.
        run: that run, with its vocabulary set.
        facts: what is known of the text; None: it has not been read.

    Raises:
        UserError: with every field that differs: what is saved, and what is given.
    """
    there = folder.read_json("run.json")
    changed = differences(there, folder.read_json("spec.json"), run)
    if there.get("hash") != name or changed:
        changed = changed or [_line("hash", there.get("hash"), name)]
        raise UserError(
            f"{folder.path}: holds another run than the one given. Give what it was begun with (run.json has the "
            f"command), or another folder. Saved -> given:{_listed(changed)}"
        )
    if facts is None:
        return
    saved = there["data"]
    changed = [
        _line(f"data.{field}", saved[field], facts.get(field))
        for field in FACTS
        if field in saved and saved[field] != facts.get(field)
    ]
    if changed:
        what = "with another tokenizer" if {"hash"}.isdisjoint(_fields(changed)) else "on another text"
        raise UserError(
            f"{folder.path}: was begun {what}; {facts['source']} has changed since. Put back what it was begun with, "
            f"or give another folder. Saved -> given:{_listed(changed)}"
        )


def differences(there: dict[str, Any], model: dict[str, Any], run: RunSpec) -> list[str]:
    """In what a run differs from a saved one, a line for each field: `train.batch_size: 16 -> 32`.

    Fields that the saved description does not have yet, and those that no hash counts, are left out.

    Args:
        there: what `run.json` holds.
        model: what `spec.json` holds.
        run: the run given, with its vocabulary set.
    """
    found = _differences("model", model, run.model.to_dict(full=True), ModelSpec)
    given = described(run)
    for name in ("train", "objective", "data_spec", "init", "seed"):
        if name in there or name == "init":
            part = TrainSpec if name == "train" else None
            found += _differences(name.removesuffix("_spec"), there.get(name), given.get(name), part)
    return found


def _differences(path: str, saved: Any, given: Any, part: type[BaseModel] | None) -> list[str]:
    if not (isinstance(saved, dict) and isinstance(given, dict)):
        return [] if saved == given else [_line(path, saved, given)]
    neutral = part.neutral if part is not None and issubclass(part, Part) else frozenset()
    if path == "init":
        neutral = frozenset({"source"})
    return [
        line
        for name in saved
        if name in given and name not in neutral
        for line in _differences(f"{path}.{name}", saved[name], given[name], None)
    ]


def _line(path: str, saved: Any, given: Any) -> str:
    return f"{path}: {_value(saved)} -> {_value(given)}"


def _value(value: Any) -> str:
    text = "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _fields(lines: list[str]) -> set[str]:
    return {line.partition(":")[0].rpartition(".")[2] for line in lines}


def _listed(lines: list[str]) -> str:
    more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return "".join(f"\n  {line}" for line in [*lines[:SHOWN], *more])
