"""Published sizes as values: what papers and released configurations say, one file per family, data only.

    preset("llama-7b").parameters()        # 6_738_415_616     list(presets())                        #
every name

A preset describes an architecture, not weights. Nothing is validated before it is asked for, so listing
names costs nothing. Adding a family is one file with `PRESETS` and one name in `FAMILIES`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from assay.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from assay.spec.model import ModelSpec

__all__ = ["ALIASES", "FAMILIES", "Presets", "canonical", "preset", "presets"]

FAMILIES = (
    "tiny",
    "gpt2",
    "gpt3",
    "opt",
    "llama",
    "t5",
    "ul2",
    "bart",
    "bert",
    "bloom",
    "glm",
    "cogview",
    "palm",
    "baichuan",
    "falcon",
    "mistral",
    "qwen",
    "gemma",
    "olmo",
    "smollm",
)
"""The files of this folder."""

ALIASES = {
    "gpt2": "gpt2-124m",
    "gpt2-small": "gpt2-124m",
    "gpt2-medium": "gpt2-355m",
    "gpt2-large": "gpt2-774m",
    "gpt2-xl": "gpt2-1.5b",
    "gpt3": "gpt3-175b",
    "llama-30b": "llama-33b",
    "t5-3b": "t5-xl",
    "t5-11b": "t5-xxl",
    "ul2": "ul2-20b",
    "bert": "bert-base",
    "bart": "bart-base",
    "mbart": "mbart-large",
    "bloom": "bloom-176b",
    "chatglm": "chatglm-6b",
    "chatglm2": "chatglm2-6b",
    "glm4": "glm-4-9b",
    "palm": "palm-540b",
    "u-palm": "u-palm-540b",
    "mistral": "mistral-7b",
    "mixtral": "mixtral-8x7b",
    "minilm": "minilm-l6",
    "cogview": "cogview-4b",
}
"""Shorter or other well-known names."""


class Presets(Mapping[str, "ModelSpec"]):
    """Every preset by name; a spec is built when it is looked up."""

    def __getitem__(self, name: str) -> ModelSpec:
        """The preset of that exact name.

        Raises:
            KeyError: no such preset.
        """
        return _build(name) if name in _fields() else _missing(name)

    def __iter__(self) -> Iterator[str]:
        """Names, family by family, small to large."""
        return iter(_fields())

    def __len__(self) -> int:
        """Number of presets."""
        return len(_fields())

    def __contains__(self, name: object) -> bool:
        """Whether there is such a preset; nothing is built."""
        return name in _fields()


def presets() -> Presets:
    """All published sizes by name, each built when it is looked up."""
    return Presets()


def preset(name: str) -> ModelSpec:
    """The preset that a name means: upper case, underscores and well-known other names are understood.

    Raises:
        UserError: no such preset, with the nearest names.
    """
    found = canonical(name)
    if found is None:
        hint = did_you_mean(name, [*_fields(), *ALIASES])
        raise UserError(f"{name!r} is no preset.", hint)
    return _build(found)


def canonical(name: str) -> str | None:
    """The exact name of the preset that `name` means, or None."""
    key = _key(name)
    return next((known for known in _fields() if _key(known) == key), None) or next(
        (target for alias, target in ALIASES.items() if _key(alias) == key), None
    )


def _key(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum() or c == ".")


@cache
def _fields() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for family in FAMILIES:
        presets: dict[str, dict[str, Any]] = import_module(f"{__name__}.{family}").PRESETS
        assert not found.keys() & presets.keys(), f"{family} names a preset of another family"
        found |= presets
    return found


@cache
def _build(name: str) -> ModelSpec:
    from assay.spec.model import ModelSpec

    return ModelSpec.from_dict({"name": name, **_fields()[name]}, source=f"preset {name}")


def _missing(name: str) -> ModelSpec:
    raise KeyError(name)
