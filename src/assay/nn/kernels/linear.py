"""x W^T + b through oneDNN's matrix product where it is the quicker one: 5 to 8 percent ahead of `F.linear`'s on one of
AMD's processors, level on another, 5 percent behind it on one of Intel's, whose own library (MKL) torch takes there.

torch itself takes oneDNN for frozen weights only. `benchmarks/` has the comparison; `docs/log.md` the story.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from assay.nn.kernels.outer import outer
from assay.runs import processor

LEAST_ROWS = 32
"""Below this many rows a product is bound by reading the weights, and `F.linear` is as good."""

LEAST_WORK = 1 << 24
"""Below this many multiply-adds both products are as good, and the plain one is called with less ado."""

_LIBRARY = torch.library.Library("assay", "DEF")
_LIBRARY.define("product(Tensor a, Tensor b) -> Tensor")


def _product(a: Tensor, b: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise.default(a, b, None, "none", [], "")


def _shape(a: Tensor, b: Tensor) -> Tensor:
    return a.new_empty((*a.shape[:-1], b.shape[0]))


_LIBRARY.impl("product", _product, "CPU")
_LIBRARY.impl("product", _shape, "Meta")


class _Product(torch.autograd.Function):
    """a b^T for float32 on a CPU; `b` may be a transposed view. Differentiable as often as one likes."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(a, b)
        out: Tensor = torch.ops.assay.product(a, b)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:  # type: ignore[override]
        a, b = ctx.saved_tensors
        d_a = d_b = None
        if ctx.needs_input_grad[0]:
            again = torch.is_grad_enabled()  # create_graph
            d_a = _Product.apply(grad, b.t()) if again else torch.ops.assay.product(grad, b.t())
        if ctx.needs_input_grad[1]:
            d_b = outer(grad.flatten(0, -2), a.flatten(0, -2))
        return d_a, d_b


def fast_linear(
    x: Float[Tensor, "... inputs"], weight: Float[Tensor, "outputs inputs"], bias: Float[Tensor, " outputs"] | None
) -> Float[Tensor, "... outputs"]:
    """X W^T + b, by oneDNN where it is faster and by `F.linear` elsewhere; equal up to the order of summation."""
    if not _suits(x, weight):
        return F.linear(x, weight, bias)
    y: Tensor = _Product.apply(x, weight)
    return y if bias is None else y + bias


def merged_linear(x: Float[Tensor, "... inputs"], parts: Sequence[nn.Linear]) -> tuple[Tensor, ...] | None:
    """What several linear maps make of the same input, by one product, where that is worth its while: else None.

    Small products inside a compiled block on a CPU: a third of the calls, and the input's gradients need no adding
    up. Weights stay apart: they are joined for the product, which copies less than it saves.
    """
    if not torch.compiler.is_compiling() or x.device.type != "cpu":
        return None
    for part in parts:
        if type(part) is not Linear or part.bias is not None or x.numel() * part.out_features >= LEAST_WORK:
            return None
    joined = F.linear(x, torch.cat([part.weight for part in parts]))
    return joined.split([part.out_features for part in parts], -1)


def _suits(x: Tensor, weight: Tensor) -> bool:
    return (
        x.dtype == torch.float32
        and weight.dtype == torch.float32
        and x.device.type == "cpu"
        and x.numel() >= LEAST_ROWS * x.shape[-1]
        and x.dim() > 1
        and x.numel() * weight.shape[0] >= LEAST_WORK
        and PREFERRED
        and not torch.is_autocast_enabled("cpu")
    )


def _available() -> bool:
    """Whether this torch has the operator and it computes what it should."""
    if not torch.backends.mkldnn.is_available():
        return False
    try:
        a, b = torch.arange(6.0).view(2, 3), torch.arange(12.0).view(4, 3)
        return torch.equal(_product(a, b), a @ b.t())
    except (AttributeError, RuntimeError, TypeError):
        return False


PREFERRED = not processor.is_intel() and _available()
"""By the processor's maker and not by timing, so that a machine always sums in the same order."""


class Linear(nn.Linear):
    """`nn.Linear` by way of `fast_linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """X W^T + b."""
        return fast_linear(x, self.weight, self.bias)
