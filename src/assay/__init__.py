"""assay: a workbench for transformer language-model architecture.

    import assay
    spec = assay.preset("gpt2")                 # what a model is, as a value
    spec.parameters(), spec.flops(1024)         # counted without building

Names load when they are first used, so that `import assay` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.errors import UserError as UserError
    from assay.runs import RunFolder as RunFolder
    from assay.runs import StudyFolder as StudyFolder
    from assay.spec.data import DataSpec as DataSpec
    from assay.spec.data import TokenizerSpec as TokenizerSpec
    from assay.spec.masks import Mask as Mask
    from assay.spec.masks import MaskFacts as MaskFacts
    from assay.spec.model import ModelSpec as ModelSpec
    from assay.spec.objective import ObjectiveSpec as ObjectiveSpec
    from assay.spec.published import preset as preset
    from assay.spec.published import presets as presets
    from assay.spec.source import resolve as resolve
    from assay.spec.study import RunSpec as RunSpec
    from assay.spec.study import StudySpec as StudySpec
    from assay.spec.training import TrainSpec as TrainSpec

    __version__: str

_WHERE = {
    "DataSpec": "assay.spec.data",
    "Mask": "assay.spec.masks",
    "MaskFacts": "assay.spec.masks",
    "ModelSpec": "assay.spec.model",
    "ObjectiveSpec": "assay.spec.objective",
    "RunFolder": "assay.runs",
    "RunSpec": "assay.spec.study",
    "StudyFolder": "assay.runs",
    "StudySpec": "assay.spec.study",
    "TokenizerSpec": "assay.spec.data",
    "TrainSpec": "assay.spec.training",
    "UserError": "assay.errors",
    "preset": "assay.spec.published",
    "presets": "assay.spec.published",
    "resolve": "assay.spec.source",
}
"""Public name to the module it lives in."""

__all__ = [*_WHERE, "__version__"]


def __getattr__(name: str) -> Any:
    """Load a public name on first use (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("assay")
    elif name in _WHERE:
        value = getattr(import_module(_WHERE[name]), name)
    else:
        raise AttributeError(f"module 'assay' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
