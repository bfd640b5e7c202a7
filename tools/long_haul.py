"""Long hauls: an hour of training whose memory and speed stay flat, and a study of 100 runs whose workers are killed.

    python -m tools.long_haul train --minutes 60
    python -m tools.long_haul study --minutes 20 --runs 100 --killed 0.05

Each appends what came of it to docs/long_haul.json and a row to docs/reliability.md; the exit status is 1 where
something went wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tools.faults.page import put_row

from assay.runs import RunFolder, StudyFolder, hardware, verify_files, versions, write_json
from assay.spec.study import RunSpec, StudySpec
from assay.studies.places import Here
from assay.studies.runner import Outcome, run_all

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "docs" / "long_haul.json"
WARM = 0.2
"""Share of a haul that is warm-up: what is measured comes after it."""
GROWTH, SLOWER = 0.01, 0.05
"""How much memory may grow, and speed may fall, from the first to the last fifth of what is measured."""


def main(arguments: list[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.long_haul", description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("train", "study"))
    parser.add_argument("--minutes", type=float, default=60.0, help="how long, about")
    parser.add_argument("--threads", type=int, default=2, help="train: threads; study: workers")
    parser.add_argument("--runs", type=int, default=100, help="study: how many runs")
    parser.add_argument("--killed", type=float, default=0.05, help="study: share of workers that are killed")
    parser.add_argument("--seed", type=int, default=0, help="study: of who is killed when")
    parser.add_argument("--no-page", action="store_true", help="print only; nothing under docs/ is changed")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="assay-long-haul-") as folder:
        found = (train if args.what == "train" else study)(Path(folder), args)
    options = f"{args.what} --minutes {args.minutes:g}" + (f" --runs {args.runs}" if args.what == "study" else "")
    found = {
        "what": args.what,
        "command": f"python -m tools.long_haul {options}",
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": hardware(),
        "versions": versions(),
        **found,
    }
    print(json.dumps({name: value for name, value in found.items() if name not in ("hardware", "versions", "samples")}))
    if not args.no_page:
        record = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.is_file() else []
        write_json(RECORD, [*record, found])
        said = f"{'; '.join(found['wrong'])}. " if found["wrong"] else "As it should. "
        put_row(
            "long hauls", [found["name"], found["time"][:10], said + found["said"], f"`{found['command']}`"], key=None
        )
    return 1 if found["wrong"] else 0


# One long run


def train(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Train `tiny` for so many minutes in a process of its own, watched from this one."""
    rate = _rate(folder / "calibration", args.threads)
    steps = max(int(rate * 60 * args.minutes), 100)
    marks = max(round(args.minutes), 2)
    run = RunFolder(folder / "run")
    sets = ["--set", f"train.evaluations={marks}", "--set", f"train.checkpoints={2 * marks}"]
    process = _start(run, args.threads, "--steps", str(steps), *sets)
    samples: list[tuple[float, int, int]] = []
    began = time.monotonic()
    while process.poll() is None:
        with suppress(OSError, ValueError):
            samples.append((time.monotonic() - began, *_memory(process.pid)))
        time.sleep(min(1.0, args.minutes))
    took = time.monotonic() - began
    wrong = [] if process.returncode == 0 else [f"the run ended with {process.returncode}"]
    wrong += intact(run, steps, marks)
    rows = [row for row in run.metrics() if row["kind"] == "train"]
    growth, grown = change([size for _, size, _ in samples]), change([size for _, _, size in samples])
    speed = change([row["tokens_per_second"] for row in rows])
    if growth > GROWTH:
        wrong.append(f"memory grew by {growth:.2%}")
    if speed < -SLOWER:
        wrong.append(f"speed fell by {-speed:.2%}")
    last = samples[-1][1] / 2**20
    return {
        "name": f"{args.minutes:g} minutes of training (tiny, {args.threads} threads)",
        "wrong": wrong,
        "said": (
            f"{steps:,} steps in {took / 60:.1f} minutes; resident memory {last:.0f} MiB, {growth:+.2%} over the haul "
            f"({grown:+.2%} without mapped files); tokens a second {speed:+.2%}; every step once in the metrics"
        ),
        "steps": steps,
        "seconds": took,
        "resident_growth": growth,
        "anonymous_growth": grown,
        "speed_change": speed,
        "tokens_per_second": statistics.median(row["tokens_per_second"] for row in rows),
        "samples": [[round(at, 1), size] for at, size, _ in thinned(samples, 600)],
    }


def change(values: list[float]) -> float:
    """How much the last fifth of what is measured lies above the first, by medians, as a share."""
    measured = values[int(len(values) * WARM) :]
    fifth = max(len(measured) // 5, 1)
    first, last = statistics.median(measured[:fifth]), statistics.median(measured[-fifth:])
    return last / first - 1


def intact(run: RunFolder, steps: int, evaluations: int) -> list[str]:
    """What is wrong with a finished run's folder."""
    if not run.done:
        return [f"{run.path.name}: not finished ({run.failure})"]
    rows = run.metrics()
    found = []
    if [row["step"] for row in rows if row["kind"] == "train"] != list(range(1, steps + 1)):
        found.append(f"{run.path.name}: not every step once in the metrics")
    if sum(row["kind"] == "eval" for row in rows) != evaluations + 1:
        found.append(f"{run.path.name}: not every evaluation once in the metrics")
    if run.result["steps"] != steps:
        found.append(f"{run.path.name}: the result is of {run.result['steps']} steps")
    verify_files(run.checkpoint(steps), ["model.safetensors"])
    return found


def thinned(samples: list[Any], most: int) -> list[Any]:
    """At most so many of them, evenly."""
    return samples[:: max(-(-len(samples) // most), 1)]


def _rate(folder: Path, threads: int, seconds: float = 20.0) -> float:
    """Steps a second, by the clock, of a run that is stopped after some seconds."""
    run = RunFolder(folder)
    process = _start(run, threads, "--steps", "1000000", "--set", "train.evaluations=1")
    while process.poll() is None and not (run.path / "metrics.jsonl").is_file():
        time.sleep(0.1)
    began, before = time.monotonic(), len(run.metrics())
    time.sleep(seconds)
    done = len(run.metrics()) - before
    took = time.monotonic() - began
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    shutil.rmtree(folder)
    return done / took


def _start(run: RunFolder, threads: int, *more: str) -> subprocess.Popen[bytes]:
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return subprocess.Popen(
        [sys.executable, "-m", "assay", "train", "tiny", "--out", str(run.path), "--set", "train.compile=false", *more],
        env={**os.environ, **dict.fromkeys(names, str(threads))},
        stdout=subprocess.DEVNULL,
        stderr=None,
        cwd=ROOT,
    )


def _memory(pid: int) -> tuple[int, int]:
    """Bytes of a process that are resident, and those of them that belong to no file."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    resident, anonymous = (int(fields[name].split()[0]) << 10 for name in ("VmRSS", "RssAnon"))
    return resident, anonymous


# Many short runs


def study(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Runs of one study while workers are killed; each must end once, as it would have without the kill."""
    took = time.monotonic()
    (probe,) = _runs(1, 100)
    with Here(["torch._dynamo"]) as place:
        for _ in range(2):  # the first fills caches
            began = time.monotonic()
            (done,) = run_all([probe], StudyFolder(folder / f"probe-{began}"), workers=1, place=place)
        each = (time.monotonic() - began) / done.folder.result["steps"]
        steps = min(max(int(60 * args.minutes * args.threads / args.runs / each), 20), 5000)
        runs = _runs(args.runs, steps)
        killer = Killer(args.killed, args.seed, steps * each)
        began = time.monotonic()
        outcomes = run_all(runs, StudyFolder(folder / "study"), workers=args.threads, progress=killer, place=place)
        took = time.monotonic() - began
        wrong = all_once(runs, outcomes, steps)
        hit = [outcome for outcome in outcomes if outcome.folder.name in killer.hit]
        again = run_all([o.run for o in hit], StudyFolder(folder / "again"), workers=args.threads, place=place)
    for one, other in zip(hit, again, strict=True):
        if not _same(one.folder, other.folder):
            wrong.append(f"{one.folder.name}: ended otherwise than without the kill")
    if len(killer.hit) == 0:
        wrong.append("no worker was killed")
    return {
        "name": f"a study of {args.runs} runs of {steps} steps on {args.threads} workers",
        "wrong": wrong,
        "said": (
            f"{len(killer.pids)} workers killed in {len(killer.hit)} runs, all tried again; {len(outcomes)} results, "
            f"each once, in {took / 60:.1f} minutes; the killed runs equal runs without a kill, bit for bit"
        ),
        "runs": args.runs,
        "steps": steps,
        "seconds": took,
        "killed": len(killer.pids),
        "retried": killer.retried,
    }


class Killer:
    """Told of a study's events, it ends a share of its workers at random moments.

    Args:
        share: of the workers.
        seed: of who and when.
        seconds: that a run takes.
    """

    def __init__(self, share: float, seed: int, seconds: float) -> None:
        """See the class."""
        self.share, self.order, self.seconds = share, random.Random(seed), seconds
        self.hit: set[str] = set()
        self.pids: list[int] = []
        self.retried = 0

    def __call__(self, event: dict[str, Any]) -> None:
        """Take an event."""
        self.retried += event["event"] == "retried"
        if event["event"] == "started" and self.order.random() < self.share:
            moment = self.order.uniform(0.05, 0.9) * self.seconds
            timer = threading.Timer(moment, self._kill, [event["pid"], event["run"]])
            timer.daemon = True
            timer.start()

    def _kill(self, pid: int, run: str) -> None:
        with suppress(OSError):
            if b"assay.studies.cradle" in Path(f"/proc/{pid}/cmdline").read_bytes():  # not a number used again
                os.kill(pid, signal.SIGKILL)
                self.hit.add(run)
                self.pids.append(pid)


def all_once(runs: list[RunSpec], outcomes: list[Outcome], steps: int) -> list[str]:
    """What is wrong with a study's results."""
    found = [f"{o.folder.name}: {o.status} ({o.reason})" for o in outcomes if o.status != "done"]
    names = [outcome.folder.name for outcome in outcomes]
    if sorted(names) != sorted(run.hash for run in runs) or len(set(names)) != len(runs):
        found.append(f"{len(set(names))} results of {len(runs)} runs")
    evaluations = runs[0].train.evaluations
    return found + [
        s for outcome in outcomes if outcome.folder.done for s in intact(outcome.folder, steps, evaluations)
    ]


def _runs(number: int, steps: int) -> list[RunSpec]:
    """Runs of a small model on the made corpus of additions: rates times seeds."""
    rates = [1e-3, 2e-3, 3e-3, 5e-3, 8e-3][: 5 if number % 5 == 0 else 1]
    fields = {
        "model": {"width": 32, "layers": 2, "attention": {"heads": 2}},
        "train": {"steps": steps, "batch_size": 8, "length": 64, "checkpoints": 10, "evaluations": 4, "compile": False},
        "data": {"source": "stdlib", "tokenizer": "bytes"},
        "vary": {"train.optimizer.learning_rate": rates},
        "seeds": number // len(rates),
    }
    return StudySpec.from_dict(fields).runs()


def _same(one: RunFolder, other: RunFolder) -> bool:
    """Whether two finished runs have the same weights, bit for bit."""
    step = one.checkpoint_steps()[-1]
    files = [run.checkpoint(step) / "model.safetensors" for run in (one, other)]
    return all(file.is_file() for file in files) and files[0].read_bytes() == files[1].read_bytes()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
