"""Checkpoints cut over tensor-parallel ranks: how the pieces of one tensor join."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Along", "Copies", "Halves", "Join"]


class Join(Protocol):
    """From one piece a rank to the whole tensor."""

    def merge(self, pieces: list[Tensor]) -> Tensor:
        """The whole."""
        ...


@dataclass(frozen=True)
class Along:
    """Pieces stand one after another along an axis."""

    axis: int

    def merge(self, pieces: list[Tensor]) -> Tensor:
        """Joined."""
        import torch

        return torch.cat(pieces, self.axis) if pieces[0].dim() > self.axis else pieces[0]


@dataclass(frozen=True)
class Copies:
    """Every rank holds the whole."""

    def merge(self, pieces: list[Tensor]) -> Tensor:
        """The first."""
        return pieces[0]


@dataclass(frozen=True)
class Halves:
    """Each piece is [a; b] of its rank; the whole is [all a; all b] (fused gated feed-forwards)."""

    def merge(self, pieces: list[Tensor]) -> Tensor:
        """Halves joined with their likes."""
        import torch

        first, second = zip(*(piece.chunk(2, 0) for piece in pieces), strict=True)
        return torch.cat([*first, *second], 0)
