"""NaN and spikes: the run stops or leaves the batch out as it was told, and the batch is kept."""

from __future__ import annotations

import json
import random
from pathlib import Path

from tools.faults.scene import Found, Scene, timed, wait_for_steps

from assay.runs import RunFolder

POISON = "".join(chr(33 + (i * 37) % 90) for i in range(64))
"""What no sentence looks like; its batches make a real spike of the loss."""
SKIP = ("--on-bad-loss", "skip")


def bad_loss(scene: Scene, trials: int, seed: int = 0) -> Found:
    """NaN in the gradients of a random batch, stopped and skipped, killed and resumed; a real spike of the loss."""
    options = f"bad-loss --trials {trials} --seed {seed}"
    found = Found("bad-loss", "NaN in a batch's gradients (injected); a spike of the loss (real)", options=options)
    order = random.Random(seed)
    with timed(found):
        for _ in range(trials):
            places = sorted(order.sample(range(3, 40), 2))
            _stops(scene, found, places)
            _skips(scene, found, places)
        kept = _spikes(scene, found)
    found.said = (
        f"{trials} runs stopped at NaN, {trials} skipped two batches each and resumed exactly after SIGKILL; of a "
        f"text with a page of noise, {kept} batches were left out as spikes, each with that page in it; all were kept"
    )
    return found


def _stops(scene: Scene, found: Found, places: list[int]) -> None:
    folder = scene.new()
    status, said = scene.command(scene.arguments(folder, 60, 2), _nan(places))
    found.trials += 1
    step = places[0] + 1
    found.check(status == 1 and f"diverged at step {step}: the loss is nan" in said, f"stop: status {status}: {said}")
    _kept(scene, found, folder, [step])


def _skips(scene: Scene, found: Found, places: list[int]) -> None:
    reference = scene.reference(60, 30, more=SKIP, patch=_nan(places))
    folder = scene.new()
    worker = scene.start(scene.arguments(folder, 60, 30, *SKIP), _nan(places))
    if wait_for_steps(folder, places[0] + 1, worker):  # right after the first that was left out
        worker.kill()
    worker.wait(120)
    status, said = scene.command(scene.arguments(folder, 60, 30, *SKIP), _nan(places))
    found.trials += 1
    wrong = said if status else reference.whole(folder)
    found.check(not wrong, f"skip: {wrong}")
    _kept(scene, found, folder, [place + 1 for place in places])


def _spikes(scene: Scene, found: Found) -> int:
    """Batches left out in a run over sentences and a page of noise."""
    source = scene.folder / "poisoned.txt"
    text = scene.text.read_text(encoding="utf-8")
    cut = len(text) // 2
    source.write_text(text[:cut] + POISON * 5 + text[cut:], encoding="utf-8")
    folder = scene.new()
    more = ("--data", source, *SKIP, "--spike", 10, "--lr", 1e-2, "--set", "train.on_bad_loss.most=40")
    status, said = scene.command(scene.arguments(folder, 220, 2, *more))
    found.trials += 1
    found.check(not status, said)
    skipped = [row for row in folder.metrics() if row.get("event") == "skipped"]
    found.check(bool(skipped), "no spike was found")
    for row in skipped:
        scene.command(["inspect", str(folder.path), "--batch", str(row["step"]), "--json"])
        read = " ".join(row["input"] for row in json.loads(scene.log.read_text(encoding="utf-8"))["rows"])
        found.check(any(POISON[i : i + 8] in read for i in range(0, 56, 8)), f"step {row['step']} holds no noise")
    return len(skipped)


def _kept(scene: Scene, found: Found, folder: RunFolder, steps: list[int]) -> None:
    """Every bad batch is there and can be shown."""
    files = {path.name for path in Path(folder.path / "bad_batches").glob("*")}
    wanted = {f"step-{step}.{kind}" for step in steps for kind in ("npz", "json")}
    found.check(files == wanted, f"{folder.path.name}: bad_batches holds {sorted(files)}, not {sorted(wanted)}")
    for step in steps:
        status, said = scene.command(["inspect", str(folder.path), "--batch", str(step)])
        found.check(not status and said.startswith(f"Step {step}:"), f"inspect --batch {step}: {said}")


def _nan(places: list[int]) -> str:
    return f"nan:{','.join(map(str, places))}"
