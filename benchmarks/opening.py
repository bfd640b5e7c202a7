"""Opening a checkpoint of 538 MB (SmolLM2-135M's shape, float32, safetensors): assay.load and from_pretrained.

    python -m benchmarks.opening [--seconds 20] [--json FILE]

Times, in one process and interleaved, are until every weight has been read once: a mapped file is opened in no time
and read later. The limit is reading the file's bytes into memory that exists. Memory is the peak of the process (its
high-water mark, mapped pages that were touched included) over what it held before, in a fresh process each, over the
file's size. The file is in the page cache.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from benchmarks import measure
from benchmarks.command import command_line
from benchmarks.result import Check, Result, Row, Spread
from benchmarks.rows import limit_row, of_times

__all__ = ["MEMORY", "suite"]


def _read(parameters: Any) -> float:
    """Every weight, once."""
    return sum(float(p.sum()) for p in parameters)


def assay_open(folder: str) -> float:
    import assay

    return _read(assay.load(folder).transformer.parameters())


def transformers_open(folder: str) -> float:
    from transformers import AutoModelForCausalLM

    with torch.no_grad():
        return _read(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).parameters())


WAYS: dict[str, Callable[[str], float]] = {"assay": assay_open, "transformers": transformers_open}

MEMORY = """
import sys, torch, transformers, assay
from benchmarks.opening import WAYS
from transformers import AutoModelForCausalLM, LlamaForCausalLM
import assay.published.load
def now(name):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(name))
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the high-water mark starts here
before = now("VmRSS:")
with torch.no_grad():
    WAYS[sys.argv[1]](sys.argv[2])
print(now("VmHWM:") - before)
"""
"""Bytes at the peak over what was held before, printed by a process of its own."""


def peaks_of(ways: Iterable[str], folder: str) -> tuple[dict[str, float], dict[str, str]]:
    """Bytes, by processes that run side by side; of those that fail, or where the kernel does not tell, why."""
    words = [sys.executable, "-W", "ignore", "-c", MEMORY]
    pipe = subprocess.PIPE
    going = {way: subprocess.Popen([*words, way, folder], stdout=pipe, stderr=pipe, text=True) for way in ways}
    peaks, unknown = {}, {}
    for way, process in going.items():
        said, error = process.communicate()
        if process.returncode:
            unknown[way] = (error.strip().splitlines() or ["it ended without a word"])[-1]
        else:
            peaks[way] = float(said.split()[-1])
    return peaks, unknown


def suite(seconds: float, long: bool, *, shape: str = "135m") -> list[Result]:
    """The row of the suite."""
    from assay.generation.build import build
    from assay.spec.model import ModelSpec
    from benchmarks.decode import SHAPES, reference

    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        reference(build(ModelSpec.from_dict(SHAPES[shape]))).save_pretrained(folder)
        file = Path(folder) / "model.safetensors"
        size = file.stat().st_size
        with torch.no_grad():
            read = {who: way(folder) for who, way in WAYS.items()}
            times = measure.interleave({w: (lambda f=f: f(folder)) for w, f in WAYS.items()}, seconds, 1, 3)  # type: ignore[misc]
        buffer = bytearray(size)

        def raw() -> None:
            with file.open("rb", buffering=0) as opened:
                view, done = memoryview(buffer), 0
                while done < size:
                    done += opened.readinto(view[done:])  # type: ignore[arg-type]

        least = measure.best_time(raw, 0.5, 3)
        del buffer
        bytes_held, unknown = peaks_of(WAYS, folder)
    peaks = {who: held / size for who, held in bytes_held.items()}
    out = Result(
        "opening", f"Opening a checkpoint of {size / 1e6:.0f} MB", "loading",
        "safetensors, float32, LLaMA-like, until every weight is read once; the file is in the page cache", "ms",
        limit="reading the file's bytes into memory that exists", rounds=len(times["assay"]),
    )  # fmt: skip
    out.rows = [*of_times(times, "assay", limit=least), limit_row("read()", 1e3 * least)]
    gap = abs(read["assay"] - read["transformers"]) / abs(read["transformers"])
    out.checks = [Check("sum of all weights", gap, 1e-3)]
    out.aim_at("transformers", 1.0)
    used = Spread(peaks["assay"], peaks["assay"], peaks["assay"]) if "assay" in peaks else None
    out.aim("of the file's bytes at the peak", 1.1, used, at_most=True)
    for who, value in peaks.items():
        out.notes.append(f"Memory at the peak, {who}: {value:.3f} of the file's size.")
    out.rows += [Row(f"{who}, memory", "other", cannot=reason or "unknown") for who, reason in unknown.items()]
    return [out]


if __name__ == "__main__":
    command_line(__doc__ or "", suite, seconds=20.0)
