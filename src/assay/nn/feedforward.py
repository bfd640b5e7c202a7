"""The position-wise network: plain, gated, or a mixture of experts."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from assay.nn.hooks import Tap, touch
from assay.nn.kernels.gated import silu_times
from assay.nn.kernels.linear import Linear
from assay.nn.norms import Norm
from assay.spec.axes import Activation
from assay.spec.model import ModelSpec, StackName
from assay.spec.placement import Slot

ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    Activation.relu: F.relu,
    Activation.gelu: F.gelu,
    Activation.gelu_tanh: lambda x: F.gelu(x, approximate="tanh"),
    Activation.silu: F.silu,
    Activation.relu2: lambda x: F.relu(x).square(),
}
"""Sources: GELU Hendrycks & Gimpel 2016; SiLU Elfwing et al. 2018; squared ReLU So et al. 2021."""


class FeedForward(nn.Module):
    """down(act(up x)), or gated: down(act(gate x) * up x) (Shazeer 2020)."""

    def __init__(self, spec: ModelSpec, stack: StackName, inner: Slot) -> None:
        """Args: spec: the model; stack: where; inner: the slot before the output projection."""
        super().__init__()
        say, width = spec.feedforward, spec.feedforward_width(stack)
        self.gate = Linear(spec.width, width, say.bias) if say.gated else None
        self.up = Linear(spec.width, width, say.bias)
        self.down = Linear(width, spec.width, say.bias)
        self.inner = Norm(spec.norm, width) if inner.norm else None
        self.activation, self.dropout = say.activation, say.dropout

    def forward(self, x: Float[Tensor, "... width"], tap: Tap | None = None) -> Float[Tensor, "... width"]:
        """Each position on its own."""
        if self.gate is None:
            inner = ACTIVATIONS[self.activation](self.up(x))
        elif self.activation is Activation.silu:
            inner = silu_times(self.gate(x), self.up(x))
        else:
            inner = ACTIVATIONS[self.activation](self.gate(x)) * self.up(x)
        inner = touch(tap, "inner", inner)
        if self.inner is not None:
            inner = self.inner(inner)
        return self.down(F.dropout(inner, self.dropout, self.training))


class Experts(nn.Module):
    """Several feed-forwards and a router: softmax over all, the best `active` renormalised (Mixtral)."""

    def __init__(self, spec: ModelSpec, stack: StackName, inner: Slot) -> None:
        """Args: as for `FeedForward`; `spec.feedforward.experts` says how many."""
        super().__init__()
        experts = spec.feedforward.experts
        assert experts is not None
        self.active = experts.active
        self.router = Linear(spec.width, experts.count, bias=False)
        self.experts = nn.ModuleList(FeedForward(spec, stack, inner) for _ in range(experts.count))

    def forward(self, x: Float[Tensor, "... width"], tap: Tap | None = None) -> Float[Tensor, "... width"]:
        """Each position through its own experts, weighted by the router."""
        flat = x.reshape(-1, x.shape[-1])
        wide = torch.float64 if flat.dtype == torch.float64 else torch.float32
        share = torch.softmax(self.router(flat), -1, dtype=wide)
        weights, chosen = share.topk(self.active, -1)
        weights = (weights / weights.sum(-1, keepdim=True)).to(flat.dtype)
        out = torch.zeros_like(flat)
        for number, expert in enumerate(self.experts):
            token, rank = (chosen == number).nonzero(as_tuple=True)
            if len(token):
                out = out.index_add(0, token, expert(flat[token]) * weights[token, rank, None])
        return out.view_as(x)


def make_feedforward(spec: ModelSpec, stack: StackName, inner: Slot) -> FeedForward | Experts:
    """The network that the description asks for."""
    return Experts(spec, stack, inner) if spec.feedforward.experts else FeedForward(spec, stack, inner)
