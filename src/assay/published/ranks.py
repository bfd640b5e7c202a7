"""Checkpoints cut over tensor-parallel ranks: how the pieces of one tensor join."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Along", "Copies", "Join", "Parts"]


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
class Parts:
    """Each piece is [a; b; ...] of its rank, so many equal parts; the whole is [all a; all b; ...].

    Two: fused gated feed-forwards; three: queries, keys and values in plain thirds.
    """

    count: int

    def merge(self, pieces: list[Tensor]) -> Tensor:
        """Parts joined with their likes."""
        import torch

        parts = zip(*(piece.chunk(self.count, 0) for piece in pieces), strict=True)
        return torch.cat([part for likes in parts for part in likes], 0)
