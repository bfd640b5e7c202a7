"""float32 products by tiles of bfloat16: each number is split into three, exactly (`split.c`).

Where a processor multiplies bfloat16 tiles (Intel's AMX) many times as fast as float32, six products of parts cost
less than one of float32, and what is left out lies under float32's own rounding. The method is Henry's, Tang's and
Heinecke's ("Leveraging the bfloat16 artificial intelligence datatype for higher-precision computations", 2019; bf16x3).
A finite result differs by what another order of summation does; an infinite factor gives NaN.
"""

from __future__ import annotations

import ctypes
import math
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from assay.nn.kernels import native
from assay.nn.kernels.native import Library

__all__ = ["NATIVE", "add_product", "product", "suits"]

LEAST_ROWS = 48
"""Rows of either factor from which splitting the other one pays."""

LEAST_DEPTH = 32
"""Terms of a sum: a tile's."""

LEAST_WORK = 1 << 23
"""Multiply-adds below which another product's call is over before this one's has begun."""


def suits(a: Tensor, b: Tensor) -> bool:
    """Whether a b^T is done here: large float32 matrices on a processor that has the tiles."""
    depth = a.shape[-1]
    rows = a.numel() // depth if depth else 0
    return (
        min(rows, b.shape[0]) >= LEAST_ROWS
        and depth >= LEAST_DEPTH
        and rows * b.shape[0] * depth >= LEAST_WORK
        and _has_tiles()
        and native.why_not(NATIVE, a, b) is None
    )


def product(a: Float[Tensor, "... k"], b: Float[Tensor, "n k"]) -> Float[Tensor, "... n"]:
    """A b^T. Either may be a transposed view; anything else is copied first. Ask `suits` before."""
    rows = a.reshape(-1, a.shape[-1])
    out = torch.empty(rows.shape[0], b.shape[0])
    _multiply(rows, b, out, add=False)
    return out.view(*a.shape[:-1], b.shape[0])


def add_product(total: Float[Tensor, "m n"], a: Float[Tensor, "m k"], b: Float[Tensor, "n k"]) -> None:
    """Add a b^T to a contiguous `total`, by whatever is fastest."""
    if total.is_contiguous() and suits(a, b):
        _multiply(a, b, total, add=True)
    else:
        total.addmm_(a, b.t())


def _multiply(a: Tensor, b: Tensor, out: Tensor, *, add: bool) -> None:
    assert NATIVE.handle is not None
    a, b = (matrix if 1 in matrix.stride() else matrix.contiguous() for matrix in (a, b))
    work = math.prod((*out.shape, a.shape[1]))
    threads = max(1, min(torch.get_num_threads(), work // LEAST_WORK))
    failed = NATIVE.handle.split_product(
        a.data_ptr(), *a.stride(), b.data_ptr(), *b.stride(), out.data_ptr(), *out.shape, a.shape[1], add, threads
    )
    if failed:
        raise MemoryError(f"no memory for the parts of matrices of {tuple(a.shape)} and {tuple(b.shape)}")


@cache
def _has_tiles() -> bool:
    """Whether the processor says so: elsewhere nothing is compiled for them."""
    try:
        return " amx_bf16 " in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False


def _check(library: ctypes.CDLL) -> None:
    """Set signatures, and compare small cases of every layout with float64."""
    address, long, flag = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    library.split_available.restype = flag
    library.split_product.restype = flag
    library.split_product.argtypes = [*[address, long, long] * 2, address, long, long, long, flag, flag]
    if not library.split_available():
        raise ValueError("the system does not let this process use the processor's tiles")
    draw = torch.Generator().manual_seed(0)
    before, NATIVE.handle = NATIVE.handle, library
    try:
        for turned in ((False, False), (False, True), (True, False), (True, True)):
            a, b = (
                torch.randn(70, rows, generator=draw).t() if turn else torch.randn(rows, 70, generator=draw)
                for rows, turn in zip((41, 37), turned, strict=True)
            )
            exact, size = a.double() @ b.double().t(), a.double().abs() @ b.double().abs().t()
            if ((product(a, b) - exact).abs() > 1e-6 * size).any():
                raise ValueError("split.c computes something else than torch")
    finally:
        NATIVE.handle = before


NATIVE = Library("split.c", _check)
"""The C kernel; compiled when first needed."""
