"""The families, and which of them a folder belongs to."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from assay.errors import UserError
from assay.published.base import Given

if TYPE_CHECKING:
    from assay.published.base import Family

__all__ = ["FAMILIES", "families", "recognise"]

FAMILIES = (
    "llama", "mistral", "qwen", "gemma", "olmo", "gpt2", "bloom", "falcon", "baichuan", "meta",
    "t5", "bart", "bert", "glm", "chatglm", "glm130b", "cogview", "palm",
)  # fmt: skip
"""The files of this room that hold families, each as `FAMILIES`. Exports try them in this order."""


@cache
def families() -> tuple[Family, ...]:
    """Every family."""
    return tuple(family for name in FAMILIES for family in import_module(f"assay.published.{name}").FAMILIES)


def recognise(given: Given, file: str) -> Family:
    """The family of a configuration that stands in a file of that name.

    Raises:
        UserError: no family here, or one that is not supported.
    """
    config = given.config
    candidates = [family for family in families() if file in family.files]
    model_type = config.raw("model_type")
    named = [family for family in candidates if model_type in family.model_types]
    if not named:
        classes = config.classes()
        named = [family for family in candidates if set(classes) & set(family.architectures)]
    if not named and model_type is None:
        named = [f for f in candidates if f.file_alone or _has_keys(f, given)]
    chosen = next((f for f in named if f.when is None or f.when(given)), None)
    if chosen is None:
        raise _unsupported(given, Path(config.place))
    return chosen


def _has_keys(family: Family, given: Given) -> bool:
    shapes = given.shapes() if family.keys else {}
    return bool(family.keys) and all(key in shapes for key in family.keys)


def _unsupported(given: Given, place: Path) -> UserError:
    config = given.config
    said = config.raw("model_type") or ", ".join(config.classes()) or "no model_type"
    known = sorted({name for family in families() for name in family.model_types})
    return UserError(
        f"{place}: the family {said!r} is not supported.",
        f"Supported model types: {', '.join(known)}; and Meta's own LLaMA files (params.json).",
    )
