"""One long run: its memory and its speed stay flat, and every step is once in its metrics."""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.long_haul.checks import GROWTH, SLOWER, change, gaps, intact, thinned
from tools.long_haul.watch import Seen, launch, watch

from assay.errors import UserError
from assay.runs import RunFolder

SHORT = 200
"""Steps of the run that tells the pace."""
WAIT = 600.0
"""Seconds that it may take; on two idle cores it takes some 20."""
SPARE = 1.5
"""Times the steps that fit by the pace: a machine may turn quicker, and a haul ends by its time."""
FEWEST = 25
"""Looks and steps below which nothing can be said of growth."""


@dataclass(frozen=True)
class Pace:
    """How fast a run goes here."""

    step: float
    evaluation: float
    """Seconds."""

    def steps(self, seconds: float, evaluations: int) -> int:
        """How many fit into so many seconds with so many evaluations; at least 100."""
        return max(int((seconds - evaluations * self.evaluation) / self.step), 100)


def train(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Train `tiny` for so many minutes in a process of its own, watched from this one.

    Raises:
        UserError: the short run that tells the pace did not end in time, or failed.
    """
    minutes, threads = args.minutes, args.threads
    marks = max(round(minutes * (1 if args.steps else SPARE)), 2)
    steps = args.steps or calibrate(RunFolder(folder / "calibration"), threads).steps(60 * SPARE * minutes, marks)
    ends = "all of them" if args.steps else f"stopped after {minutes:g} minutes"
    print(f"{steps:,} steps, {marks} evaluations, {2 * marks} checkpoints; {ends}", flush=True)
    run = RunFolder(folder / "run")
    sets = ["--set", f"train.evaluations={marks}", "--set", f"train.checkpoints={2 * marks}"]
    process = launch(run, threads, "--steps", str(steps), *sets)
    limit = 60 * (2 * minutes + 5) if args.steps else 60 * minutes
    seen = watch(process, run, what="haul", total=steps, limit=limit)
    if seen.ended == "late" and not args.steps:
        seen.ended = "in time"
    return judged(run, seen, process.returncode, steps, marks, threads)


def calibrate(run: RunFolder, threads: int, limit: float = WAIT) -> Pace:
    """The pace of a short run that is done to its end.

    Raises:
        UserError: it did not end within `limit` seconds, or failed.
        SystemExit: at Ctrl-C, once it has ended.
    """
    process = launch(run, threads, "--steps", str(SHORT), "--set", "train.evaluations=1")
    seen = watch(process, run, what="calibration", total=SHORT, limit=limit)
    if seen.ended == "interrupted":
        print("interrupted before the haul began: there is nothing to keep", file=sys.stderr)
        sys.exit(130)
    if seen.ended == "late":
        raise UserError(
            f"calibration: {seen.step} of {SHORT} steps after {seen.seconds:.0f} s, in which the run had "
            f"{seen.cpu:.1f} s of processor time.",
            "Where that is little, other work has the processor: wait for its end, or give this command a higher "
            "priority. With --steps N it needs no calibration.",
        )
    if process.returncode:
        raise UserError(f"calibration: the run ended with {process.returncode}.", "It said why above.")
    return pace(run.metrics())


def pace(rows: list[dict[str, Any]]) -> Pace:
    """Of a finished run's rows; its first quarter is warm-up."""
    times = [row["seconds"] for row in rows if row["kind"] == "train"]
    first = len(times) // 4
    evaluations = [row["eval_seconds"] for row in rows if row["kind"] == "eval"]
    return Pace((times[-1] - times[first]) / (len(times) - 1 - first), evaluations[-1])


def judged(run: RunFolder, seen: Seen, status: int, steps: int, marks: int, threads: int) -> dict[str, Any]:
    """What a haul showed, whether it came to its end or was ended."""
    rows = run.metrics()
    speeds = [row["tokens_per_second"] for row in rows if row["kind"] == "train"]
    minutes = seen.seconds / 60
    if seen.ended:
        why = {"late": "took longer than twice its time", "interrupted": "was interrupted"}.get(seen.ended)
        wrong = [f"the haul {why}, at step {seen.step:,} of {steps:,}"] if why else []
        wrong += gaps(run, rows, seen.step)
        if run.checkpoint_steps() != [seen.step]:
            wrong.append(f"no checkpoint of step {seen.step:,}")
    else:
        wrong = [f"the run ended with {status}"] if status else []
        wrong += intact(run, steps, marks)
    resident, anonymous = ([sample[i] for sample in seen.samples] for i in (1, 2))
    growth, grown, speed = change(resident), change(anonymous), change(speeds)
    if min(len(resident), len(speeds)) < FEWEST:
        wrong.append(f"{len(resident)} looks and {len(speeds)} steps are too few to judge growth by")
    if growth > GROWTH:
        wrong.append(f"memory grew by {growth:.2%}")
    if speed < -SLOWER:
        wrong.append(f"speed fell by {-speed:.2%}")
    return {
        "name": f"{minutes:.3g} minutes of training (tiny, {threads} threads)",
        "wrong": wrong,
        "said": (
            f"{seen.step:,} steps in {minutes:.1f} minutes; resident memory "
            f"{(resident or [0])[-1] / 2**20:.0f} MiB, {growth:+.2%} over the haul "
            f"({grown:+.2%} without mapped files); tokens a second {speed:+.2%}"
            + ("" if wrong else "; every step once in the metrics")
        ),
        "steps": seen.step,
        "seconds": seen.seconds,
        "ended": seen.ended or "by itself",
        "resident_growth": growth,
        "anonymous_growth": grown,
        "speed_change": speed,
        "tokens_per_second": statistics.median(speeds or [0.0]),
        "samples": [[round(sample.at, 1), sample.resident] for sample in thinned(seen.samples, 600)],
    }
