"""Ctrl-C and SIGTERM: saved and out within seconds, and the resume is exact."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time

from tools.faults.scene import Found, Scene, named, never_came, timed, wait_for_steps

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}
MOST = 5.0
"""Seconds that saving and leaving may take."""


def signals(scene: Scene, trials: int, seed: int = 0) -> Found:
    """Send a signal after a random number of steps, `trials` times each; measure the seconds until the process ends."""
    found = Found(
        "signal", "SIGTERM and Ctrl-C (SIGINT) after a random step", options=f"signal --trials {trials} --seed {seed}"
    )
    order, took = random.Random(seed), {number: list[float]() for number in STATUS}
    with timed(found):
        reference = scene.reference(60, 2)
        for trial in range(2 * trials):
            number = list(STATUS)[trial % 2]
            folder = scene.new()
            worker = scene.start(scene.arguments(folder, 60, 2))
            if not wait_for_steps(folder, order.randint(1, 40), worker):
                found.check(False, never_came(worker, scene))
                continue
            began = time.perf_counter()
            os.kill(worker.pid, number)
            try:
                status = worker.wait(60)
            except subprocess.TimeoutExpired:
                worker.kill()
                found.check(False, f"{number.name}: still there after 60 s")
                continue
            took[number].append(time.perf_counter() - began)
            found.trials += 1
            done = sum(row["kind"] == "train" for row in folder.metrics())
            found.check(status == STATUS[number], f"{number.name}: {named(status)} instead of {STATUS[number]}")
            found.check(folder.checkpoint_steps() == [done], f"{number.name}: no checkpoint of step {done}")
            found.check("--resume" in scene.log.read_text(), f"{number.name}: no word on how to go on")
            status, said = scene.command(scene.arguments(folder, 60, 2))
            wrong = reference.whole(folder) if not status else said
            found.check(not wrong, wrong)
    slowest = {number.name: max(times, default=0.0) for number, times in took.items()}
    for name, seconds in slowest.items():
        found.check(seconds < MOST, f"{name}: {seconds:.1f} s until the process had ended")
    slow = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in slowest.items())
    found.said = f"slowest from signal to end: {slow}; exit status 143 and 130; each resumed to the same end"
    return found
