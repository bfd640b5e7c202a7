"""How long `import assay` and `assay --help` take, beside `import torch`: whole processes, interleaved.

    python -m benchmarks.start [--seconds 20] [--json FILE]

Every process pays for Python itself; its own row says how much that is, and it is not taken off.
"""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks.command import command_line
from benchmarks.result import Check, Result, Row, Spread, pairwise

WAYS = {
    "import assay": ["-c", "import assay"],
    "assay --help": ["-m", "assay", "--help"],
    "import torch": ["-c", "import torch"],
    "import transformers": ["-c", "import transformers"],
    "Python alone": ["-c", "pass"],
}


def took(words: list[str]) -> float:
    """Seconds of one process. Raises RuntimeError where it fails."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()[-300:]}")
    return time.perf_counter() - began


def suite(seconds: float, long: bool) -> list[Result]:
    """The row of the suite."""
    for words in WAYS.values():
        took(words)  # files in the page cache, bytecode written
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    end = time.perf_counter() + seconds
    while len(times["import torch"]) < 3 or time.perf_counter() < end:
        for name, words in WAYS.items():
            times[name].append(took(words))
    out = Result(
        "start", "import assay, assay --help", "loading", "whole processes, files in the page cache", "ms",
        rounds=len(times["import torch"]),
    )  # fmt: skip
    kinds = {"import torch": "peer", "import transformers": "peer", "Python alone": "limit"}
    for name, values in times.items():
        kind = kinds.get(name, "assay")
        ratio = pairwise(times["import assay"], values) if kind == "peer" or name == "assay --help" else None
        out.rows.append(Row(name, kind, Spread.of(values).times(1e3), ratio, note="" if kind != "limit" else "bare"))
    for name, goal in (("import assay", 0.1), ("assay --help", 0.25)):
        out.aim(
            f"of the time of import torch, {name}", goal, pairwise(times["import torch"], times[name]), at_most=True
        )
    loaded = "import sys, assay; sys.exit('torch' in sys.modules)"
    heavy = subprocess.run([sys.executable, "-c", loaded], check=False).returncode
    out.checks = [Check("import assay loads no torch", float(heavy), 0.0)]
    return [out]


if __name__ == "__main__":
    command_line(__doc__ or "", suite, seconds=20.0)
