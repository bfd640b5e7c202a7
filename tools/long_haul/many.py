"""Many short runs: workers of a study are killed, and each run ends once, as it would have without the kill."""

from __future__ import annotations

import argparse
import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

from tools.long_haul.checks import intact
from tools.long_haul.watch import SAID

from assay.runs import RunFolder, StudyFolder
from assay.spec.study import RunSpec, StudySpec
from assay.studies.places import Here
from assay.studies.runner import Outcome, run_all


def study(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Runs of one study while workers are killed; each must end once, as it would have without the kill."""
    (probe,) = _runs(1, 100)
    again: list[Outcome] = []
    interrupted = False
    with Here(["torch._dynamo"]) as place:
        for number in range(2):  # the first fills caches
            began = time.monotonic()
            (done,) = run_all([probe], StudyFolder(folder / f"probe-{number}"), workers=1, place=place)
        each = (time.monotonic() - began) / done.folder.result["steps"]
        steps = min(max(int(60 * args.minutes * args.threads / args.runs / each), 20), 5000)
        runs, out = _runs(args.runs, steps), StudyFolder(folder / "study")
        print(f"{len(runs)} runs of {steps} steps, {steps * each:.1f} s each by the one before", flush=True)
        killer = Killer(args.killed, args.runs, args.seed, steps * each)
        began = time.monotonic()
        try:
            outcomes = run_all(runs, out, workers=args.threads, progress=killer, place=place)
        except KeyboardInterrupt:
            interrupted = True
            outcomes = [Outcome(run, out.run(run.hash), "done") for run in runs if out.run(run.hash).done]
        took = time.monotonic() - began
        hit = [outcome for outcome in outcomes if outcome.folder.name in killer.hit and outcome.folder.done]
        if not interrupted:
            again = run_all([o.run for o in hit], StudyFolder(folder / "again"), workers=args.threads, place=place)
    wrong = [f"interrupted: {len(outcomes)} of {len(runs)} runs finished"] if interrupted else []
    wrong += all_once([o.run for o in outcomes] if interrupted else runs, outcomes, steps)
    for one, other in zip(hit, again, strict=False):
        if not other.folder.done or not _same(one.folder, other.folder):
            wrong.append(f"{one.folder.name}: ended otherwise than without the kill")
    if not killer.hit:
        wrong.append("no worker was killed")
    equal = "" if wrong else "; the killed runs equal runs without a kill, bit for bit"
    return {
        "name": f"a study of {args.runs} runs of {steps} steps on {args.threads} workers",
        "wrong": wrong,
        "said": (
            f"{len(killer.pids)} workers killed in {len(killer.hit)} runs, {killer.retried} times tried again; "
            f"{len(outcomes)} results, each once, in {took / 60:.1f} minutes{equal}"
        ),
        "runs": args.runs,
        "steps": steps,
        "seconds": took,
        "killed": len(killer.pids),
        "retried": killer.retried,
    }


class Killer:
    """Told of a study's events, it ends a share of its workers at random moments.

    Of the first `runs` starts, so many are drawn. A moment that comes after its run's end kills nobody: then the next
    run to start takes its place. How long a run takes is learnt from those that have ended.

    Args:
        share: of the workers.
        runs: of the study.
        seed: of who and when.
        seconds: that a run takes, as far as is known at first.
    """

    def __init__(self, share: float, runs: int, seed: int, seconds: float) -> None:
        """See the class."""
        self.order, self.seconds, self.starts = random.Random(seed), seconds, 0
        self.drawn = set(self.order.sample(range(runs), round(share * runs)))
        self.hit: set[str] = set()
        self.pids: list[int] = []
        self.retried = self.finished = self.missed = 0
        self._started: dict[str, float] = {}
        self._lock = threading.Lock()
        self._began = self._said = time.monotonic()

    def __call__(self, event: dict[str, Any]) -> None:
        """Take an event."""
        now, what = time.monotonic(), event["event"]
        self.retried += what == "retried"
        self.finished += what == "finished"
        if what == "finished" and event["run"] in self._started:
            self.seconds = min(self.seconds, now - self._started[event["run"]])
        self._say()
        if what != "started":
            return
        self._started[event["run"]] = now
        chosen = self.starts in self.drawn
        self.starts += 1
        with self._lock:
            instead = self.missed > 0 and not chosen
            self.missed -= instead
        if chosen or instead:
            moment = self.order.uniform(0.05, 0.9) * self.seconds
            timer = threading.Timer(moment, self._kill, [event["pid"], event["run"]])
            timer.daemon = True
            timer.start()

    def _say(self) -> None:
        """How far the study is, every half minute."""
        now = time.monotonic()
        if now - self._said >= SAID:
            self._said = now
            told = f"{self.finished} runs finished, {len(self.pids)} workers killed, {self.retried} times tried again"
            print(f"study: {(now - self._began) / 60:.1f} min, {told}", flush=True)

    def _kill(self, pid: int, run: str) -> None:
        try:
            # Not a number that somebody else has by now.
            if b"assay.studies.cradle" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                raise ProcessLookupError(pid)
            os.kill(pid, signal.SIGKILL)
        except OSError:
            with self._lock:
                self.missed += 1
            return
        self.hit.add(run)
        self.pids.append(pid)


def all_once(runs: list[RunSpec], outcomes: list[Outcome], steps: int) -> list[str]:
    """What is wrong with the results of these runs."""
    found = [f"{o.folder.name}: {o.status} ({o.reason})" for o in outcomes if o.status != "done"]
    names = [outcome.folder.name for outcome in outcomes]
    if sorted(names) != sorted(run.hash for run in runs) or len(set(names)) != len(runs):
        found.append(f"{len(set(names))} results of {len(runs)} runs")
    evaluations = runs[0].train.evaluations if runs else 0
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
