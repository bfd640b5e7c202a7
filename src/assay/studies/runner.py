"""Running many runs on this machine: parallel single-thread workers, one run each, watched through their metrics.

A worker that dies takes nobody with it. Ctrl-C asks all workers for a checkpoint; finished runs stay usable.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assay.runs import RunFolder, StudyFolder, write_json
from assay.spec.study import RunSpec
from assay.studies.processes import Nursery, Process
from assay.studies.protocol import REQUEST, STOPPED
from assay.studies.tail import Tail

__all__ = ["Outcome", "Progress", "default_workers", "in_turns", "run_all"]

Progress = Callable[[dict[str, Any]], None]
"""Called with events: dicts with "event" and, but for "study", "run" (hash), "name", "labels", "seed".

    study       runs: [{run, name, labels, seed, status}], workers
    reused      result                              done before, or by another study
    started     resumed (bool), pid
    progress    step, total, progress (0 to 1), loss, tokens_per_second, seconds, eta (seconds left of this run)
    evaluated   step, bits_per_byte
    finished    result
    failed      reason, log (last lines that the worker said)
    stopped     step
"""

POLL = 0.1
"""Seconds between looks at the workers."""
PATIENCE = 60.0
"""Seconds that a stopped worker has for its checkpoint."""
LOG_LINES = 20


@dataclass
class Outcome:
    """How a run ended."""

    run: RunSpec
    folder: RunFolder
    status: str = "waiting"
    """waiting, running, then: done, reused, failed (diverged runs too), stopped."""
    reason: str = ""


@dataclass
class _Worker:
    """A process and what is known of its run."""

    outcome: Outcome
    process: Process | subprocess.Popen[bytes]
    tail: Tail
    compiling: bool
    """No step has been seen yet: it may be compiling."""
    began: float = field(default_factory=time.monotonic)
    first: tuple[float, float] | None = None
    """(time, progress) of the first step seen, for the time left."""


def default_workers() -> int:
    """As many workers as this process has cores; one where an accelerator does the work."""
    from assay.runs import hardware

    machine = hardware()
    return 1 if machine["accelerators"] else int(machine["cores"] or 1)


def in_turns(runs: Sequence[RunSpec]) -> list[RunSpec]:
    """Runs by seed first, so that early results cover every combination."""
    order = sorted(range(len(runs)), key=lambda i: (runs[i].seed, i))
    return [runs[i] for i in order]


def run_all(
    runs: Sequence[RunSpec],
    study: StudyFolder,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    command: str | None = None,
) -> list[Outcome]:
    """Do all runs, each in `study`'s runs/<hash>; the outcomes in the order given.

    Runs that are done, or that diverged (they would again), are not done again; others go on from their
    checkpoints.

    Raises:
        KeyboardInterrupt: on Ctrl-C, once the workers have written checkpoints, with how to go on.
        UserError: the disk is full.
    """
    return _Runner(runs, study, workers or default_workers(), progress or (lambda event: None), command).go()


class _Runner:
    def __init__(
        self,
        runs: Sequence[RunSpec],
        study: StudyFolder,
        workers: int,
        progress: Progress,
        command: str | None,
    ) -> None:
        self.study, self.workers, self.report, self.command = study, max(workers, 1), progress, command
        self.outcomes = [Outcome(run, study.run(run.hash)) for run in runs]
        self.busy: list[_Worker] = []
        self.nursery = Nursery(["assay.studies.worker", "assay.training.loop"])

    def go(self) -> list[Outcome]:
        for outcome in self.outcomes:
            self._known(outcome)
        told = [{**_who(o), "status": o.status} for o in self.outcomes]
        self.report({"event": "study", "runs": told, "workers": self.workers})
        for outcome in self.outcomes:
            if outcome.status == "reused":
                self._tell(outcome, "reused", result=outcome.folder.result)
            elif outcome.status == "failed":
                self._tell(outcome, "failed", reason=outcome.reason, log="")
        with self.nursery:
            try:
                while self.busy or any(o.status == "waiting" for o in self.outcomes):
                    while len(self.busy) < self.workers and (following := self._next()):
                        self._start(following)
                    time.sleep(POLL)
                    self._look()
            except BaseException as error:
                self._stop_all()
                if isinstance(error, KeyboardInterrupt):
                    raise KeyboardInterrupt(self._how_to_go_on()) from None
                raise
        return self.outcomes

    def _known(self, outcome: Outcome) -> None:
        """What an earlier study left of a run."""
        if outcome.folder.done:
            outcome.status = "reused"
        elif (failure := outcome.folder.failure) and failure.startswith("diverged"):
            outcome.status, outcome.reason = "failed", failure

    def _next(self) -> Outcome | None:
        """The next run to start, or None where none should start now.

        Two workers that compile the same blocks would do the same work twice; the second waits until the first
        has filled the compiler's cache, and another model goes first.
        """
        compiling = {w.outcome.run.model.hash for w in self.busy if w.compiling}
        waiting = (o for o in self.outcomes if o.status == "waiting")
        return next((o for o in waiting if not (_compiles(o.run) and o.run.model.hash in compiling)), None)

    def _start(self, outcome: Outcome) -> None:
        folder = outcome.folder
        resumed = bool(folder.checkpoint_steps())
        with suppress(FileNotFoundError):
            (folder.path / "FAILED").unlink()
        run = outcome.run.model_dump(mode="json")
        write_json(folder.path / REQUEST, {"run": run, "command": self.command})
        log = folder.path / "worker.log"
        process = self.nursery.start("assay.studies.worker", [str(folder.path)], log)
        outcome.status = "running"
        tail = Tail(folder.path / "metrics.jsonl")
        self.busy.append(_Worker(outcome, process, tail, compiling=_compiles(outcome.run)))
        self._tell(outcome, "started", resumed=resumed, pid=process.pid)

    def _look(self) -> None:
        """Pass on what the workers wrote, and see who has ended."""
        for one in list(self.busy):
            status = one.process.poll()  # before the rows: what an ended worker wrote is all there
            self._follow(one)
            if status is not None:
                self.busy.remove(one)
                self._ended(one.outcome, status)

    def _follow(self, one: _Worker) -> None:
        newest = None
        for row in one.tail.rows():
            if row.get("kind") == "train":
                newest = row
            elif row.get("kind") == "eval" and "bits_per_byte" in row:  # an encoder has none
                self._tell(one.outcome, "evaluated", step=row["step"], bits_per_byte=row["bits_per_byte"])
        if newest is None:
            return
        one.compiling = False
        done, now = max(float(newest["progress"]), 1e-9), time.monotonic()
        if one.first is None:
            one.first = (now, done)
        seen = done - one.first[1]
        eta = (now - one.first[0]) / seen * (1 - done) if seen > 0 else newest["seconds"] / done * (1 - done)
        self._tell(
            one.outcome,
            "progress",
            step=newest["step"],
            total=max(round(newest["step"] / done), newest["step"]),
            progress=min(done, 1.0),
            loss=newest["loss"],
            tokens_per_second=newest["input_tokens"] / max(newest["seconds"], 1e-9),
            seconds=newest["seconds"],
            eta=max(eta, 0.0),
        )

    def _ended(self, outcome: Outcome, status: int, *, asked: bool = False) -> None:
        folder = outcome.folder
        if folder.done:
            outcome.status = "done"
            said = folder.path / "worker.log"
            if said.is_file() and not said.stat().st_size:
                said.unlink()
            self._tell(outcome, "finished", result=folder.result)
        elif status == STOPPED or (asked and status == -signal.SIGTERM):
            outcome.status = "stopped"
            steps = folder.checkpoint_steps()
            self._tell(outcome, "stopped", step=steps[-1] if steps else 0)
        else:
            log = _last_lines(folder.path / "worker.log")
            outcome.status, outcome.reason = "failed", folder.failure or _death(status, log)
            if folder.failure is None:
                folder.mark_failed(outcome.reason)
            self._tell(outcome, "failed", reason=outcome.reason, log=log)

    def _stop_all(self) -> None:
        """Ask every worker for a checkpoint, wait for it, and end those that take too long."""
        for one in self.busy:
            with suppress(ProcessLookupError):
                one.process.terminate()
        deadline = time.monotonic() + PATIENCE
        try:
            for one in self.busy:
                with suppress(subprocess.TimeoutExpired):
                    one.process.wait(max(deadline - time.monotonic(), 0))
        finally:  # a second Ctrl-C does not wait
            for one in self.busy:
                if one.process.poll() is None:
                    one.process.kill()
                with suppress(Exception):
                    self._ended(one.outcome, one.process.wait(), asked=True)
            self.busy.clear()

    def _how_to_go_on(self) -> str:
        done = sum(o.status in ("done", "reused") for o in self.outcomes)
        return (
            f"stopped with {done} of {len(self.outcomes)} runs finished; they stay usable. "
            f"Go on with: assay compare --out {self.study.path} --resume"
        )

    def _tell(self, outcome: Outcome, event: str, **fields: Any) -> None:
        self.report({"event": event, **_who(outcome), **fields})


def _who(outcome: Outcome) -> dict[str, Any]:
    run = outcome.run
    return {"run": outcome.folder.name, "name": run.name, "labels": dict(run.labels), "seed": run.seed}


def _compiles(run: RunSpec) -> bool:
    """Whether a run may compile, as far as its description says."""
    from assay.training.setup import wants_compiling

    return wants_compiling(run.train, run.train.budget or 0.0, "cpu") is True


def _death(status: int, log: str) -> str:
    """What can be said of a worker that ended without a word."""
    if status < 0:
        name = signal.Signals(-status).name if -status in {s.value for s in signal.Signals} else str(-status)
        memory = ", as the system does when memory runs out" if name == "SIGKILL" else ""
        return f"the worker was ended by {name}{memory}"
    last = log.strip().splitlines()[-1:] or ["it said nothing"]
    return f"the worker ended with exit code {status}: {last[0]}"


def _last_lines(path: Path, lines: int = LOG_LINES) -> str:
    try:
        content = path.read_bytes()[-20_000:]
    except OSError:
        return ""
    return "\n".join(content.decode(errors="replace").strip().splitlines()[-lines:])
