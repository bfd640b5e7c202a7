"""silu(g) u (SwiGLU: Shazeer 2020) and its gradients in one pass through memory each, by a C kernel (`gated.c`)."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from assay.nn.kernels import native
from assay.nn.kernels.native import Library

__all__ = ["NATIVE", "silu_times"]


def silu_times(gate: Float[Tensor, "... width"], up: Float[Tensor, "... width"]) -> Float[Tensor, "... width"]:
    """silu(gate) * up, by the fastest way there is."""
    if native.why_not(NATIVE, gate, up) is not None or gate.shape != up.shape:
        return F.silu(gate) * up
    out: Tensor = _Gated.apply(gate, up)
    return out


class _Gated(torch.autograd.Function):
    """By the kernel; the second derivative is the formula's. silu(gate) itself is not kept."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(gate, up)
        return _forward(gate, up)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        gate, up = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph
            return _backward_formula(gate, up, dy)
        return _backward(gate, up, dy)


def _backward_formula(gate: Tensor, up: Tensor, dy: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients in torch's operators, so that autograd can go through them again."""
    s = torch.sigmoid(gate)
    return dy * up * s * (1 + gate * (1 - s)), dy * gate * s


def _forward(gate: Tensor, up: Tensor) -> Tensor:
    assert NATIVE.handle is not None
    gate, up = gate.contiguous(), up.contiguous()
    y, n = torch.empty_like(gate), gate.numel()
    NATIVE.handle.gated_forward(gate.data_ptr(), up.data_ptr(), y.data_ptr(), n, native.threads(n))
    return y


def _backward(gate: Tensor, up: Tensor, dy: Tensor) -> tuple[Tensor, Tensor]:
    assert NATIVE.handle is not None
    gate, up, dy = gate.contiguous(), up.contiguous(), dy.contiguous()
    d_gate, d_up, n = torch.empty_like(gate), torch.empty_like(up), gate.numel()
    NATIVE.handle.gated_backward(
        gate.data_ptr(), up.data_ptr(), dy.data_ptr(), d_gate.data_ptr(), d_up.data_ptr(), n, native.threads(n)
    )
    return d_gate, d_up


def _check(library: ctypes.CDLL) -> None:
    """Set signatures, and compare a small case with torch."""
    address, long, flag = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    library.gated_forward.argtypes, library.gated_forward.restype = [*[address] * 3, long, flag], None
    library.gated_backward.argtypes, library.gated_backward.restype = [*[address] * 5, long, flag], None
    draw = torch.Generator().manual_seed(0)
    gate, up, dy = (4 * torch.randn(37, generator=draw) for _ in range(3))
    before, NATIVE.handle = NATIVE.handle, library
    try:
        with torch.no_grad():
            found = (_forward(gate, up), *_backward(gate, up, dy))
            wanted = (F.silu(gate) * up, *_backward_formula(gate, up, dy))
    finally:
        NATIVE.handle = before
    if not all(torch.allclose(one, other, rtol=1e-5, atol=1e-5) for one, other in zip(found, wanted, strict=True)):
        raise ValueError("gated.c computes something else than torch")


NATIVE = Library("gated.c", _check)
"""The C kernels; compiled when first needed."""
