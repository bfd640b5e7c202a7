"""A full disk at every place that writes: one clear message, nothing lost, and the run goes on when there is room.

The disk is a tmpfs of its own, filled by a file that leaves a random number of bytes; mounting it takes root.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tools.faults.scene import Found, Reference, Scene, timed

from assay.spec.study import StudySpec

SIZE = 8 << 20
PAGE = 4096
KINDS = {
    "checkpoints/": "a checkpoint",
    "metrics.jsonl": "the metrics",
    "DONE": "the result",
    "bad_batches": "a bad batch",
    "report.html": "the report",
    "results.json": "the study's results",
}


def disk(scene: Scene, trials: int, seed: int = 0, *, report: bool = True) -> Found:
    """Fill the disk so that a random number of bytes is left, train until it ends, make room, resume.

    Half of the runs write checkpoints at every other step, half only at the end, so that metrics meet the end too.
    """
    options = f"disk --trials {trials} --seed {seed}"
    found = Found("disk", "disk full (a tmpfs of 8 MiB, filled but for a random rest)", options=options)
    order, where = random.Random(seed), Counter[str]()
    with timed(found), small_disk(scene.folder / "disk") as place:
        often, once = scene.reference(60, 30), scene.reference(60, 1)
        for trial in range(trials):
            checkpoints, reference = ((30, often), (1, once))[trial % 2]
            _train(scene, found, where, place, order.randrange(_used(reference, checkpoints)), checkpoints, reference)
        _bad_batch(scene, found, where, place)
        if report:
            _report(scene, found, where, place)
    there = ", ".join(f"{number} at {what}" for what, number in where.most_common())
    found.said = (
        f"full {there}; each told in one message with exit status 2, resumed to the same end once there was room"
    )
    return found


@contextlib.contextmanager
def small_disk(path: Path, size: int = SIZE) -> Iterator[Path]:
    """A disk of its own at a path, for a while.

    Raises:
        PermissionError: this process may not mount one.
    """
    path.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "assay-faults", str(path)], capture_output=True, text=True
    )
    if done.returncode:
        raise PermissionError(f"no tmpfs can be mounted here ({done.stderr.strip()})")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


def fill(place: Path, leave: int) -> Path:
    """A file that leaves so many bytes of a disk."""
    ballast = place / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(shutil.disk_usage(place).free - leave, 1))
    return ballast


def _used(reference: Reference, checkpoints: int) -> int:
    """Bytes to draw the room from: all that a run takes; of the run without checkpoints on its way, all but those."""
    small = sum(f.stat().st_size for f in reference.folder.path.iterdir() if f.is_file()) + 8 * PAGE
    if checkpoints == 1:
        return small
    return small + 2 * max(sum(f.stat().st_size for f in c.iterdir()) for c in reference.folder.checkpoints.iterdir())


def _train(
    scene: Scene, found: Found, where: Counter[str], place: Path, leave: int, checkpoints: int, reference: Reference
) -> None:
    folder = scene.new(place)
    ballast = fill(place, leave)
    status, said = scene.command(scene.arguments(folder, 60, checkpoints))
    ballast.unlink()
    if not status:  # there was room enough
        where["no place, there was room"] += 1
    else:
        found.trials += 1
        where[_place(said)] += 1
        right = status == 2 and "the disk is full" in said and "Free some space" in said and "Traceback" not in said
        found.check(right, f"{leave:,} bytes left: status {status}: {said}")
        wrong = reference.partly(folder)
        found.check(not wrong, f"{leave:,} bytes left: {wrong}")
        status, said = scene.command(scene.arguments(folder, 60, checkpoints))
    wrong = said if status else reference.whole(folder)
    found.check(not wrong, f"{leave:,} bytes left: {wrong}")
    shutil.rmtree(folder.path)


def _bad_batch(scene: Scene, found: Found, where: Counter[str], place: Path) -> None:
    """The disk ends as a bad batch is kept: the metrics have room in the page that they have begun."""
    skip = ("--on-bad-loss", "skip")
    reference = scene.reference(20, 1, more=skip, patch="nan:0")
    folder = scene.new(place)
    folder.path.mkdir()
    for name in ("run.json", "spec.json", "assay_tokenizer.json"):  # as if begun and killed
        shutil.copy(reference.folder.path / name, folder.path)
    (folder.path / "metrics.jsonl").write_bytes(b"")
    (folder.path / "bad_batches").mkdir()
    for leave in range(PAGE, 16 * PAGE, PAGE):
        ballast = fill(place, leave)
        status, said = scene.command(scene.arguments(folder, 20, 1, *skip), "nan:0")
        ballast.unlink()
        if "bad_batches" in said:
            break
    found.trials += 1
    where[_place(said)] += 1
    found.check(status == 2 and "bad_batches" in said and "the disk is full" in said, f"bad batch: {status}: {said}")
    status, said = scene.command(scene.arguments(folder, 20, 1, *skip), "nan:0")
    wrong = said if status else reference.whole(folder)
    found.check(not wrong, f"bad batch: {wrong}")
    shutil.rmtree(folder.path)


def _report(scene: Scene, found: Found, where: Counter[str], place: Path) -> None:
    """A study that is finished; its report is made again on the full disk, and the earlier one stays."""
    out = place / "study"
    study = scene.folder / "study.toml"
    fields = {
        "model": {"width": 32, "layers": 2, "attention": {"heads": 2}},
        "train": {"steps": 5, "batch_size": 4, "length": 32, "compile": False},
        "data": {"source": str(scene.text), "tokenizer": "bytes"},
        "vary": {"norm": ["layernorm", "rmsnorm"]},
        "seeds": 1,
    }
    study.write_text(StudySpec.from_dict(fields).to_toml(), encoding="utf-8")
    arguments = ["compare", str(study), "--out", str(out), "--workers", "1"]
    status, said = scene.command(arguments)
    found.check(not status, f"the study itself: {said}")
    before = {name: (out / name).read_bytes() for name in ("report.html", "results.json")}
    for leave in (0, 2 * PAGE, len(before["report.html"]) // 2):
        ballast = fill(place, leave)
        status, said = scene.command([*arguments, "--resume"])
        ballast.unlink()
        found.trials += 1
        where[_place(said)] += 1
        right = status == 2 and "the disk is full" in said and "Traceback" not in said
        found.check(right, f"report, {leave:,} bytes left: {status}: {said}")
        found.check((out / "report.html").read_bytes() == before["report.html"], "the earlier report is gone")
    status, said = scene.command([*arguments, "--resume"])
    found.check(not status, f"the study, when there is room: {said}")


def _place(said: str) -> str:
    """What could not be written, by the message."""
    file = re.sub(r"\s", "", said.partition("the disk is full")[0])
    return next((what for part, what in KINDS.items() if part in file), "the run's first files")
