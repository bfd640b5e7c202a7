"""The layers that hold weights, with several members' weights: rows come member by member, as many of each.

A tensor [members x batch, ...] is split evenly over the members on its first axis. Only these layers know that.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.nn.norms import Norm
from assay.spec.axes import NormKind
from assay.training.together.norms import fused_norms, spread

__all__ = ["Embeddings", "Linears", "Norms", "layer_of"]


class Linears(nn.Module):
    """x W^T + b with each member's own W [members, outputs, inputs] and b [members, outputs]."""

    def __init__(self, weight: nn.Parameter, bias: nn.Parameter | None) -> None:
        """Args: weight, bias: stacked."""
        super().__init__()
        self.weight, self.bias = weight, bias

    def forward(self, x: Tensor) -> Tensor:
        """[members x batch, ..., inputs] to the same with outputs."""
        rows, turned = x.reshape(len(self.weight), -1, x.shape[-1]), self.weight.transpose(1, 2)
        y = torch.bmm(rows, turned) if self.bias is None else torch.baddbmm(self.bias[:, None], rows, turned)
        return y.view(*x.shape[:-1], self.weight.shape[1])


class Embeddings(nn.Module):
    """A table of each member's own, [members, entries, width]."""

    def __init__(self, weight: nn.Parameter) -> None:
        """Args: weight: stacked."""
        super().__init__()
        self.weight = weight

    def forward(self, ids: Tensor) -> Tensor:
        """[members x batch, ...] entries to their vectors."""
        members, entries, width = self.weight.shape
        first = torch.arange(0, members * entries, entries, device=ids.device)
        rows = ids.reshape(members, -1) + first[:, None]
        return F.embedding(rows, self.weight.view(-1, width)).view(*ids.shape, width)


class Norms(Norm):
    """`Norm` with each member's own gain and shift [members, width], and DyT's scale [members]."""

    def __init__(self, like: Norm, stacked: Mapping[str, nn.Parameter]) -> None:
        """Args: like: a member's; stacked: parameters by their names in it."""
        nn.Module.__init__(self)
        for name in ("kind", "width", "eps", "plus_one", "cast_first", "counted", "max_scale"):
            setattr(self, name, getattr(like, name))
        assert self.max_scale is None, "the largest value of a batch of members is no member's"
        if self.kind is NormKind.dyt:
            self.alpha = stacked["alpha"]
        for name in ("weight", "bias"):
            self.register_parameter(name, stacked.get(name))

    def forward(self, x: Tensor) -> Tensor:
        """See `Norm`."""
        if self.kind is NormKind.dyt:
            rows = x.reshape(len(self.alpha), -1, self.width)
            return spread(torch.tanh(self.alpha[:, None, None] * rows), self.weight, self.bias).view(x.shape)
        if self.kind is NormKind.none:
            return x
        if self.kind is NormKind.rmsnorm and self.counted < self.width:
            square = x[..., : self.counted].square().mean(-1, keepdim=True)
            return spread(x * torch.rsqrt(square + self.eps), self._gain(), self.bias)
        return fused_norms(x, self._gain(), self.bias, self.eps, centre=self.kind is NormKind.layernorm)[0]

    def of_sum(
        self, x: Tensor, add: Tensor, alpha: Tensor | None = None, *, keep: bool = False
    ) -> tuple[Tensor, Tensor]:
        """See `Norm`."""
        centre = self.kind is NormKind.layernorm
        if centre or (self.kind is NormKind.rmsnorm and self.counted == self.width):
            return fused_norms(x, self._gain(), self.bias, self.eps, centre=centre, add=add, alpha=alpha, keep=keep)
        total = (x if alpha is None else x * alpha) + add
        return self(total), total


def layer_of(like: nn.Module, stacked: Mapping[str, nn.Parameter]) -> nn.Module | None:
    """A layer for several members; None where `like` holds no weights of its own.

    Args:
        like: a member's.
        stacked: its own parameters, of all members on a first axis, by name.
    """
    if isinstance(like, nn.Linear):
        return Linears(stacked["weight"], stacked.get("bias"))
    if isinstance(like, nn.Embedding):
        return Embeddings(stacked["weight"])
    if isinstance(like, Norm):
        return Norms(like, stacked)
    assert not stacked, f"{type(like).__name__} has parameters {', '.join(stacked)} and no form for several members"
    return None
