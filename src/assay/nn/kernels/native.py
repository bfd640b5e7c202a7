"""C kernels, compiled at first use by the system's compiler and kept in the cache; without one, eager torch serves.

A source file lies in the package that uses it. What is compiled is kept under the hash of source, flags, compiler and
processor, believed only where its checksum holds, and used only after its results on a small input have been
compared with eager's. The OpenMP runtime is the one that torch has loaded, so that there is one pool of threads.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path

import torch

from assay.data.cache import cached_bytes
from assay.runs import processor

__all__ = ["Library", "status", "threads", "why_not"]

FLAGS = ("-O2", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC", "-std=gnu11", "-w")
NATIVE = {"x86_64": ("-march=native", "-mprefer-vector-width=512"), "aarch64": ("-mcpu=native",)}
"""By machine; tried first, left out where the compiler does not know them."""

SHARE = 1 << 15
"""Elements that a thread must have before a second one is worth waking."""

_LIBRARIES: dict[str, Library] = {}


def status() -> dict[str, str]:
    """Of every C source tried in this process: `ok`, or why eager torch does its work."""
    return {name: library.reason or "ok" for name, library in _LIBRARIES.items() if library.tried}


def why_not(library: Library, *tensors: torch.Tensor) -> str | None:
    """Why torch's own operators serve these tensors; None where `library` does: float32 on a CPU, run as written."""
    if torch.compiler.is_compiling():
        return "inductor fuses it with its neighbours"
    for t in tensors:
        if t.dtype is not torch.float32 or t.device.type != "cpu" or type(t) not in (torch.Tensor, torch.nn.Parameter):
            return f"{type(t).__name__} of {t.dtype} on {t.device}"
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return "under a functorch transform"
    if library.load() is None:
        return library.reason
    return None if library.threads or torch.get_num_threads() == 1 else "compiled without threads"


def threads(work: int) -> int:
    """How many threads share work on so many elements."""
    return max(1, min(torch.get_num_threads(), work // SHARE))


class Library:
    """One C source; `load()` compiles, loads and checks it once a process."""

    def __init__(
        self,
        source: str,
        check: Callable[[ctypes.CDLL], None],
        *,
        package: str = "assay.nn.kernels",
        flags: Sequence[str] = FLAGS,
        openmp: bool = True,
    ) -> None:
        """Args: source: file name in `package`; check: sets signatures and raises where results are wrong.

        flags: for the compiler; openmp: the source has parallel loops (else it brings its threads, or has none).
        """
        self.source, self.check = source, check
        self.package, self.flags, self.openmp = package, tuple(flags), openmp
        self.tried, self.reason = False, ""
        self.refused = ""  # why the build before the one that serves does not: it is then the slower, generic one
        self.handle: ctypes.CDLL | None = None
        self.threads = False
        self._lock = threading.Lock()
        _LIBRARIES[source] = self

    def load(self) -> ctypes.CDLL | None:
        """The loaded library, or None; `reason` then says why."""
        if not self.tried:
            with self._lock:
                if not self.tried:
                    self.handle, self.reason = self._load()
                    self.tried = True
        return self.handle

    def _load(self) -> tuple[ctypes.CDLL | None, str]:
        if os.environ.get("ASSAY_NATIVE") == "0":
            return None, "ASSAY_NATIVE=0"
        compiler = (
            shlex.split(os.environ.get("CC", ""))
            or [found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))][:1]
        )
        if os.name != "posix" or not compiler:
            return None, "no C compiler found; install gcc"
        code = _read(self.package, self.source)
        reason = ""
        here = processor.name(), sorted(processor.features())
        for command, link in _commands([*compiler, *self.flags], self.openmp):
            key = hashlib.sha256(repr((code, command, bool(link), here)).encode()).hexdigest()[:32]
            try:
                binary = cached_bytes("native", key, partial(_compile, command, link, code))
                handle = _open(binary)
                self.threads = self.openmp and bool(handle.openmp())
                self.check(handle)
            except (OSError, ValueError, AttributeError, subprocess.SubprocessError) as error:
                reason = f"{type(error).__name__}: {error}"
                continue
            self.refused = reason
            return handle, ""
        return None, f"{compiler[0]}: {reason}"[:300]


def _read(package: str, source: str) -> str:
    """A source with the headers that it includes, its package's or this one's, pasted in: one text to compile."""

    def paste(found: re.Match[str]) -> str:
        own = files(package).joinpath(found[1]).is_file()
        return _read(package if own else "assay.nn.kernels", found[1])

    code = files(package).joinpath(source).read_text(encoding="utf-8")
    return re.sub(r'^#include "(.+)"$', paste, code, flags=re.MULTILINE)


def _commands(compiler: list[str], openmp: bool) -> list[tuple[list[str], list[str]]]:
    """(compile command, what to link) to try in order: with threads before without, native before generic."""
    machine = {"arm64": "aarch64"}.get(platform.machine(), platform.machine())
    runtime = _openmp_of_torch() if openmp else None
    tries = []
    for native in dict.fromkeys((NATIVE.get(machine, ()), ())):
        if runtime:
            tries.append(([*compiler, *native, "-fopenmp"], [runtime]))
        tries.append(([*compiler, *native], []))
    return tries


def _openmp_of_torch() -> str | None:
    """The GNU OpenMP runtime that torch has brought along; None where it has another."""
    folder = Path(torch.__file__).parent
    found = sorted([*folder.glob("lib/libgomp*.so*"), *folder.glob("../torch.libs/libgomp*.so*")])
    return str(found[0]) if found else None


def _compile(command: list[str], link: list[str], code: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="assay-") as folder:
        source, thing, out = (str(Path(folder, name)) for name in ("kernel.c", "kernel.o", "kernel.so"))
        Path(source).write_text(code, encoding="utf-8")
        # Linked apart from compiling: with -fopenmp the linker would take the system's runtime, a second pool.
        steps = [
            [*(part for part in command if part != "-shared"), "-c", source, "-o", thing],
            [*(part for part in command if part != "-fopenmp"), thing, *link, "-o", out, "-lm", "-lpthread"],
        ]
        for step in steps:
            done = subprocess.run(step, capture_output=True, text=True, timeout=120, check=False)
            if done.returncode:
                raise subprocess.SubprocessError(done.stderr.strip()[-200:] or f"status {done.returncode}")
        return Path(out).read_bytes()


def _open(binary: bytes) -> ctypes.CDLL:
    with tempfile.TemporaryDirectory(prefix="assay-") as folder:
        path = Path(folder, "kernel.so")
        path.write_bytes(binary)
        return ctypes.CDLL(str(path))  # stays mapped after the file is gone
