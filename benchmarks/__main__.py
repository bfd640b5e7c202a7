"""Run the suite: every comparison in turn, each in a process of its own, its contenders interleaved there.

python -m benchmarks [--only training,decode] [--seconds 60] [--long] [--resume] [--out benchmarks]

The default takes 15 minutes on two idle cores, more on slow ones (docs/log.md). Results go to
OUT/results/NAME.json as each part ends; at the end, and on Ctrl-C, OUT/results.json and OUT/report.html are written
from all that is there. `--resume` keeps parts that were finished with the same settings.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

from benchmarks.page import write
from benchmarks.suite import JOBS, Job, failure, forked, load, save

FORKED = multiprocessing.get_context("forkserver")
"""A process that has imported what most parts need (`ready`), and forks each of them."""
FORKED.set_forkserver_preload(["benchmarks.ready"])

PATIENCE = 4.0
"""Times its budget after which a part is ended: on a busy machine all takes longer, and one that hangs must not."""


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def finished(path: Path, settings: dict[str, object]) -> bool:
    """Whether a part is there, with the same settings and without a failure."""
    try:
        results, had = load(path)
    except (OSError, ValueError):
        return False
    return had == settings and not any(result.failed for result in results)


def part(job: Job, path: Path, seconds: float, long: bool, most: float) -> None:
    """One part in a process of its own; its file says why where it failed. Raises KeyboardInterrupt on Ctrl-C."""
    path.unlink(missing_ok=True)
    process = FORKED.Process(target=forked, args=(job.name, seconds, long, path))
    process.start()
    try:
        process.join(most)
        reason = f"its process ended with status {process.exitcode} and left no result"
        if process.exitcode is None:
            reason = f"it was ended after {most:.0f} s, {PATIENCE:g} times its budget"
    finally:
        if process.exitcode is None:  # its own group, so that workers of its own end too
            end_group(process)
    if not path.is_file():
        save(path, [failure(job, reason)], {"seconds": seconds, "long": long})


def end_group(process: BaseProcess) -> None:
    """End a process that this suite started, and those that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid or 0, number)
        except ProcessLookupError:
            return
        process.join(5)
        if process.exitcode is not None:
            return


def run(jobs: Sequence[Job], out: Path, *, seconds: float | None, long: bool, resume: bool) -> list[str]:
    """Run parts in turn, say how much is left, write the report; the names of those that failed."""
    left = [(job, *job.limits(long, seconds)) for job in jobs]
    if resume:
        kept = [job.name for job, _, timed in left if finished(_file(out, job), {"seconds": timed, "long": long})]
        left = [entry for entry in left if entry[0].name not in kept]
        print(f"kept: {', '.join(kept) or 'none'}", flush=True)
    stopped, pace, done = False, 1.0, 0.0
    try:
        for number, (job, budget, timed) in enumerate(left):
            rest = sum(entry[1] for entry in left[number:]) * pace
            print(f"== {number + 1} of {len(left)}: {job.title}; about {clock(rest)} left", flush=True)
            began = time.monotonic()
            part(job, _file(out, job), timed, long, PATIENCE * budget)
            took = time.monotonic() - began
            done += took
            pace = done / sum(entry[1] for entry in left[: number + 1])
            print(f"== {job.name}: {took:.0f} s of {budget:.0f}\n", flush=True)
    except KeyboardInterrupt:
        stopped = True
    page = write(out)
    print(f"report: {page}")
    if stopped:
        print("Stopped. Finished parts are kept; go on with --resume.", file=sys.stderr)
        raise KeyboardInterrupt
    return [job.name for job in jobs if not finished(_file(out, job), _settings(job, long, seconds))]


def _file(out: Path, job: Job) -> Path:
    return out / "results" / f"{job.name}.json"


def _settings(job: Job, long: bool, seconds: float | None) -> dict[str, object]:
    return {"seconds": job.limits(long, seconds)[1], "long": long}


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; see the module. The exit status is 1 where a part failed, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], help="names, or beginnings of names, joined by commas")
    parser.add_argument("--seconds", type=float, help="timed seconds of each part, instead of its own")
    parser.add_argument("--long", action="store_true", help="more contenders, sizes and rounds: about an hour")
    parser.add_argument("--resume", action="store_true", help="keep parts that were finished with these settings")
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    args = parser.parse_args(arguments)
    only = tuple(",".join(args.only).split(",")) if args.only else ("",)
    wanted = [job for job in JOBS if job.name.startswith(only)]
    if not wanted:
        parser.error(f"--only {','.join(only)}: no such benchmark; there are {', '.join(job.name for job in JOBS)}")
    try:
        failed = run(wanted, args.out, seconds=args.seconds, long=args.long, resume=args.resume)
    except KeyboardInterrupt:
        return 130
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
