"""assay: a workbench for transformer language-model architecture.

    import assay
    spec = assay.preset("gpt2")                    # what a model is, as a value
    spec.parameters(), spec.flops(1024)            # counted without building
    assay.compare(vary=["norm=layer,rms"], out="norms").table()

Names load when they are first used, so that `import assay` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.errors import UserError as UserError
    from assay.generation.build import build as build
    from assay.generation.model import Model as Model
    from assay.published.load import load as load
    from assay.published.source import resolve as resolve
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
    from assay.spec.study import RunSpec as RunSpec
    from assay.spec.study import StudySpec as StudySpec
    from assay.spec.training import TrainSpec as TrainSpec
    from assay.studies.compare import Study as Study
    from assay.studies.compare import compare as compare
    from assay.training.api import Run as Run
    from assay.training.api import train as train

    __version__: str

_WHERE = {
    "DataSpec": "assay.spec.data",
    "Mask": "assay.spec.masks",
    "MaskFacts": "assay.spec.masks",
    "Model": "assay.published.load",
    "ModelSpec": "assay.spec.model",
    "ObjectiveSpec": "assay.spec.objective",
    "Run": "assay.training.api",
    "RunFolder": "assay.runs",
    "RunSpec": "assay.spec.study",
    "Study": "assay.studies.compare",
    "StudyFolder": "assay.runs",
    "StudySpec": "assay.spec.study",
    "TokenizerSpec": "assay.spec.data",
    "TrainSpec": "assay.spec.training",
    "UserError": "assay.errors",
    "build": "assay.published.load",
    "compare": "assay.studies.compare",
    "load": "assay.published.load",
    "preset": "assay.spec.published",
    "presets": "assay.spec.published",
    "resolve": "assay.published.source",
    "train": "assay.training.api",
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
    return sorted({*(name for name in globals() if name.startswith("__")), *__all__})
