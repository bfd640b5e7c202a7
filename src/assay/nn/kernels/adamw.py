"""AdamW and the norm of gradients over whole lists of tensors, each in one call (`adamw.c`).

Float32 on a CPU. Whoever calls asks `why_not` first, and has torch's own operators for everything else.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor

from assay.nn.kernels.native import Library

__all__ = ["NATIVE", "adamw_step", "norm_of", "why_not"]

SHARE = 1 << 15
"""Elements that a thread must have before a second one is worth waking."""


def why_not(*lists: Sequence[Tensor]) -> str | None:
    """Why torch's own operators serve these tensors; None where the C kernels do."""
    for t in chain(*lists):
        if t.dtype is not torch.float32 or not t.is_cpu or t.layout is not torch.strided or not t.is_contiguous():
            return f"{t.dtype}, {t.layout}, strides {t.stride()} on {t.device}"
    return None if NATIVE.load() is not None else NATIVE.reason


def norm_of(tensors: Sequence[Tensor]) -> float:
    """The Euclidean norm of all elements of all tensors, summed in float64."""
    assert NATIVE.handle is not None
    table, sizes = _table(tensors), _sizes(tensors)
    found = float(NATIVE.handle.norm_of(len(tensors), _at(table), _at(sizes), _threads(sizes)))
    if found < 0:
        raise MemoryError("no memory for the sums of a norm")
    return found


def adamw_step(
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor],
    first: Sequence[Tensor],
    second: Sequence[Tensor],
    steps: Sequence[Tensor],
    *,
    learning_rate: float,
    betas: tuple[float, float],
    eps: float,
    decay: float,
    factor: float = 1.0,
) -> None:
    """One step of AdamW (Loshchilov & Hutter 2019), in place.

    Args:
        parameters, gradients: of equal shapes.
        first, second: exponential averages of gradients and of their squares.
        steps: one scalar a parameter, the steps done; raised by one.
        learning_rate, betas, eps, decay: AdamW's.
        factor: what gradients are multiplied by as they are read; they stay as they are.
    """
    assert NATIVE.handle is not None
    table, sizes = _table(parameters, gradients, first, second, steps), _sizes(parameters)
    NATIVE.handle.adamw(
        len(parameters), _at(table), _at(sizes), learning_rate, *betas, eps, decay, factor, _threads(sizes)
    )  # fmt: skip
    # What autograd has saved of a weight must not pass for the weight after the step.
    torch.autograd.graph.increment_version(parameters)


def _table(*lists: Sequence[Tensor]) -> array[int]:
    return array("q", [t.data_ptr() for t in chain(*lists)])


def _sizes(tensors: Sequence[Tensor]) -> array[int]:
    return array("q", [t.numel() for t in tensors])


def _at(values: array[int]) -> int:
    return values.buffer_info()[0]


def _threads(sizes: array[int]) -> int:
    return max(1, min(torch.get_num_threads(), sum(sizes) // SHARE)) if NATIVE.threads else 1


def _check(library: ctypes.CDLL) -> None:
    """Set signatures, and compare a small case with the formulas."""
    address, long, number, flag = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double, ctypes.c_int
    library.norm_of.argtypes, library.norm_of.restype = [long, address, address, flag], number
    library.adamw.argtypes, library.adamw.restype = [long, address, address, *[number] * 6, flag], None
    draw = torch.Generator().manual_seed(0)
    shapes = [(37,), (8, 16), (), (0,)]
    with torch.no_grad():
        p, g, m, v = ([torch.randn(shape, generator=draw) for shape in shapes] for _ in range(4))
        v = [t.square() for t in v]
        steps = [torch.tensor(3.0) for _ in shapes]
        wanted = []
        for weight, slope, one, two in zip(p, [t / 2 for t in g], m, v, strict=True):
            one, two = 0.9 * one + 0.1 * slope, 0.95 * two + 0.05 * slope.square()
            change = (one / (1 - 0.9**4)) / ((two / (1 - 0.95**4)).sqrt() + 1e-8)
            wanted.append((weight * (1 - 0.01 * 0.1) - 0.01 * change, one, two))
        before, NATIVE.handle = NATIVE.handle, library
        try:
            size = norm_of(g)
            adamw_step(p, g, m, v, steps, learning_rate=0.01, betas=(0.9, 0.95), eps=1e-8, decay=0.1, factor=0.5)
        finally:
            NATIVE.handle = before
    found = [*p, *m, *v, *steps, torch.tensor(size)]
    right = [
        *(t for column in zip(*wanted, strict=True) for t in column),
        *[torch.tensor(4.0)] * len(steps),
        torch.cat([t.flatten() for t in g]).norm(),
    ]
    if not all(torch.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in zip(found, right, strict=True)):
        raise ValueError("adamw.c computes something else than torch")


NATIVE = Library("adamw.c", _check)
"""The C kernels; compiled when first needed."""
