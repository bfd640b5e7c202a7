"""SIGKILL at random moments of training: every resume is exact, and no checkpoint is ever half there."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

from tools.faults.scene import Found, Reference, Scene, named, timed

from assay.runs import RunFolder


def kills(scene: Scene, trials: int, seed: int = 0) -> Found:
    """Kill a run's process at moments drawn evenly over the time that the whole run takes, resume, and so on.

    After each kill the newest checkpoint must verify and hold, bit for bit, what the run without a break had at that
    step; each run that reaches its end must equal that run.
    """
    found = Found("kill", "SIGKILL at random moments of `assay train`", options=f"kill --trials {trials} --seed {seed}")
    order, where, finished = random.Random(seed), Counter[str](), 0
    with timed(found):
        reference = scene.reference(60, 30)
        while found.trials < trials:
            folder = scene.new()
            while not folder.done and len(found.wrong) < 20:
                before = _leftovers(folder)
                worker = scene.start(scene.arguments(folder, 60, 30))
                if found.trials < trials:
                    moment = time.monotonic() + order.uniform(0, reference.seconds)
                    while time.monotonic() < moment and worker.poll() is None:
                        time.sleep(0.001)
                    worker.kill()
                status = worker.wait(120)
                if status == -9:
                    found.trials += 1
                    where[_where(folder, before)] += 1
                    wrong = reference.partly(folder)
                    found.check(not wrong, f"after kill {found.trials}: {wrong}")
                elif status:
                    found.check(False, f"a resume ended with {named(status)}: {scene.log.read_text()[-300:]}")
                    break
            finished += 1
            wrong = reference.whole(folder)
            found.check(not wrong, wrong)
    there = ", ".join(f"{number} {place}" for place, number in where.most_common())
    found.said = f"{finished} runs finished, all bit for bit the run without a break; killed {there}"
    return found


def _leftovers(folder: RunFolder) -> set[Path]:
    return {entry for entry in folder.path.rglob("*") if entry.name.startswith(".")}


def _where(folder: RunFolder, before: set[Path]) -> str:
    """What a killed process was doing, by what it left."""
    if not (folder.path / "run.json").is_file():
        return "before the run began"
    new = _leftovers(folder) - before
    if any(entry.parent == folder.checkpoints for entry in new):
        return "while writing a checkpoint"
    if len(folder.checkpoint_steps()) > 1:
        return "while deleting the checkpoint before"
    if new:
        return "while writing a small file"
    data = (folder.path / "metrics.jsonl").read_bytes() if (folder.path / "metrics.jsonl").is_file() else b""
    if data and not data.endswith(b"\n"):
        return "within a line of metrics"
    return "between checkpoints" if folder.checkpoint_steps() else "before the first checkpoint"


__all__ = ["Reference", "kills"]
