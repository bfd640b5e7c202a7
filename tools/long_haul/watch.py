"""A training process seen from outside: its memory and its steps, said every half minute, and its end in time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from assay.runs import RunFolder
from assay.studies.tail import Tail

ROOT = Path(__file__).parents[2]
MODEL: tuple[str, ...] = ("tiny", "--set", "train.compile=false")
"""What is trained, as `assay train` takes it."""
SAID = 30.0
"""Seconds between two lines."""
SAVING = 60.0
"""Seconds that a process has for its checkpoint when it is asked to end."""


class Sample(NamedTuple):
    """One look at a process."""

    at: float
    """Seconds since the watch began."""
    resident: int
    anonymous: int
    """Bytes, of all of it and of what belongs to no file."""


@dataclass
class Seen:
    """What a watch saw."""

    samples: list[Sample] = field(default_factory=list)
    last: dict[str, Any] = field(default_factory=dict)
    """The newest row of a step."""
    seconds: float = 0.0
    cpu: float = 0.0
    """Seconds of processor time that the process had had at the last look."""
    ended: str = ""
    """Why it was ended from outside: "interrupted", "late", or "in time" where that was meant; empty: by itself."""

    @property
    def step(self) -> int:
        """Steps done."""
        return int(self.last.get("step", 0))


def launch(run: RunFolder, threads: int, *more: str) -> subprocess.Popen[bytes]:
    """`assay train` in a process of its own.

    A process group of its own, so that Ctrl-C reaches its parent alone, and the same session: what priority a shell was
    given holds for it too.
    """
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return subprocess.Popen(
        [sys.executable, "-m", "assay", "train", *MODEL, "--out", str(run.path), *more],
        env={**os.environ, **dict.fromkeys(names, str(threads))},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=None,
        cwd=ROOT,
        process_group=0,
    )


def watch(process: subprocess.Popen[bytes], run: RunFolder, *, what: str, total: int, limit: float) -> Seen:
    """Watch a process to its end, and say every half minute how far it is.

    Args:
        process: of `launch`.
        run: what it does.
        what: begins each line.
        total: steps.
        limit: seconds after which it is asked to end; so it is at Ctrl-C.
    """
    seen, tail = Seen(), Tail(run.path / "metrics.jsonl")
    began = time.monotonic()
    said, tokens = began, 0
    try:
        while process.poll() is None:
            now = time.monotonic()
            seen.seconds = now - began
            _look(process.pid, seen)
            seen.last = next((row for row in reversed(tail.rows()) if row["kind"] == "train"), seen.last)
            if now - said >= SAID:
                done = int(seen.last.get("input_tokens", 0))
                print(line(what, seen, total, (done - tokens) / (now - said)), flush=True)
                said, tokens = now, done
            if seen.seconds > limit:
                seen.ended = "late"
                break
            time.sleep(min(1.0, limit / 100))
    except KeyboardInterrupt:
        seen.ended = "interrupted"
    if process.poll() is None:
        end(process)
    seen.seconds = time.monotonic() - began
    seen.last = next((row for row in reversed(tail.rows()) if row["kind"] == "train"), seen.last)
    return seen


def line(what: str, seen: Seen, total: int, speed: float) -> str:
    """How far it is: minutes, steps, memory, tokens a second since the line before."""
    memory = f"{seen.samples[-1].resident / 2**20:,.0f} MiB resident" if seen.samples else "memory unknown"
    return f"{what}: {seen.seconds / 60:.1f} min, step {seen.step:,} of {total:,}, {memory}, {speed:,.0f} tokens/s"


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to save and leave; one that does not is ended."""
    process.terminate()
    try:
        process.wait(SAVING)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        process.wait()


def _look(pid: int, seen: Seen) -> None:
    with suppress(OSError, KeyError, ValueError, IndexError):  # it may end between the looks
        text = Path(f"/proc/{pid}/status").read_text()
        fields = dict(entry.split(":", 1) for entry in text.splitlines() if ":" in entry)
        resident, anonymous = (int(fields[name].split()[0]) << 10 for name in ("VmRSS", "RssAnon"))
        times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        seen.samples.append(Sample(seen.seconds, resident, anonymous))
        seen.cpu = sum(map(int, times)) / os.sysconf("SC_CLK_TCK")
