"""Tensors out of files, lazily: memory-mapped, nothing executed, and read only once all of them are known to fit.

A safetensors file is mapped, so a tensor that needs no change of type or layout costs no copy. `.bin`, `.pt` and
`.pth` go through torch's weights-only loading; a file that asks for any other global is refused by name.
"""

from __future__ import annotations

import re
import tarfile
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from assay.errors import UserError
from assay.published.base import Family, Given, assignments
from assay.published.files import AGAIN, PICKLES, Files, header
from assay.published.pickles import calls, is_packed
from assay.published.ranks import Join
from assay.published.transforms import SAME
from assay.spec.model import ModelSpec
from assay.spec.parameters import layout

__all__ = ["Weights", "open_files", "pickled", "translate"]

MANY = 3
"""Names listed of many."""


class Weights(Protocol):
    """Named tensors, read one at a time."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Names and shapes."""
        ...

    def get(self, name: str) -> Tensor:
        """The tensor, as it lies in its file."""
        ...

    def place(self, name: str) -> str:
        """Its file, for messages."""
        ...


class Mapped:
    """Tensors of one or more safetensors files and pickles, by name."""

    def __init__(self, paths: Sequence[Path], listed: Mapping[str, Path] | None = None) -> None:
        """Args: paths: the files; listed: where an index says that each tensor is."""
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._where: dict[str, Path] = {}
        self._open: dict[Path, Any] = {}
        self._loaded: dict[Path, dict[str, Tensor]] = {}
        for path in paths:
            if path.suffix in PICKLES:
                self._loaded[path] = pickled(path)
                found = {name: tuple(tensor.shape) for name, tensor in self._loaded[path].items()}
            else:
                found = {name: entry.shape for name, entry in header(path).items()}
            self.shapes |= found
            self._where |= dict.fromkeys(found, path)
        for name, path in (listed or {}).items():
            if self._where.get(name) != path:
                raise UserError(f"{path}: tensor {name} is missing, where the index says it is.", AGAIN)

    def get(self, name: str) -> Tensor:
        """The tensor; a view of the mapped file."""
        path = self._where[name]
        if path in self._loaded:
            return self._loaded[path][name]
        try:
            if path not in self._open:
                self._open[path] = safe_open(str(path), framework="pt")
            return self._open[path].get_tensor(name)
        except (SafetensorError, OSError, RuntimeError, ValueError) as error:
            raise UserError(f"{path}: tensor {name} cannot be read ({error}).", AGAIN) from None

    def place(self, name: str) -> str:
        """Its file."""
        return str(self._where[name])


class Joined:
    """Tensors cut over tensor-parallel ranks, joined as they are read."""

    def __init__(self, pieces: Sequence[Mapped], joins: Sequence[tuple[str, Join]], place: Path) -> None:
        """Args: pieces: a rank each; joins: how, by regular expression; place: the folder."""
        self._pieces, self._folder = pieces, str(place)
        names = set(pieces[0].shapes)
        odd = next((name for piece in pieces for name in names ^ set(piece.shapes)), None)
        if odd is not None:
            raise UserError(f"{place}: its ranks hold different tensors ({odd}).", "Download the ranks again.")
        self._joins: dict[str, Join | None] = {
            name: next((join for pattern, join in joins if re.fullmatch(pattern, name)), None) for name in names
        }
        self.shapes = {name: self._shape(name) for name in sorted(names)}

    def _shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._merge(name, [torch.empty(p.shapes[name], device="meta") for p in self._pieces]).shape)

    def _merge(self, name: str, pieces: list[Tensor]) -> Tensor:
        join = self._joins[name]
        if join is None:  # told as unexpected where the table lacks it too
            return pieces[0]
        try:
            return join.merge(pieces)
        except (RuntimeError, ValueError) as error:
            raise UserError(f"{self._folder}: the pieces of {name} do not fit ({error}).") from None

    def get(self, name: str) -> Tensor:
        """The whole tensor."""
        return self._merge(name, [piece.get(name) for piece in self._pieces])

    def place(self, name: str) -> str:
        """Its folder."""
        return self._folder


def open_files(files: Files, family: Family, given: Given, folder: Path) -> Weights:
    """The weights behind some files, ranks joined.

    Raises:
        UserError: a damaged file, or ranks of a family whose ranks are not known.
    """
    if len(files.ranks) == 1:
        return Mapped(files.ranks[0], files.listed)
    if family.joins is None:
        raise UserError(f"{folder}: {len(files.ranks)} ranks, and how {family.name} is cut is not known.")
    pieces = [Mapped(rank) for rank in files.ranks]
    first = pieces[0].shapes
    joins = family.joins(Given(given.config, given.hint, lambda: first))
    return Joined(pieces, joins, folder)


def pickled(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.bin`, `.pt` or `.pth` file, mapped where its format allows it; nothing is executed.

    Raises:
        UserError: the file needs a global that weights do not need, or is damaged, or holds no tensors.
    """
    mapped = _is_zip(path)
    if mapped and is_packed(path):
        raise UserError(f"{path}: is an archive with packed entries, which torch does not write; refused.", AGAIN)
    if tarfile.is_tarfile(path):  # torch's form of 2016, which it would unpack into a folder first
        raise UserError(f"{path}: is a tar archive, a form that is not read.", "Save it with a newer torch.")
    if any(name.endswith(".bytearray") for name in calls(path)):  # torch allows it, at any length
        raise UserError(f"{path}: refused: its pickle makes byte arrays; weights need no such thing.", AGAIN)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on a pickle's protocol: what matters becomes an error
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:
        raise _refused(path, error) from None
    for key in ("module", "model", "state_dict", "model_state_dict"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    tensors = {str(n): t for n, t in found.items() if isinstance(t, Tensor)} if isinstance(found, dict) else {}
    if not tensors:
        raise UserError(f"{path}: holds no named tensors.", "Give the file that holds a state dict.")
    return tensors


def _is_zip(path: Path) -> bool:
    with suppress(OSError), path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"
    return False


def _refused(path: Path, error: Exception) -> UserError:
    if foreign := calls(path):
        return UserError(
            f"{path}: refused: unpickling would call {foreign[0]}; weights need no such thing. Nothing was executed.",
            "Use the checkpoint's safetensors files, or convert it where you trust it.",
        )
    text = str(error)
    if "weights_only" in text or isinstance(error, UnpicklingError):  # torch's advice is to execute what the file says
        text = "its pickle is not one that weights are kept in"
    first = text.strip().splitlines()[0][:200] if text.strip() else type(error).__name__
    return UserError(f"{path}: truncated or corrupt: cannot be read as weights ({first}).", AGAIN)


def translate(
    family: Family, spec: ModelSpec, weights: Weights, place: str, *, dtype: torch.dtype, device: str | torch.device
) -> dict[str, Tensor]:
    """Every parameter of the model, by our names, from published tensors.

    All names and shapes are checked before the first tensor is read. A tensor that keeps type, device and layout is
    a view of its file.

    Raises:
        UserError: missing, unexpected or misshapen tensors, with names, shapes and files.
    """
    table = assignments(family, spec)
    own = {info.name: info.shape for info in layout(spec)}
    wanted: dict[str, tuple[int, ...]] = {}
    for row in table:
        if row.by is SAME:
            wanted[row.theirs[0]] = own[row.ours[0]]
            continue
        theirs = row.by.write([torch.empty(own[name], device="meta") for name in row.ours])
        wanted |= {name: tuple(t.shape) for name, t in zip(row.theirs, theirs, strict=True)}
    spelled = _spelled(family, weights.shapes, wanted)
    _check(family, spec, weights, wanted, spelled, place)
    out: dict[str, Tensor] = {}
    for row in table:
        theirs = [_floating(weights, spelled[name]) for name in row.theirs]
        ours = row.by.read(theirs, [own[name] for name in row.ours])
        for name, tensor in zip(row.ours, ours, strict=True):
            out[name] = tensor.to(device=device, dtype=dtype).contiguous()
    return out


def _floating(weights: Weights, name: str) -> Tensor:
    tensor = weights.get(name)
    if not tensor.is_floating_point():
        raise UserError(
            f"{weights.place(name)}: tensor {name} holds {str(tensor.dtype).removeprefix('torch.')}: a quantised "
            "checkpoint is not supported here.",
            "Use the original in float32, float16 or bfloat16, or a .gguf file.",
        )
    return tensor


def _spelled(family: Family, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, str]:
    """From the table's name to the file's, with older spellings and raw names understood."""
    spelled: dict[str, str] = {}
    for name in found:
        plain = name
        for pattern, better in family.renames:
            plain = re.sub(pattern, better, plain)
        if plain not in wanted and family.prefix and f"{family.prefix}{plain}" in wanted:
            plain = f"{family.prefix}{plain}"
        if plain not in spelled or name == plain:
            spelled[plain] = name
    return spelled


def _check(
    family: Family,
    spec: ModelSpec,
    weights: Weights,
    wanted: Mapping[str, tuple[int, ...]],
    spelled: Mapping[str, str],
    place: str,
) -> None:
    missing = [name for name in wanted if name not in spelled]
    bad = [n for n in wanted if n in spelled and tuple(weights.shapes[spelled[n]]) != wanted[n]]
    extra = [
        name
        for plain, name in spelled.items()
        if plain not in wanted
        and plain not in family.tied
        and name not in family.tied
        and not any(re.fullmatch(pattern, plain) or re.fullmatch(pattern, name) for pattern in family.extras)
    ]
    if bad:
        name = spelled[bad[0]]
        raise UserError(
            f"{weights.place(name)}: tensor {name} has shape {list(weights.shapes[name])}, where the configuration "
            f"makes it {list(wanted[bad[0]])}{_more(bad)}.",
            "Use the configuration that was published with these weights.",
        )
    if missing:
        beside = f"; {extra[0]} is there and not expected" if extra else ""
        tie = " or set tie_word_embeddings to true" if missing == ["lm_head.weight"] else ""
        raise UserError(
            f"{place}: tensor {missing[0]} is missing{_more(missing)}{beside}.",
            f"Add the file that holds it{tie}; or use the configuration that was published with these weights.",
        )
    if extra:
        raise UserError(
            f"{weights.place(extra[0])}: tensor {extra[0]} has no place in {family.name} as the configuration "
            f"describes it{_more(extra)}.",
            "Use the configuration that was published with these weights.",
        )


def _more(names: Sequence[str]) -> str:
    if len(names) == 1:
        return ""
    listed = ", ".join(names[1 : 1 + MANY])
    return f" (and {len(names) - 1} more: {listed}{', ...' if len(names) > 1 + MANY else ''})"
