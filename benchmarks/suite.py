"""The table of the suite: what is run, how long it may take, and how one of it is run in a process of its own."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
import warnings
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from benchmarks.result import Result

__all__ = ["JOBS", "Job", "alone", "failure", "forked", "load", "perform", "save"]


@dataclass(frozen=True)
class Job:
    """One benchmark of the suite: a module whose `suite(seconds, long)` gives results."""

    name: str
    title: str
    module: str
    budget: float
    """Seconds that it takes on two idle cores, setting up and compiling included."""
    seconds: float
    """Of them timed, shared by its contenders."""
    long: tuple[float, float]
    """Both in the long form."""

    def limits(self, long: bool, seconds: float | None) -> tuple[float, float]:
        """(budget, timed seconds) of a form; a given number of timed seconds moves the budget with it."""
        budget, timed = self.long if long else (self.budget, self.seconds)
        return (budget, timed) if seconds is None else (budget - timed + seconds, seconds)


JOBS = (
    Job("start", "import assay, assay --help", "benchmarks.start", 24, 9, (60, 45)),
    Job("training", "a training step, 11M", "benchmarks.training", 93, 21, (600, 120)),
    Job("study", "a study of 9 runs", "benchmarks.study", 176, 1, (1500, 600)),
    Job("together", "seeds trained together", "benchmarks.together", 48, 16, (240, 150)),
    Job("depth", "250 layers", "benchmarks.depth", 56, 8, (180, 90)),
    Job("span-corruption", "span corruption", "benchmarks.span_corruption", 118, 22, (420, 120)),
    Job("prefix", "prefix language modelling", "benchmarks.prefix", 76, 22, (300, 120)),
    Job("decode", "decoding, one row", "benchmarks.decode", 68, 15, (420, 200)),
    Job("batch-decode", "decoding, several rows and beams", "benchmarks.batch_decode", 80, 30, (480, 280)),
    Job("norms", "norms", "benchmarks.norms", 14, 6, (60, 40)),
    Job("denoising", "denoising batches", "benchmarks.denoising", 26, 10, (300, 60)),
    Job("head", "head and loss", "benchmarks.head", 42, 9, (180, 90)),
    Job("opening", "opening a checkpoint", "benchmarks.opening", 17, 4, (90, 60)),
    Job("rank", "the rank probe", "benchmarks.rank", 19, 7, (90, 60)),
    Job("growth", "how cost grows", "benchmarks.growth", 43, 14, (180, 150)),
)
"""In the order in which they run. The default's budgets are what two idle cores (AMD, Zen 4) took with nothing
compiled before, 15 minutes; slower cores take longer (docs/log.md)."""


def failure(job: Job, reason: str) -> Result:
    """What stands for a benchmark that ended in an error."""
    return Result(
        job.name, job.title[:1].upper() + job.title[1:], "failed", "", "", failed=" ".join(reason.split())[:600]
    )


def perform(job: Job, seconds: float, long: bool) -> list[Result]:
    """Run one here. An error becomes a result that says so; the suite goes on."""
    began, load = time.time(), os.getloadavg()[0]
    try:
        results: list[Result] = import_module(job.module).suite(seconds, long)
    except KeyboardInterrupt:
        raise
    except (Exception, SystemExit) as error:
        results = [failure(job, f"{type(error).__name__}: {error}")]
    for result in results:
        result.facts |= {
            "job": job.name, "began": began, "took": time.time() - began, "load_before": load,
            "load_after": os.getloadavg()[0],
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        }  # fmt: skip
    return results


def save(path: Path, results: list[Result], settings: dict[str, Any]) -> None:
    """Write results with the settings that they belong to, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"settings": settings, "results": [r.to_dict() for r in results]}, indent=1, default=str)
    unfinished = path.with_suffix(".part")
    unfinished.write_text(text + "\n", encoding="utf-8")
    unfinished.replace(path)


def load(path: Path) -> tuple[list[Result], dict[str, Any]]:
    """Read what `save` wrote. Raises ValueError where it is damaged or of another schema."""
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
        return [Result.from_dict(row) for row in given["results"]], given["settings"]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: {type(error).__name__}: {error}") from None


def alone(name: str, seconds: float, long: bool, path: Path) -> NoReturn:
    """One job in this process, which ends with it."""
    warnings.simplefilter("ignore")
    results = perform(next(job for job in JOBS if job.name == name), seconds, long)
    save(path, results, {"seconds": seconds, "long": long})
    from benchmarks.command import lines

    for result in results:
        print("\n".join(lines(result)), flush=True)
    sys.stdout.flush()
    os._exit(1 if any(result.failed for result in results) else 0)  # compilers and tensors need no tearing down


def forked(name: str, seconds: float, long: bool, path: Path) -> NoReturn:
    """A part, in a session of its own: Ctrl-C goes to the suite, who ends it with all that it has started."""
    os.setsid()
    multiprocessing.set_start_method("fork", force=True)  # as in a process that begins by itself, not the server's
    alone(name, seconds, long, path)


def main() -> None:
    """One job by itself: `python -m benchmarks.suite NAME --seconds S --json FILE`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=[job.name for job in JOBS])
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    alone(args.name, args.seconds, args.long, args.json)


if __name__ == "__main__":
    main()
