"""What `assay doctor` finds out. Each finding is a sentence, whether it is fine, and its facts as data."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from typing import Any

from assay.cli.numbers import flops
from assay.report.format import memory
from assay.runs import processor

__all__ = ["compiler", "examine"]

EXTRAS = {
    "gguf": "gguf",
    "sentencepiece": "sentencepiece",
    "eval": "lm_eval",
    "ray": "ray",
    "tensorboard": "tensorboard",
    "datasets": "datasets",
    "peft": "peft",
}
"""Extra of the package to the module it brings."""

FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve")
"""Instruction sets that decide how fast products are."""

PROBE_SECONDS = 120
PROBE = """
import torch
f = torch.compile(lambda x: torch.nn.functional.gelu(x) * 2 + 1)
x = torch.arange(64.0)
assert torch.allclose(f(x), torch.nn.functional.gelu(x) * 2 + 1)
"""
LITTLE_DISK = 2 << 30

Finding = dict[str, Any]


def examine(*, fresh: bool = False) -> dict[str, Finding]:
    """Everything that `assay doctor` says, by topic."""
    return {
        "python": found(f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"),
        "processor": _processor(),
        "torch": _torch(),
        "accelerator": _accelerator(),
        "compiler": _compiled(fresh),
        "speed": _speed(),
        "extras": _extras(),
        "cache": _cache(),
        "disk": _disk(),
    }


def found(said: str, fine: bool = True, **facts: Any) -> Finding:
    """A finding."""
    return {"said": said, "fine": fine, **facts}


def _processor() -> Finding:
    import torch

    features = [known for known in FEATURES if known in processor.features()]
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    name = processor.name()
    return found(
        f"{name}, {usable} core{'s' * (usable != 1)}, {', '.join(features) or 'no vector features known'}; "
        f"torch uses {torch.backends.cpu.get_cpu_capability()}",
        name=name,
        cores=usable,
        features=features,
    )


def _torch() -> Finding:
    import torch

    return found(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads",
        version=torch.__version__,
        threads=torch.get_num_threads(),
    )


def _accelerator() -> Finding:
    import torch

    if torch.cuda.is_available():
        devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        names = [f"{device.name} ({memory(device.total_memory)})" for device in devices]
        return found(", ".join(names), devices=names, kind="cuda")
    if torch.backends.mps.is_available():
        return found("Apple GPU (mps)", devices=["mps"], kind="mps")
    return found("none: everything runs on the processor, in float32", devices=[], kind=None)


def compiler() -> str | None:
    """The C++ compiler that torch.compile would call, or None."""
    wanted = os.environ.get("CXX")
    return next((path for name in (wanted, "g++", "clang++", "c++") if name and (path := shutil.which(name))), None)


def _compiled(fresh: bool) -> Finding:
    path = compiler()
    if path is None:
        return found(
            "no C++ compiler: narrow models, which gain by being compiled, run eager. Install one (Debian: apt install "
            "g++; macOS: xcode-select --install)",
            fine=False,
            path=None,
            compiles=False,
        )
    outcome = _probe(path, fresh)
    if outcome["error"] is None:
        said = f"{path}; torch.compile works (first compile {outcome['seconds']:.0f} s)"
    else:
        said = f"{path}, but torch.compile fails: {outcome['error']}. Models run eager."
    return found(said, outcome["error"] is None, path=path, compiles=outcome["error"] is None, **outcome)


def _probe(path: str, fresh: bool) -> dict[str, Any]:
    """Compile something in a process of its own; the outcome is remembered for this torch and this compiler."""
    import torch

    from assay.data.cache import cache_dir, write_atomic

    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    key = hashlib.sha256(f"{torch.__version__} {sys.version} {path} {version}".encode()).hexdigest()[:16]
    remembered = cache_dir() / "doctor" / f"{key}.json"
    if not fresh:
        try:
            outcome: dict[str, Any] = json.loads(remembered.read_text(encoding="utf-8"))
            return outcome
        except (OSError, ValueError):
            pass
    start, error = time.perf_counter(), None
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROBE],
            capture_output=True,
            text=True,
            timeout=PROBE_SECONDS,
            check=False,
            env={**os.environ, "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"},
        )
        if done.returncode:
            error = ([line for line in done.stderr.splitlines() if line.strip()] or ["it ended without a word"])[-1]
    except subprocess.TimeoutExpired:
        error = f"no result within {PROBE_SECONDS} s"
    outcome = {"error": error, "seconds": time.perf_counter() - start}
    with contextlib.suppress(OSError):  # then it is tried again next time
        write_atomic(remembered, json.dumps(outcome).encode())
    return outcome


def _speed() -> Finding:
    import torch

    threads = torch.get_num_threads()
    rates = {}
    try:
        for number in dict.fromkeys((1, threads)):
            torch.set_num_threads(number)
            rates[number] = _matmul_rate()
    finally:
        torch.set_num_threads(threads)
    bandwidth = _bandwidth()
    measured = ", ".join(f"{flops(rate)}/s on {n} thread{'s' * (n != 1)}" for n, rate in rates.items())
    return found(
        f"float32 matrix product {measured}; memory {memory(bandwidth)}/s",
        matmul_flops_per_second={str(number): rate for number, rate in rates.items()},
        memory_bytes_per_second=bandwidth,
    )


def _matmul_rate(size: int = 1024, seconds: float = 0.3) -> float:
    """FLOPs a second of a square float32 product: the best of what fits into `seconds`."""
    import torch

    a, b = torch.randn(size, size), torch.randn(size, size)
    out = a @ b
    best, begin = float("inf"), time.perf_counter()
    while time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        torch.mm(a, b, out=out)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def _bandwidth(megabytes: int = 128, seconds: float = 0.3) -> float:
    """Bytes a second of a copy, read and written both counted: the best of what fits into `seconds`."""
    import torch

    source = torch.zeros(megabytes << 18)
    target = torch.empty_like(source)
    best, begin = float("inf"), time.perf_counter()
    while time.perf_counter() - begin < seconds or best == float("inf"):
        start = time.perf_counter()
        target.copy_(source)
        best = min(best, time.perf_counter() - start)
    return 2 * source.numel() * source.element_size() / best


def _extras() -> Finding:
    there = [name for name, module in EXTRAS.items() if find_spec(module)]
    missing = [name for name in EXTRAS if name not in there]
    said = f"installed: {', '.join(there) or 'none'}"
    if missing:
        said += f"; not needed so far: {', '.join(missing)} (pip install 'assay[{missing[0]}]' and so on)"
    return found(said, installed=there, missing=missing)


def _cache() -> Finding:
    from assay.data.cache import cache_dir

    folder = cache_dir()
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else 0
    parent = next(path for path in (folder, *folder.parents) if path.exists())
    writable = os.access(parent, os.W_OK)
    said = f"{folder} ({memory(size)})"
    if not writable:
        said += "; it cannot be written: set ASSAY_CACHE to a folder that can"
    return found(said, writable, folder=str(folder), bytes=size)


def _disk() -> Finding:
    free = shutil.disk_usage(".").free
    little = free < LITTLE_DISK
    said = f"{memory(free)} free here" + ("; that is little for checkpoints: free some, or use another --out" * little)
    return found(said, not little, free_bytes=free)
