"""Running many runs: parallel single-thread workers, a run or a crew of runs each, watched through their metrics.

A worker that dies takes nobody with it, and another goes on from its run's last checkpoint. Ctrl-C asks all workers for
a checkpoint; finished runs stay usable. Where the workers are (`places`) makes no difference here.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assay.runs import RunFolder, StudyFolder, write_json
from assay.spec.study import RunSpec
from assay.studies.crews import Crews, Together
from assay.studies.places import Here, Place, Task, Worker, default_workers
from assay.studies.protocol import LOST, REQUEST, STOPPED
from assay.studies.tail import Tail

__all__ = ["RETRIES", "Job", "Outcome", "Progress", "default_workers", "in_turns", "run_all", "run_jobs", "struck_down"]

Progress = Callable[[dict[str, Any]], None]
"""Called with events: dicts with "event" and, but for "study", "run" (hash), "name", "labels", "seed".

    study       runs: [{run, name, labels, seed, status}], workers, together ([hashes of runs] of every crew), apart
                (reason: number of runs)
    reused      result                              done before, or by another study
    started     resumed (bool), pid (None where it is not known yet, on a cluster)
    progress    step, total, progress (0 to 1), loss, tokens_per_second, seconds, eta (seconds left of this run)
    evaluated   step, bits_per_byte
    finished    result
    retried     reason, attempt, of, step, log      its worker died; it is started again, from step's checkpoint
    failed      reason, log (last lines that the worker said)
    stopped     step
"""

RETRIES = 2
"""Times that a run whose worker died is tried again."""
POLL = 0.1
"""Seconds between looks at the workers."""
PATIENCE = 60.0
"""Seconds that a stopped worker has for its checkpoint."""
LOG_LINES = 20


@dataclass(frozen=True)
class Job:
    """A run, and what its worker does."""

    run: RunSpec
    folder: RunFolder
    """Where it is recorded."""
    module: str = "assay.studies.worker"
    """Whose `main([folder])` does it."""
    request: Mapping[str, Any] = field(default_factory=dict)
    """What the worker is told beside the run."""
    reads: tuple[Path, ...] = ()
    """Folders that it reads."""
    finished: Callable[[RunFolder], bool] = lambda folder: folder.done
    """Whether a folder holds all that is wanted."""


@dataclass
class Outcome:
    """How a run ended."""

    run: RunSpec
    folder: RunFolder
    status: str = "waiting"
    """waiting, running, then: done, reused, failed (diverged runs too), stopped."""
    reason: str = ""
    attempts: int = 0
    """How often it was tried again after its worker had died."""


@dataclass
class _Worker:
    """A process and what is known of its run."""

    job: Job
    outcome: Outcome
    process: Worker
    """A crew's runs share one."""
    log: Path
    tail: Tail
    compiling: bool
    """No step has been seen yet: it may be compiling."""
    began: float = field(default_factory=time.monotonic)
    first: tuple[float, float] | None = None
    """(time, progress) of the first step seen, for the time left."""


def in_turns(runs: Sequence[RunSpec]) -> list[RunSpec]:
    """Runs by seed first, so that early results cover every combination."""
    order = sorted(range(len(runs)), key=lambda i: (runs[i].seed, i))
    return [runs[i] for i in order]


def run_all(
    runs: Sequence[RunSpec],
    study: StudyFolder,
    *,
    workers: int | None = None,
    retries: int = RETRIES,
    place: Place | None = None,
    together: Together | None = None,
    progress: Progress | None = None,
    command: str | None = None,
) -> list[Outcome]:
    """Do all runs, each in `study`'s runs/<hash>; the outcomes in the order given.

    Runs that are done, or that diverged (they would again), are not done again; others go on from their
    checkpoints. A run whose worker died (killed, out of memory, its machine lost) is tried again from its last
    checkpoint; one that failed by an error of its own is not.

    Args:
        runs: what is done.
        study: where.
        workers: runs at a time; None: as many as the place has room for.
        retries: times that a run is tried again.
        place: where workers run; None: this machine.
        together: `crews.together(...)`: which runs share a worker that trains them as one batched model; None: none.
        progress: called with events.
        command: recorded as what does this again.

    Raises:
        KeyboardInterrupt: on Ctrl-C, once the workers have written checkpoints, with how to go on.
        UserError: the disk is full.
    """
    jobs = [Job(run, study.run(run.hash), reads=_begun_from(run)) for run in runs]
    again = f"Go on with: assay compare --out {study.path} --resume{place.option if place else ''}"
    return run_jobs(
        jobs, again=again, workers=workers, retries=retries, place=place, together=together, progress=progress,
        command=command,
    )  # fmt: skip


def run_jobs(
    jobs: Sequence[Job],
    *,
    again: str = "The same command goes on.",
    workers: int | None = None,
    retries: int = RETRIES,
    place: Place | None = None,
    together: Together | None = None,
    progress: Progress | None = None,
    command: str | None = None,
) -> list[Outcome]:
    """`run_all` for workers of any kind; `again`: how to go on, for the message at Ctrl-C."""
    tell = progress or (lambda event: None)
    with Here([job.module for job in jobs[:1]]) if place is None else nullcontext(place) as there:
        return _Runner(jobs, there, workers or there.slots, retries, together, tell, command, again).go()


class _Runner:
    def __init__(
        self,
        jobs: Sequence[Job],
        place: Place,
        workers: int,
        retries: int,
        together: Together | None,
        progress: Progress,
        command: str | None,
        again: str,
    ) -> None:
        self.jobs, self.place, self.workers, self.retries = list(jobs), place, max(workers, 1), retries
        self.report, self.command, self.again = progress, command, again
        self.outcomes = [Outcome(job.run, job.folder) for job in jobs]
        self.busy: list[_Worker] = []
        self.together: Together = together or (lambda runs, workers: Crews())
        self.crews = Crews()

    def go(self) -> list[Outcome]:
        for job, outcome in zip(self.jobs, self.outcomes, strict=True):
            self._known(job, outcome)
        waiting = [outcome.run for outcome in self.outcomes if outcome.status == "waiting"]
        self.crews = self.together(waiting, self.workers)
        told = [{**_who(o), "status": o.status} for o in self.outcomes]
        parts = {"together": sorted(set(self.crews.of.values())), "apart": self.crews.apart}
        self.report({"event": "study", "runs": told, "workers": self.workers, **parts})
        for outcome in self.outcomes:
            if outcome.status == "reused":
                self._tell(outcome, "reused", result=outcome.folder.result)
            elif outcome.status == "failed":
                self._tell(outcome, "failed", reason=outcome.reason, log="")
        try:
            while self.busy or any(o.status == "waiting" for o in self.outcomes):
                while len({id(one.process) for one in self.busy}) < self.workers and (following := self._next()):
                    self._start(following)
                time.sleep(POLL)
                self._look()
        except BaseException as error:
            self._stop_all()
            if isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt(self._how_to_go_on()) from None
            raise
        return self.outcomes

    def _known(self, job: Job, outcome: Outcome) -> None:
        """What an earlier study left of a run."""
        if job.finished(outcome.folder):
            outcome.status = "reused"
        elif (failure := outcome.folder.failure) and failure.startswith("diverged"):
            outcome.status, outcome.reason = "failed", failure

    def _next(self) -> list[tuple[Job, Outcome]]:
        """The next run to start, with its crew, or none where none should start now.

        Two workers that compile the same blocks would do the same work twice; the second waits until the first
        has filled the compiler's cache, and another model goes first. What died with its crew is tried again alone:
        memory may have been short.
        """
        compiling = {w.outcome.run.model.hash for w in self.busy if w.compiling}
        waiting = [pair for pair in zip(self.jobs, self.outcomes, strict=True) if pair[1].status == "waiting"]
        first = next((p for p in waiting if not (_compiles(p[0].run) and p[0].run.model.hash in compiling)), None)
        if first is None or first[1].attempts:
            return [first] if first else []
        crew = self.crews.of.get(first[0].run.hash, ())
        return [first, *(p for p in waiting if p is not first and p[0].run.hash in crew and not p[1].attempts)]

    def _start(self, crew: list[tuple[Job, Outcome]]) -> None:
        resumed = [bool(job.folder.checkpoint_steps()) for job, _ in crew]
        for job, _ in crew:
            with suppress(FileNotFoundError):
                (job.folder.path / "FAILED").unlink()
            run = job.run.model_dump(mode="json")
            write_json(job.folder.path / REQUEST, {**job.request, "run": run, "command": self.command})
        paths = tuple(job.folder.path.absolute() for job, _ in crew)
        first, log = crew[0][0], paths[0] / "worker.log"
        reads = tuple(dict.fromkeys(path for job, _ in crew for path in job.reads))
        process = self.place.start(Task(first.module, tuple(map(str, paths)), log, paths, reads, (first.run.data,)))
        for (job, outcome), again in zip(crew, resumed, strict=True):
            outcome.status = "running"
            tail = Tail(job.folder.path / "metrics.jsonl")
            self.busy.append(_Worker(job, outcome, process, log, tail, compiling=_compiles(job.run)))
            self._tell(outcome, "started", resumed=again, pid=process.pid)

    def _look(self) -> None:
        """Pass on what the workers wrote, and see who has ended."""
        for one in list(self.busy):
            status = one.process.poll()  # before the rows: what an ended worker wrote is all there
            self._follow(one)
            if status is not None:
                self.busy.remove(one)
                self._ended(one, status)

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

    def _ended(self, one: _Worker, status: int, *, asked: bool = False) -> None:
        outcome, folder = one.outcome, one.job.folder
        log = _last_lines(one.log)
        steps = folder.checkpoint_steps()
        step = steps[-1] if steps else 0
        if one.job.finished(folder):
            outcome.status = "done"
            if not log:
                (folder.path / "worker.log").unlink(missing_ok=True)
            self._tell(outcome, "finished", result=folder.result)
        elif asked and status in (STOPPED, LOST, -signal.SIGTERM):
            outcome.status = "stopped"
            self._tell(outcome, "stopped", step=step)
        elif folder.failure is None and struck_down(status) and outcome.attempts < self.retries and not asked:
            outcome.status, outcome.attempts = "waiting", outcome.attempts + 1
            told = {"attempt": outcome.attempts, "of": self.retries, "step": step, "log": log}
            self._tell(outcome, "retried", reason=_death(status, log), **told)
        else:
            outcome.status, outcome.reason = "failed", folder.failure or _death(status, log, outcome.attempts)
            if folder.failure is None:
                folder.mark_failed(outcome.reason)
            self._tell(outcome, "failed", reason=outcome.reason, log=log)

    def _stop_all(self) -> None:
        """Ask every worker for a checkpoint, wait for it, and end those that take too long."""
        for one in self.busy:
            with suppress(Exception):  # it is gone, or its machine is
                one.process.terminate()
        deadline = time.monotonic() + PATIENCE
        try:
            for one in self.busy:
                with suppress(Exception):
                    one.process.wait(max(deadline - time.monotonic(), 0))
        finally:  # a second Ctrl-C does not wait
            for one in self.busy:
                with suppress(Exception):
                    if one.process.poll() is None:
                        one.process.kill()
                    self._ended(one, one.process.wait(PATIENCE), asked=True)
            self.busy.clear()

    def _how_to_go_on(self) -> str:
        done = sum(o.status in ("done", "reused") for o in self.outcomes)
        return f"stopped with {done} of {len(self.outcomes)} runs finished; they stay usable. {self.again}"

    def _tell(self, outcome: Outcome, event: str, **fields: Any) -> None:
        self.report({"event": event, **_who(outcome), **fields})


def _who(outcome: Outcome) -> dict[str, Any]:
    run = outcome.run
    return {"run": outcome.folder.name, "name": run.name, "labels": dict(run.labels), "seed": run.seed}


def _compiles(run: RunSpec) -> bool:
    """Whether a run may compile, as far as its description says."""
    from assay.training.setup import wants_compiling

    return wants_compiling(run, run.train.budget or 0.0, "cpu") is True


def struck_down(status: int) -> bool:
    """Whether a worker was ended from outside: by a signal, with its machine, or asked to stop by somebody else."""
    return status < 0 or status in (LOST, STOPPED)


def _death(status: int, log: str, attempts: int = 0) -> str:
    """What can be said of a worker that ended without a word."""
    again = f"; it had been tried again {attempts} time{'s' * (attempts != 1)}" if attempts else ""
    if status < 0:
        name = signal.Signals(-status).name if -status in {s.value for s in signal.Signals} else str(-status)
        memory = ", as the system does when memory runs out" if name == "SIGKILL" else ""
        return f"the worker was ended by {name}{memory}{again}"
    if status == LOST:
        return f"the worker was lost with the process or the machine that had started it{again}"
    if status == STOPPED:
        return f"somebody else asked the worker to stop{again}"
    last = log.strip().splitlines()[-1:] or ["it said nothing"]
    return f"the worker ended with exit code {status}: {last[0]}"


def _begun_from(run: RunSpec) -> tuple[Path, ...]:
    """The folder or file of what a run begins from, where that is on this machine."""
    path = Path(run.init.source).expanduser().absolute() if run.init is not None else None
    return (path,) if path is not None and path.exists() else ()


def _last_lines(path: Path, lines: int = LOG_LINES) -> str:
    try:
        content = path.read_bytes()[-20_000:]
    except OSError:
        return ""
    return "\n".join(content.decode(errors="replace").strip().splitlines()[-lines:])
