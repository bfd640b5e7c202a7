"""Every SOURCE there is: what `spec/source.py` reads, and published formats. Without torch, and without weights."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.spec.model import ModelSpec
    from assay.spec.study import StudySpec

__all__ = ["resolve", "resolve_study"]


def resolve(source: str | Path, *, hint: Mapping[str, Any] | None = None) -> ModelSpec:
    """The model that a SOURCE describes; no weights are read.

    Args:
        source: a preset's name, a TOML or JSON spec, a run's folder, a folder or a configuration in a published
            format, a .gguf file, or a hub id, of which only the small files are fetched.
        hint: what no published configuration says, as in `assay.load`.

    Raises:
        UserError: there is nothing of that name, or what is there describes no model.
    """
    from assay.spec import source as plain

    return plain.resolve(source, published=partial(_published, hint=hint))


def resolve_study(source: str | Path) -> StudySpec:
    """The study that a file or a study's folder describes; of any other SOURCE, the default study of that model.

    Raises:
        UserError: there is nothing of that name, or a field is wrong.
    """
    from assay.spec import source as plain

    return plain.resolve_study(source, published=_published)


def _published(source: str | Path, hint: Mapping[str, Any] | None = None) -> ModelSpec:
    from assay.published.describe import spec_of

    return spec_of(source, hint)
