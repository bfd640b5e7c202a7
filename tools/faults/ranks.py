"""One rank of several killed under torchrun: all of them end, and the resume is exact."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from tools.faults.scene import ROOT, Found, Reference, Scene, end, never_came, timed, wait_for_steps

from assay.errors import UserError
from assay.runs import RunFolder

MOST = 60.0
"""Seconds that the others have to end; torchrun itself waits 30 before it kills them."""
STEPS, CHECKPOINTS, RANKS = 200, 50, 2


def ranks(scene: Scene, trials: int, seed: int = 0) -> Found:
    """Kill one of two ranks after a random step, see all end, go on with the same command, compare the end."""
    found = Found(
        "rank", f"SIGKILL of one of {RANKS} ranks under torchrun", options=f"rank --trials {trials} --seed {seed}"
    )
    order, took = random.Random(seed), list[float]()
    with timed(found):
        whole = scene.new()
        process = launch(scene, whole)
        if finished(process):
            raise RuntimeError(f"the run itself fails: {scene.log.read_text()[-2000:]}")
        reference = Reference(whole, 0.0)
        for _ in range(trials):
            folder = scene.new()
            process = launch(scene, folder)
            if not wait_for_steps(folder, order.randint(1, STEPS - 20), process):
                found.check(False, never_came(process, scene))
                continue
            began = time.monotonic()
            os.kill(order.choice(_children(process.pid)), signal.SIGKILL)
            found.trials += 1
            try:
                status = process.wait(MOST)
            except subprocess.TimeoutExpired:
                process.kill()
                status = process.wait()
            took.append(time.monotonic() - began)
            found.check(status == 1 and took[-1] < MOST, f"ended with {status} after {took[-1]:.0f} s")
            wrong = reference.partly(folder)
            found.check(not wrong, f"after the kill: {wrong}")
            status = finished(launch(scene, folder))
            wrong = scene.log.read_text()[-300:] if status else reference.whole(folder)
            found.check(not wrong, f"after the resume: {wrong}")
    found.said = (
        f"all ranks had ended {max(took, default=0.0):.1f} s after the kill at the latest, each run resumed to the end "
        "of the one without a break"
    )
    return found


def launch(scene: Scene, folder: RunFolder) -> subprocess.Popen[bytes]:
    """The run on two ranks of this machine, its output in the scene's log."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(RANKS)]
    command += ["-m", "assay", *scene.arguments(folder, STEPS, CHECKPOINTS)]
    with scene.log.open("wb") as log:
        return subprocess.Popen(
            command, cwd=ROOT, stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        )


def finished(process: subprocess.Popen[bytes], most: float = 600.0) -> int:
    """How a run without a fault ended.

    Raises:
        UserError: it goes on after `most` seconds; it is ended.
    """
    try:
        return process.wait(most)
    except subprocess.TimeoutExpired:
        end(process)
        raise UserError(
            f"a run of {STEPS} steps on {RANKS} ranks was not done after {most:.0f} s.",
            "Other work has the processor: wait for its end.",
        ) from None


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
