"""The compiled `step.c`, and the operations that it reads."""

from __future__ import annotations

import ctypes

from assay.nn.kernels.native import Library

FLAGS = ("-O3", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC", "-std=gnu11")

Int, Long, Float, Address = ctypes.c_int32, ctypes.c_int64, ctypes.c_float, ctypes.c_void_p


class Op(ctypes.Structure):
    """One operation, as `step.c` reads it."""

    _fields_ = (
        *((name, Int) for name in ("kind", "mode", "n", "rows", "heads", "kv_heads", "window", "flag")),
        ("seg_rows", Int * 3),
        ("capacity", Int),
        ("each", Int),
        ("unused", Int),
        *((name, Float) for name in "abcd"),
        *((name, Address) for name in ("src", "src2", "bias_table", "cos", "sin")),
        ("w", Address * 3),
        ("bias", Address * 3),
        ("dst", Address * 3),
        *((name, Address) for name in ("k", "v", "index")),
    )


def _check(loaded: ctypes.CDLL) -> None:
    """Set signatures; refuse a library that lays an operation out in another way."""
    loaded.op_size.restype = ctypes.c_int
    if loaded.op_size() != ctypes.sizeof(Op):
        raise OSError(f"an operation has {loaded.op_size()} bytes there and {ctypes.sizeof(Op)} here")
    loaded.open_program.restype = Address
    loaded.open_program.argtypes = (Address, ctypes.c_int, ctypes.c_int, Address, Long)
    loaded.step_program.restype = None
    loaded.step_program.argtypes = (Address, Long, Long)
    loaded.close_program.restype = None
    loaded.close_program.argtypes = (Address,)


STEP = Library("step.c", _check, package="assay.generation.native", flags=FLAGS, openmp=False)
"""Its threads are its own: they claim chunks, where OpenMP's wait for each other at barriers."""
