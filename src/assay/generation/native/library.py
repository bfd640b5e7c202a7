"""The compiled `step.c`: made on first use, kept in the cache by its source, flags and processor."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from functools import lru_cache, partial
from importlib.resources import files
from pathlib import Path

from assay.data.cache import cached_bytes

FLAGS = ("-O3", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC", "-std=gnu11")
NATIVE = {"x86_64": ("-march=native", "-mprefer-vector-width=512"), "aarch64": ("-mcpu=native",)}

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


@lru_cache(maxsize=1)
def library() -> tuple[ctypes.CDLL | None, str]:
    """The library, or None and the reason why there is none. Tried once a process."""
    if os.environ.get("ASSAY_NATIVE") == "0":
        return None, "ASSAY_NATIVE=0"
    compiler = (
        shlex.split(os.environ.get("CC", ""))
        or [found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))][:1]
    )
    if os.name != "posix" or not compiler:
        return None, "no C compiler found; install gcc"
    source = files("assay.generation.native").joinpath("step.c").read_text(encoding="utf-8")
    arch = {"arm64": "aarch64"}.get(platform.machine(), platform.machine())
    reason = ""
    for native in (NATIVE.get(arch, ()), ()):
        command = [*compiler, *FLAGS, *native]
        key = hashlib.sha256(repr((source, command, processor())).encode()).hexdigest()[:32]
        try:
            return _load(cached_bytes("native", key, partial(_compile, command, source))), ""
        except (OSError, subprocess.SubprocessError) as error:
            reason = str(error)
    return None, f"{compiler[0]} did not compile it ({reason})"


def processor() -> str:
    """What tells this processor's instructions from others'."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return "\n".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))


def _compile(command: list[str], source: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="assay-") as folder:
        code, out = Path(folder, "step.c"), Path(folder, "step.so")
        code.write_text(source, encoding="utf-8")
        done = subprocess.run(
            [*command, str(code), "-o", str(out), "-lm", "-lpthread"],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        if done.returncode:
            raise subprocess.SubprocessError(done.stderr.strip()[-300:] or f"status {done.returncode}")
        return out.read_bytes()


def _load(content: bytes) -> ctypes.CDLL:
    with tempfile.TemporaryDirectory(prefix="assay-") as folder:
        path = Path(folder, "step.so")
        path.write_bytes(content)
        loaded = ctypes.CDLL(str(path))  # stays mapped after the file is gone
    loaded.op_size.restype = ctypes.c_int
    if loaded.op_size() != ctypes.sizeof(Op):
        raise OSError(f"an operation has {loaded.op_size()} bytes there and {ctypes.sizeof(Op)} here")
    loaded.open_program.restype = Address
    loaded.open_program.argtypes = (Address, ctypes.c_int, ctypes.c_int, Address, Long)
    loaded.step_program.restype = None
    loaded.step_program.argtypes = (Address, Long, Long)
    loaded.close_program.restype = None
    loaded.close_program.argtypes = (Address,)
    return loaded
