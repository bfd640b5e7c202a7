"""Rotation of queries and keys in one pass through memory by a C kernel (`rotary.c`), bit for bit torch's."""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from assay.nn.kernels import native
from assay.nn.kernels.native import FLAGS, Library

__all__ = ["NATIVE", "Tables", "turn", "why_not"]


class Tables(NamedTuple):
    """Angles for queries and for keys, [1 or b, s, rotated features], and which features are pairs."""

    q_cos: Tensor
    q_sin: Tensor
    k_cos: Tensor
    k_sin: Tensor
    axes: int
    """Parts of the features, each of whose halves pair up; 0: neighbours are pairs."""


def why_not(q: Tensor, k: Tensor, tables: Tables) -> str | None:
    """Why torch's own operators serve; None where the kernel does."""
    if any(t.requires_grad for t in tables[:4]):
        return "the angles are learned"
    return native.why_not(NATIVE, q, k, *tables[:4])


def turn(
    q: Float[Tensor, "b h s d"], k: Float[Tensor, "b g s d"], tables: Tables
) -> tuple[Float[Tensor, "b h s d"], Float[Tensor, "b g s d"]]:
    """(q, k), the first features of every head turned and the rest as they were; ask `why_not` first."""
    if not torch.is_grad_enabled():  # generation: nothing to remember
        return _turn(q, *tables[:2], tables.axes, False), _turn(k, *tables[2:4], tables.axes, False)
    turned: tuple[Tensor, Tensor] = _Turn.apply(q, k, *tables, False)
    return turned


class _Turn(torch.autograd.Function):
    """Linear in q and k, so its gradient is its adjoint, whose gradient is itself: as often as one likes."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        q: Tensor,
        k: Tensor,
        q_cos: Tensor,
        q_sin: Tensor,
        k_cos: Tensor,
        k_sin: Tensor,
        axes: int,
        back: bool,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        ctx.save_for_backward(q_cos, q_sin, k_cos, k_sin)
        ctx.axes, ctx.back = axes, back
        return _turn(q, q_cos, q_sin, axes, back), _turn(k, k_cos, k_sin, axes, back)

    @staticmethod
    def backward(ctx: Any, dq: Tensor, dk: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        dq, dk = _Turn.apply(dq, dk, *ctx.saved_tensors, ctx.axes, not ctx.back)
        return dq, dk, None, None, None, None, None, None


def _turn(x: Tensor, cos: Tensor, sin: Tensor, axes: int, back: bool) -> Tensor:
    """What x becomes, or by the adjoint where `back`; laid out as [b, s, h, d], as projections read and write it."""
    assert NATIVE.handle is not None
    x, cos, sin = x if x.stride(-1) == 1 else x.contiguous(), cos.contiguous(), sin.contiguous()
    (b, h, s, d), (tables, rows, rotated) = x.shape, cos.shape
    assert cos.shape == sin.shape and tables in (1, b) and rows == s
    assert rotated <= d and rotated % (2 * max(axes, 1)) == 0
    out = x.new_empty(b, s, h, d)
    NATIVE.handle.rotate(
        x.data_ptr(), cos.data_ptr(), sin.data_ptr(), out.data_ptr(), b, h, s, d, rotated, *x.stride()[:3],
        0 if tables == 1 else s * rotated, axes, back, native.threads(x.numel()),
    )  # fmt: skip
    return out.transpose(1, 2)


def _check(library: ctypes.CDLL) -> None:
    """Set signatures, and compare a small case with the product by the matrix that rotates."""
    address, long, flag = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    library.rotate.argtypes, library.rotate.restype = [*[address] * 4, *[long] * 10, flag, flag], None
    draw = torch.Generator().manual_seed(0)
    x, angles = torch.randn(2, 3, 5, 11, generator=draw), torch.randn(2, 5, 8, generator=draw)
    cos, sin = angles.cos(), angles.sin()
    seconds = {0: (1, 3, 5, 7), 1: (4, 5, 6, 7), 2: (2, 3, 6, 7)}
    before, NATIVE.handle = NATIVE.handle, library
    try:
        with torch.no_grad():
            for axes, second in seconds.items():
                first = [c for c in range(8) if c not in second]
                matrix = torch.diag_embed(torch.cat([cos, torch.ones(2, 5, 3)], -1))
                matrix[..., first, second] = -sin[..., first]
                matrix[..., second, first] = sin[..., list(second)]
                for back in (False, True):
                    by = matrix.transpose(-1, -2) if back else matrix
                    wanted = torch.einsum("bsij,bhsj->bhsi", by, x)
                    if not torch.allclose(_turn(x, cos, sin, axes, back), wanted, rtol=1e-5, atol=1e-5):
                        raise ValueError("rotary.c computes something else than torch")
    finally:
        NATIVE.handle = before


NATIVE = Library("rotary.c", _check, flags=(*FLAGS, "-O3", "-ffp-contract=off"))
"""The C kernel; compiled when first needed."""
