"""What lies in a checkpoint's files, in a line: format, types, files, bytes. From headers alone, without torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.published.describe import CONFIGS, SPEC, describe, locate
from assay.published.files import PICKLES, Files, header, weight_files

if TYPE_CHECKING:
    from assay.published.gguf_file import GGUF
    from assay.spec.model import ModelSpec

__all__ = ["Summary", "look"]

TYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True)
class Summary:
    """A checkpoint as its files have it."""

    place: str
    """The folder or file."""
    family: str
    """Whose format it is: a published family's, or assay's."""
    format: str
    """safetensors, pickles (.bin), GGUF; ranks."""
    files: int
    """Number of files with weights; 0: a configuration alone."""
    bytes: int
    """Their size."""
    tensors: int | None
    """Named tensors; None: not known without unpickling."""
    dtypes: dict[str, float]
    """Share of the numbers by type; a pickle's is what the configuration says."""

    @property
    def dtype(self) -> str | None:
        """The type of the weights, where (small buffers apart) it is one and known."""
        return next((name for name, share in self.dtypes.items() if share > 0.99), None)

    @property
    def name(self) -> str:
        """What the checkpoint is called: by its folder, or its file where that is one of its own."""
        path = Path(self.place)
        return (
            path.stem
            if path.suffix in (".gguf", ".json") and path.name not in CONFIGS
            else (path.parent.name if path.is_file() else path.name)
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        """One line, as `assay inspect` prints it."""
        if not self.files:
            return f"{self.family}: {self.format}"
        from_types = ", ".join(f"{n}" if s > 0.9995 else f"{s:.1%} {n}" for n, s in self.dtypes.items())
        many = f"{self.files} file{'s' * (self.files != 1)}, {_size(self.bytes)}"
        counted = "" if self.tensors is None else f", {self.tensors:,} tensors"
        return f"{self.family}: {self.format}, {from_types or 'type not said'}, {many}{counted}"


def look(source: str | Path, hint: Mapping[str, Any] | None = None) -> tuple[ModelSpec, Summary | None]:
    """What a SOURCE describes, and what its files hold; None where it has none (a preset, a spec's file).

    Raises:
        UserError: as `published.source.resolve`.
    """
    from assay.published.gguf import describe_gguf
    from assay.spec.model import ModelSpec
    from assay.spec.source import resolve

    found: list[Summary] = []

    def read(given: str | Path) -> ModelSpec:
        place = locate(given, weights=False)
        if place.suffix.lower() == ".gguf" and place.is_file():
            told, file = describe_gguf(place)
            found.append(_gguf(told.family.name, file))
            return told.spec
        if (place / SPEC).is_file():
            return ModelSpec.from_json(place / SPEC)
        told = describe(place, hint)
        said = str(told.given.config.raw("torch_dtype") or told.given.config.raw("dtype") or "")
        found.append(_files(place, told.family.name, told.files, said.removeprefix("torch.")))
        return told.spec

    spec = resolve(source, published=read)
    path = Path(str(source)).expanduser()
    if not found and (path / SPEC).is_file() and ModelSpec.from_json(path / SPEC) == spec:
        found.append(_own(path))
    return spec, found[0] if found else None


def _own(path: Path) -> Summary:
    """A folder that `Model.save` wrote, or a run's."""
    from assay.runs import RunFolder

    if not (path / "checkpoints").is_dir():
        return _files(path, "assay", weight_files(path), "")
    run = RunFolder(path)
    steps = run.checkpoint_steps()
    if not steps:
        return Summary(str(path), "assay", "a run without a checkpoint yet", 0, 0, None, {})
    folder = run.checkpoint(steps[-1])
    single = folder / "model.safetensors"
    files = Files(((single,),)) if single.is_file() else weight_files(folder)
    return _files(folder, f"assay run, step {steps[-1]}", files, "")


def _files(place: Path, family: str, files: Files | None, said: str) -> Summary:
    if files is None:
        return Summary(str(place), family, "a description without weights", 0, 0, None, {})
    paths = files.all
    size = sum(path.stat().st_size for path in paths)
    ranks = f", {len(files.ranks)} ranks" if len(files.ranks) > 1 else ""
    kinds = sorted({path.suffix for path in paths})
    if set(kinds) & set(PICKLES):
        form = f"pickles ({', '.join(kinds)}){ranks}"
        return Summary(str(place), family, form, len(paths), size, None, {said: 1.0} if said else {})
    entries = [entry for path in paths for entry in header(path).values()]
    types = _shares((TYPES.get(entry.dtype, entry.dtype), math.prod(entry.shape)) for entry in entries)
    return Summary(str(place), family, f"safetensors{ranks}", len(paths), size, len(entries), types)


def _gguf(family: str, file: GGUF) -> Summary:
    from assay.published.gguf_file import BLOCKS

    kinds = ((BLOCKS[stored.kind][0], math.prod(stored.shape)) for stored in file.tensors.values())
    types = _shares((TYPES.get(kind, kind), size) for kind, size in kinds)
    size = file.path.stat().st_size
    return Summary(str(file.path), family, "GGUF", 1, size, len(file.tensors), types)


def _shares(sizes: Iterable[tuple[str, int]]) -> dict[str, float]:
    """Share by name, the largest first."""
    sums: dict[str, int] = {}
    for name, size in sizes:
        sums[name] = sums.get(name, 0) + size
    total = sum(sums.values()) or 1
    return {name: size / total for name, size in sorted(sums.items(), key=lambda item: -item[1])}


def _size(number: int) -> str:
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number >= unit:
            return f"{number / unit:.3g} {name}"
    return f"{number} bytes"
