"""-log softmax at targets, with its gradient written over the logits, by a C kernel (`cross_entropy.c`)."""

from __future__ import annotations

import ctypes

import torch
from jaxtyping import Float, Int
from torch import Tensor

from assay.nn.kernels import native
from assay.nn.kernels.native import Library

__all__ = ["NATIVE", "nats_at", "why_not"]


def why_not(logits: Tensor, *more: Tensor) -> str | None:
    """Why torch's own operators serve; None where the kernel does."""
    return native.why_not(NATIVE, logits, *more) if logits.is_contiguous() else "not contiguous"


def nats_at(
    logits: Float[Tensor, "n vocabulary"], targets: Int[Tensor, " n"], weight: Float[Tensor, " n"] | None, z_loss: float
) -> Float[Tensor, " n"]:
    """The nats + z_loss log^2 Z of every row, unweighted; ask `why_not` first.

    Args:
        logits: become the gradient of the weighted sum where `weight` is given; else they stay.
        targets: token ids.
        weight: of every row in the gradient.
        z_loss: weight of the squared log-partition.

    Raises:
        IndexError: a target that is no column.
    """
    assert NATIVE.handle is not None
    targets, weight = targets.contiguous(), None if weight is None else weight.contiguous()
    rows, columns = logits.shape
    assert targets.dtype is torch.int64 and targets.shape == (rows,)
    assert weight is None or weight.shape == (rows,)
    nats = logits.new_empty(rows)
    wrong = NATIVE.handle.cross_entropy(
        logits.data_ptr(), targets.data_ptr(), None if weight is None else weight.data_ptr(), nats.data_ptr(), rows,
        columns, z_loss, native.threads(logits.numel()),
    )  # fmt: skip
    if wrong:
        raise IndexError(f"a target is not in 0 ... {columns - 1}, where the vocabulary ends")
    return nats


def _check(library: ctypes.CDLL) -> None:
    """Set signatures, and compare a small case with the formulas."""
    address, long, number, flag = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float, ctypes.c_int
    library.cross_entropy.argtypes = [address, address, address, address, long, long, number, flag]
    draw = torch.Generator().manual_seed(0)
    logits, weight = 3 * torch.randn(3, 37, generator=draw), torch.rand(3, generator=draw)
    targets, rows = torch.tensor([0, 36, 17]), torch.arange(3)
    with torch.no_grad():
        log_z = torch.logsumexp(logits, -1)
        wanted = log_z - logits[rows, targets] + 0.1 * log_z.square()
        slope = torch.softmax(logits, -1) * (weight * (1 + 0.2 * log_z))[:, None]
        slope[rows, targets] -= weight
        before, NATIVE.handle = NATIVE.handle, library
        try:
            plain, found = nats_at(logits, targets, None, 0.1), nats_at(logits, targets, weight, 0.1)
        finally:
            NATIVE.handle = before
    pairs = ((plain, wanted), (found, wanted), (logits, slope))
    if not all(torch.allclose(one, other, rtol=1e-5, atol=1e-6) for one, other in pairs):
        raise ValueError("cross_entropy.c computes something else than torch")


NATIVE = Library("cross_entropy.c", _check)
"""The C kernel; compiled when first needed."""
