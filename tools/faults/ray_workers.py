"""Workers of a study on Ray killed, or Ray's processes that hold them: each run goes on elsewhere, to the same end."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from tools.faults.scene import Found, Reference, Scene, timed

from assay.runs import StudyFolder
from assay.spec.study import RunSpec, StudySpec
from assay.studies.places import Here, open_place
from assay.studies.runner import run_all

STEPS, CHECKPOINTS, WORKERS = 600, 60, 2
WHOM = ("the worker", "Ray's process that holds it")


def ray_workers(scene: Scene, trials: int, seed: int = 0) -> Found:
    """Do a study of `trials` runs on a local cluster, kill each run once after a random step, compare with no kill.

    The runs without a kill are done on this machine without Ray: what Ray carries to and fro changes nothing either.

    Raises:
        UserError: ray is not installed.
    """
    options = f"ray --trials {trials} --seed {seed}"
    found = Found(
        "ray",
        "SIGKILL of a worker, or of Ray's process that holds it, in a study on Ray (one machine)",
        options=options,
    )
    with timed(found), open_place("ray", workers=WORKERS) as place:
        runs = _runs(scene, trials)
        with Here() as here:
            whole = run_all(runs, StudyFolder(scene.folder / "whole"), workers=1, place=here)
        killer = Killer(StudyFolder(scene.folder / "killed"), runs, random.Random(seed))
        outcomes = run_all(runs, killer.study, workers=WORKERS, place=place, retries=2, progress=killer)
        for outcome, other in zip(outcomes, whole, strict=True):
            name = outcome.folder.name
            wrong = outcome.reason or (other.reason and f"without a kill: {other.reason}")
            wrong = wrong or Reference(other.folder, 0.0).whole(outcome.folder)
            found.check(not wrong, f"{name}: {wrong}")
            hit = killer.hit.get(name)
            found.check(hit is not None, f"{name}: its worker ended before it could be killed")
            if hit is None:
                continue
            found.trials += 1
            told = killer.retried.get(name, [])
            found.check(len(told) == 1, f"{name}: tried again {len(told)} times")
            found.check(killer.resumed[name] == bool(told and told[0]), f"{name}: it did not go on from {told}")
            found.check(not Path(f"/proc/{hit[1]}").exists(), f"{name}: the worker that was given up lives on")
    whom = Counter(whom for whom, _ in killer.hit.values())
    later = sum(bool(steps and steps[0]) for steps in killer.retried.values())
    found.said = (
        f"killed: {', '.join(f'{who} {number}' for who, number in whom.items())}; {later} of {len(killer.hit)} went on "
        "from a checkpoint, the others had none yet; each equals, bit for bit, the run on this machine without Ray and "
        "without a kill"
    )
    return found


class Killer:
    """Told of a study's events, it kills each run's worker, or what holds it, once, after a random step.

    Args:
        study: where the runs are.
        runs: its runs; of every two, one loses its worker and one what holds it.
        order: draws the steps.
    """

    def __init__(self, study: StudyFolder, runs: list[RunSpec], order: random.Random) -> None:
        """See the class."""
        self.study = study
        self.plan = {run.hash: (WHOM[i % 2], order.randint(1, STEPS // 2)) for i, run in enumerate(runs)}
        self.hit: dict[str, tuple[str, int]] = {}
        """Run to whom was killed, and the worker's process."""
        self.retried: dict[str, list[int]] = {}
        """Run to the steps of the checkpoints that it went on from."""
        self.resumed: dict[str, bool] = {}
        """Run to whether it went on from a checkpoint when it was last started."""

    def __call__(self, event: dict[str, Any]) -> None:
        """Take an event."""
        run = event.get("run", "")
        if event["event"] == "started":
            self.resumed[run] = event["resumed"]
        elif event["event"] == "retried":
            self.retried.setdefault(run, []).append(event["step"])
        elif event["event"] == "progress" and (worker := worker_of(self.study, run)) is not None:
            whom, step = self.plan[run]
            if run not in self.hit and event["step"] >= step:
                with suppress(OSError):  # it has ended
                    victim = worker if whom == WHOM[0] else holder(worker)
                    os.kill(victim, signal.SIGKILL)
                    self.hit[run] = whom, worker


def worker_of(study: StudyFolder, run: str) -> int | None:
    """The process of this machine, below a berth, whose output is a run's log; None: there is none."""
    log = str((study.run(run).path / "worker.log").absolute())
    for entry in Path("/proc").iterdir():
        with suppress(OSError):  # not a process, or gone
            said = os.readlink(entry / "fd" / "1") if entry.name.isdigit() else ""
            if said.endswith(log) and "assay-berth-" in said:
                return int(entry.name)
    return None


def holder(worker: int) -> int:
    """Ray's process that started the process that a worker was forked from.

    Raises:
        ProcessLookupError: the worker is an orphan.
    """
    above = _parent(_parent(worker))
    if b"ray::" not in Path(f"/proc/{above}/cmdline").read_bytes():
        raise ProcessLookupError(above)
    return above


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _runs(scene: Scene, number: int) -> list[RunSpec]:
    fields = {
        "model": {"width": 32, "layers": 2, "attention": {"heads": 2}, "dropout": 0.1},
        "train": {
            "steps": STEPS, "batch_size": 4, "length": 32, "checkpoints": CHECKPOINTS, "evaluations": 4,
            "compile": False,
        },
        "data": {"source": str(scene.text), "tokenizer": "bytes"},
        "vary": {},
        "seeds": number,
    }  # fmt: skip
    return StudySpec.from_dict(fields).runs()
