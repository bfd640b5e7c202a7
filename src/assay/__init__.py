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
    from pathlib import Path

    from assay.errors import UserError as UserError
    from assay.generation.build import build as build
    from assay.generation.model import Model as Model
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
    from assay.studies.compare import Study as Study
    from assay.studies.compare import compare as compare
    from assay.training.api import Run as Run
    from assay.training.api import train as train

    __version__: str

_WHERE = {
    "DataSpec": "assay.spec.data",
    "Mask": "assay.spec.masks",
    "MaskFacts": "assay.spec.masks",
    "Model": "assay.generation.model",
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
    "build": "assay.generation.build",
    "compare": "assay.studies.compare",
    "preset": "assay.spec.published",
    "presets": "assay.spec.published",
    "resolve": "assay.spec.source",
    "train": "assay.training.api",
}
"""Public name to the module it lives in."""

__all__ = [*_WHERE, "__version__", "load"]  # pyright: ignore[reportUnsupportedDunderAll]


def load(
    source: str | Path, *, dtype: str = "float32", device: str = "cpu", hint: dict[str, Any] | None = None
) -> Model:
    """A trained model from its folder, ready for evaluation.

    Args:
        source: a run's folder (its newest checkpoint), or one that `Model.save` wrote.
        dtype: of the weights.
        device: where they live.
        hint: what a published format leaves open; assay's own leave nothing open.

    Raises:
        UserError: no such folder, one without weights, or damaged files.
    """
    from pathlib import Path

    from assay.errors import UserError
    from assay.spec.source import resolve

    folder = Path(source)
    spec = resolve(str(source))
    if hint is not None:
        raise UserError(f"hint = {hint!r}: {folder} is assay's own format, which needs none.", "Leave it out.")
    if not folder.is_dir():
        raise UserError(f"{folder}: describes a model and holds no weights.", "assay.build makes a fresh one.")
    if (folder / "model.safetensors").is_file():
        from assay.generation.saving import read_assay

        return read_assay(folder, dtype=dtype, device=device, tokenizer=_tokenizer(folder))
    from assay.generation.build import build
    from assay.runs import RunFolder
    from assay.training.checkpoint import load_weights

    run = RunFolder.open(folder)
    steps = run.checkpoint_steps()
    if not steps:
        raise UserError(f"{folder}: has no checkpoint yet.", "Train it further with --resume.")
    model = build(spec, dtype=dtype, device=device, tokenizer=_tokenizer(folder))
    load_weights(run.checkpoint(steps[-1]), model.transformer)
    return model


def _tokenizer(folder: Path) -> Any:
    """The tokenizer that lies in a folder, or None."""
    from assay.data.tokenizer import FILE, load_tokenizer

    return load_tokenizer(folder) if (folder / FILE).is_file() else None


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
