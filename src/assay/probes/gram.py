"""Eigenvalues of A A^T for many float32 matrices at once, by a C kernel (`gram.c`); None where LAPACK has to serve.

LAPACK takes the same steps, a matrix a call. The kernel's tiles and vectors are made for matrices of some hundred rows,
which a core's cache holds, and A's zeros and the upper half of A A^T cost nothing (`benchmarks/rank.py` compares). It
asks for AVX2 or AVX-512.
"""

from __future__ import annotations

import ctypes

import torch
from jaxtyping import Float
from torch import Tensor

from assay.nn.kernels import native
from assay.nn.kernels.native import Library

__all__ = ["NATIVE", "gram_values"]

LOWER = (torch.float32, torch.bfloat16, torch.float16)
"""Element types that float32 holds exactly."""


MOST_ROWS = 1024
"""Above, half of A A^T no longer lies near a core, and LAPACK is as fast or faster (2,048 rows: 0.6 of the time)."""


def gram_values(matrices: Float[Tensor, "count m n"], *, triangular: bool = False) -> Float[Tensor, "count m"] | None:
    """Eigenvalues in float64, small to large, or None: another type or device, too many rows, gradients wanted, no
    compiler, or matrices that are not finite.

    Args:
        matrices: of float32 or lower precision, m <= n or not.
        triangular: the upper triangle is all zeros, and is not read.
    """
    if matrices.dtype not in LOWER or not 0 < matrices.shape[-2] <= MOST_ROWS or not matrices.numel():
        return None
    if matrices.requires_grad and torch.is_grad_enabled():
        return None
    wide = matrices.float()
    if native.why_not(NATIVE, wide) is not None:
        return None
    assert NATIVE.handle is not None
    return _values(NATIVE.handle, wide, triangular)


def _values(library: ctypes.CDLL, matrices: Tensor, triangular: bool) -> Tensor | None:
    given = matrices.detach().contiguous()
    count, rows, columns = given.shape
    values = torch.empty(count, rows, dtype=torch.float64)
    failed = library.gram_values(
        given.data_ptr(), count, rows, columns, triangular, values.data_ptr(), min(torch.get_num_threads(), count)
    )
    return None if failed else values.sort(-1).values


def _check(library: ctypes.CDLL) -> None:
    """Set signatures, and compare small cases with LAPACK: rows and columns beyond every block's end."""
    address, long, flag = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    library.gram_values.argtypes = [address, *[long] * 3, flag, address, flag]
    library.gram_values.restype = long
    draw = torch.Generator().manual_seed(0)
    for rows, columns, triangular in ((1, 3, False), (21, 130, False), (75, 75, True)):
        given = torch.randn(3, rows, columns, generator=draw)
        given = given.tril() if triangular else given
        wide = given.double()
        wanted = torch.linalg.eigvalsh(wide @ wide.mT)
        found = _values(library, given, triangular)
        if found is None or not torch.allclose(found, wanted, rtol=0, atol=1e-13 * float(wanted.max())):
            raise ValueError("gram.c finds other eigenvalues than LAPACK")


# The first error alone, which names what the processor lacks.
NATIVE = Library("gram.c", _check, package="assay.probes", flags=(*native.FLAGS, "-Wfatal-errors"))
"""The C kernel; compiled when first needed."""
