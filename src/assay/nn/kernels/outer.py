"""a^T b of two matrices whose rows are tokens, by a C kernel (`outer.c`): the gradient of a linear map's weights.

The one of a linear map's three products that oneDNN loses: it is made for factors that lie the other way. On an AMD
processor with AVX-512 the kernel is 5 to 20 percent ahead of torch's own (MKL), which takes AVX2 there (`docs/log.md`).
"""

from __future__ import annotations

import ctypes

import torch
from jaxtyping import Float
from torch import Tensor

from assay.nn.kernels import native
from assay.nn.kernels.native import Library
from assay.runs import processor

__all__ = ["NATIVE", "outer"]

PREFERRED = not processor.is_intel() and "avx512f" in processor.features()
"""By the processor and not by timing, so that a machine always sums in the same order."""

_LIBRARY = torch.library.Library("assay", "FRAGMENT")
_LIBRARY.define("outer(Tensor a, Tensor b) -> Tensor")


def outer(a: Float[Tensor, "tokens rows"], b: Float[Tensor, "tokens columns"]) -> Float[Tensor, "rows columns"]:
    """a^T b: the sum over tokens of outer products, by the fastest way there is."""
    if torch.is_grad_enabled() or not _serves(a, b):  # create_graph: torch's own product can be derived again
        return a.t() @ b
    out: Tensor = torch.ops.assay.outer(a, b)
    return out


def _serves(a: Tensor, b: Tensor) -> bool:
    if not PREFERRED or a.numel() == 0 or b.numel() == 0:
        return False
    if a.stride(1) != 1 or b.stride(1) != 1:
        return False
    if torch.compiler.is_compiling():  # an operator of its own, which nothing would be fused with
        return NATIVE.handle is not None and all(t.dtype == torch.float32 and t.device.type == "cpu" for t in (a, b))
    return native.why_not(NATIVE, a, b) is None


def _outer(a: Tensor, b: Tensor) -> Tensor:
    library = NATIVE.handle
    assert library is not None
    out, threads = a.new_empty(a.shape[1], b.shape[1]), torch.get_num_threads() if NATIVE.threads else 1
    if library.outer(
        a.data_ptr(), a.stride(0), b.data_ptr(), b.stride(0), a.shape[0], *out.shape, out.data_ptr(), threads
    ):
        raise MemoryError("no memory to pack a product's factors")
    return out


_LIBRARY.impl("outer", _outer, "CPU")
_LIBRARY.impl("outer", lambda a, b: a.new_empty(a.shape[1], b.shape[1]), "Meta")


def _check(library: ctypes.CDLL) -> None:
    """Set the signature, and compare a small case with torch."""
    address, long = ctypes.c_void_p, ctypes.c_int64
    library.outer.argtypes = [address, long, address, long, long, long, long, address, ctypes.c_int]
    draw = torch.Generator().manual_seed(0)
    a, b = torch.randn(530, 19, generator=draw), torch.randn(530, 37, generator=draw)
    before, NATIVE.handle = NATIVE.handle, library
    try:
        if not torch.allclose(_outer(a, b), a.t() @ b, rtol=1e-4, atol=1e-3):
            raise ValueError("outer.c computes something else than torch")
    finally:
        NATIVE.handle = before


NATIVE = Library("outer.c", _check)
"""The C kernel; compiled when first needed."""
