"""The compiled `step.c`, and the operations that it reads."""

from __future__ import annotations

import ctypes

import torch

from assay.nn.kernels.native import Library
from assay.runs import processor

FLAGS = ("-O3", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC", "-std=gnu11")
BLOCKED = ("-DBLOCKED=24",) if processor.is_intel() else ()
"""With registers of sixteen floats: an Intel processor gained a quarter by blocks (`products.h`), one of AMD's loses as
much (`docs/log.md`). By the maker and not by timing, so that a machine always sums in the same order."""
MOST_ROWS = 256
"""Rows of one step; above, products are bound by arithmetic and the library's are as good."""

Int, Long, Float, Address = ctypes.c_int32, ctypes.c_int64, ctypes.c_float, ctypes.c_void_p


class Op(ctypes.Structure):
    """One operation, as `program.h` says it."""

    _fields_ = (
        *((name, Int) for name in ("kind", "mode", "n", "size", "heads", "kv_heads", "window", "flag")),
        ("seg_rows", Int * 3),
        ("capacity", Int),
        ("each", Int),
        ("unused", Int),
        *((name, Float) for name in "abcd"),
        ("step", Long),
        *((name, Address) for name in ("src", "src2", "bias_table", "cos", "sin")),
        ("w", Address * 3),
        ("bias", Address * 3),
        ("dst", Address * 3),
        *((name, Address) for name in ("k", "v", "index", "span")),
    )


def _check(loaded: ctypes.CDLL) -> None:
    """Set signatures; refuse a library that lays an operation out in another way, or whose products are wrong."""
    for name in ("op_size", "most_rows"):
        getattr(loaded, name).restype = ctypes.c_int
    if loaded.op_size() != ctypes.sizeof(Op):
        raise OSError(f"an operation has {loaded.op_size()} bytes there and {ctypes.sizeof(Op)} here")
    if loaded.most_rows() != MOST_ROWS:
        raise OSError(f"a step has {loaded.most_rows()} rows there and {MOST_ROWS} here")
    loaded.open_program.restype = Address
    loaded.open_program.argtypes = (Address, *(ctypes.c_int,) * 3, Long, Address, Address)
    loaded.step_program.restype = None
    loaded.step_program.argtypes = (Address, Address, Long)
    loaded.reorder_program.restype = None
    loaded.reorder_program.argtypes = (Address, Address, Address)
    loaded.close_program.restype = None
    loaded.close_program.argtypes = (Address,)
    loaded.product_of.restype = None
    loaded.product_of.argtypes = (*(Address,) * 3, *(ctypes.c_int,) * 3, Address)
    loaded.top_of_rows.restype = None
    loaded.top_of_rows.argtypes = (Address, Long, Long, ctypes.c_int, Address, Address)
    for rows in (1, 3, 14, 17, 40):
        w, x = torch.linspace(-1, 1, 21 * 50).view(21, 50), torch.linspace(-2, 1, rows * 50).view(rows, 50)
        if not torch.allclose(_product(loaded, x, w), x @ w.t(), atol=1e-4):
            raise OSError(f"a product of {rows} rows is wrong")


def product(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """X W^T as the step computes it, by one thread; for comparisons. Raises AssertionError without a library."""
    loaded = STEP.load()
    assert loaded is not None, STEP.reason
    return _product(loaded, x, w)


def _product(loaded: ctypes.CDLL, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    x, w = x.contiguous(), w.contiguous()
    y, panel = x.new_empty(len(x), len(w)), x.new_empty(x.shape[1] * (-(-len(x) // 16) * 16))
    loaded.product_of(w.data_ptr(), x.data_ptr(), panel.data_ptr(), x.shape[1], len(x), len(w), y.data_ptr())
    return y


STEP = Library("step.c", _check, package="assay.generation.native", flags=FLAGS + BLOCKED, openmp=False)
"""Its threads are its own: they claim chunks, where OpenMP's wait for each other at barriers."""
