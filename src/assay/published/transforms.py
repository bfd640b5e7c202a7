"""How a published tensor differs from ours in layout. Each transform reads (theirs to ours) and writes (back).

A transform joins one or more published tensors with one or more of ours. `read` is told the shapes of ours, so that
a fused matrix can be cut; `write` needs no more than the tensors, and on meta tensors it tells the shapes that a
published file must have. Views are returned where possible: a cut along rows costs no copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "SAME", "Flattened", "Grouped", "Piled", "Same", "Scaled", "Shifted", "Stacked", "Transform", "Transposed",
    "Unpaired",
]  # fmt: skip

Shapes = Sequence[tuple[int, ...]]


class Transform(Protocol):
    """One way from a published layout to ours and back."""

    def read(self, theirs: list[Tensor], shapes: Shapes) -> list[Tensor]:
        """Ours, of the given shapes, from theirs."""
        ...

    def write(self, ours: list[Tensor]) -> list[Tensor]:
        """Theirs from ours."""
        ...


@dataclass(frozen=True)
class Same:
    """One tensor, the same on both sides."""

    def read(self, theirs: list[Tensor], shapes: Shapes) -> list[Tensor]:
        """Theirs."""
        return theirs

    def write(self, ours: list[Tensor]) -> list[Tensor]:
        """Ours."""
        return ours


SAME = Same()


@dataclass(frozen=True)
class Transposed:
    """Matrices stand as [in, out] (GPT-2's Conv1D); vectors as they are. `inner` comes after, on our side."""

    inner: Transform = SAME

    def read(self, theirs: list[Tensor], shapes: Shapes) -> list[Tensor]:
        """Turned, then `inner`."""
        return self.inner.read([_turned(t) for t in theirs], shapes)

    def write(self, ours: list[Tensor]) -> list[Tensor]:
        """`inner` backwards, then turned."""
        return [_turned(t) for t in self.inner.write(ours)]


def _turned(tensor: Tensor) -> Tensor:
    return tensor.T if tensor.dim() == 2 else tensor


@dataclass(frozen=True)
class Stacked:
    """Ours stand one after another along the first axis of a single published tensor: [q; k; v], [gate; up]."""

    def read(self, theirs: list[Tensor], shapes: Shapes) -> list[Tensor]:
        """Cut along rows."""
        (fused,) = theirs
        return list(fused.split([shape[0] for shape in shapes], 0))

    def write(self, ours: list[Tensor]) -> list[Tensor]:
        """Joined along rows."""
        return [_cat(ours, 0)]


@dataclass(frozen=True)
class Grouped:
    """As `Stacked`, but by group: the rows of group 0 of each of ours, then of group 1, and so on.

    With a group per key-value head this is Falcon-40B's query_key_value (the group's queries, key, value); where
    every head has its own key, BLOOM's and ChatGLM-6B's per-head [q, k, v]; with one group, plain [q; k; v].
    """

    groups: int

    def read(self, theirs: list[Tensor], shapes: Shapes) -> list[Tensor]:
        """Cut within each group."""
        (fused,) = theirs
        rows = [shape[0] // self.groups for shape in shapes]
        parts = fused.unflatten(0, (self.groups, sum(rows))).split(rows, 1)
        return [part.flatten(0, 1) for part in parts]

    def write(self, ours: list[Tensor]) -> list[Tensor]:
        """Joined within each group."""
        return [_cat([t.unflatten(0, (self.groups, -1)) for t in ours], 1).flatten(0, 1)]


@dataclass(frozen=True)
class Unpaired:
    """Rows of each head stand as rotary pairs (2i, 2i + 1) there and as halves (i, i + d/2) here.

    Meta's LLaMA turns neighbours, Hugging Face's halves; the same function after this permutation of q and k.
    """

    heads: int

    def read(self, theirs: list[Tensor], shapes: Shapes) -> list[Tensor]:
        """Pairs to halves."""
        return [t.unflatten(0, (self.heads, -1, 2)).transpose(1, 2).flatten(0, 2) for t in theirs]

    def write(self, ours: list[Tensor]) -> list[Tensor]:
        """Halves to pairs."""
        return [t.unflatten(0, (self.heads, 2, -1)).transpose(1, 2).flatten(0, 2) for t in ours]


@dataclass(frozen=True)
class Scaled:
    """Ours is theirs times a factor."""

    factor: float

    def read(self, theirs: list[Tensor], shapes: Shapes) -> list[Tensor]:
        """Multiplied."""
        return [t * self.factor for t in theirs]

    def write(self, ours: list[Tensor]) -> list[Tensor]:
        """Divided."""
        return [t / self.factor for t in ours]


@dataclass(frozen=True)
class Shifted:
    """Ours is theirs plus a constant (GGUF holds Gemma's gains with the 1 already added)."""

    by: float

    def read(self, theirs: list[Tensor], shapes: Shapes) -> list[Tensor]:
        """Added."""
        return [t + self.by for t in theirs]

    def write(self, ours: list[Tensor]) -> list[Tensor]:
        """Taken off."""
        return [t - self.by for t in ours]


@dataclass(frozen=True)
class Flattened:
    """Ours is a vector, theirs a matrix of one row (BART's final_logits_bias)."""

    def read(self, theirs: list[Tensor], shapes: Shapes) -> list[Tensor]:
        """The row."""
        return [t.flatten() for t in theirs]

    def write(self, ours: list[Tensor]) -> list[Tensor]:
        """As a matrix."""
        return [t[None] for t in ours]


@dataclass(frozen=True)
class Piled:
    """Ours lie on each other along a new first axis (GGUF's experts of a layer)."""

    def read(self, theirs: list[Tensor], shapes: Shapes) -> list[Tensor]:
        """Taken apart."""
        return list(theirs[0].unbind(0))

    def write(self, ours: list[Tensor]) -> list[Tensor]:
        """Piled up."""
        import torch

        return [torch.stack(ours)]


def _cat(tensors: list[Tensor], axis: int) -> Tensor:
    import torch

    return torch.cat(tensors, axis)
