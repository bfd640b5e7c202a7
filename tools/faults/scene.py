"""What faults happen to: a run of about a second, what it gives when nothing happens, and how two of them compare."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assay.runs import RunFolder, read_json, verify_files
from assay.spec.model import ModelSpec
from assay.studies.processes import Nursery

ROOT = Path(__file__).parents[2]
WORDS = "the model reads a text and learns to say what comes next in it after some time".split()  # noqa: SIM905
LOADED = (
    "torch._dynamo", "assay.training.loop", "assay.training.start", "assay.published.source", "assay.studies.vary",
    "assay.cli.train", "assay.cli.train_view", "tools.faults.worker",
)  # fmt: skip
"""What a run loads, in memory before the first begins: torch._dynamo alone takes longer than the run."""
TIMES = {"seconds", "tokens_per_second", "eval_seconds", "setup_seconds", "peak_bytes"}
"""Fields that differ between two runs of the same."""


@dataclass
class Found:
    """What a fault's trials showed: a row of the table."""

    name: str
    fault: str
    """What was done, in a few words."""
    trials: int = 0
    wrong: list[str] = field(default_factory=list)
    """What did not go as it should, one sentence each; empty: all is well."""
    said: str = ""
    """What else was seen."""
    options: str = ""
    """Of the command that does this row again."""
    seconds: float = 0.0

    def check(self, right: bool, sentence: str) -> None:
        """Note what is wrong."""
        if not right:
            self.wrong.append(sentence)


class Scene:
    """A folder to work in with a text and a small model, and forked workers that run the command line there.

    A context manager: at its end no worker can be started.

    Args:
        folder: an empty folder.
    """

    def __init__(self, folder: Path) -> None:
        """See the class."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        os.environ["ASSAY_CACHE"] = str(folder / "cache")
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        order = random.Random(0)
        sentences = [" ".join(order.choices(WORDS, k=order.randint(4, 12))) + "." for _ in range(500)]
        self.text = folder / "text.txt"
        self.text.write_text("\n".join(sentences), encoding="utf-8")
        self.spec = folder / "model.toml"
        model = ModelSpec(name="small", width=32, layers=2, attention={"heads": 2}, dropout=0.1)  # type: ignore[arg-type]
        self.spec.write_text(model.to_toml(), encoding="utf-8")
        self.nursery = Nursery(LOADED)
        self._number = 0
        self._references: dict[tuple[object, ...], Reference] = {}

    def __enter__(self) -> Scene:
        """Itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Let the process go that workers are forked from."""
        self.nursery.__exit__()

    def new(self, place: Path | None = None) -> RunFolder:
        """A run's folder that does not exist yet."""
        self._number += 1
        return RunFolder((place or self.folder) / f"run-{self._number}")

    def arguments(self, folder: RunFolder, steps: int = 60, checkpoints: int = 30, *more: object) -> list[str]:
        """Of `assay train`, for a run in a folder: to begin, or to go on with it."""
        sizes = {
            "--steps": steps, "--batch-size": 4, "--length": 32, "--tokenizer": "bytes", "--data": self.text,
            "--out": folder.path,
        }  # fmt: skip
        sets = {"train.checkpoints": checkpoints, "train.evaluations": 4, "train.compile": "false"}
        given = ["train", self.spec, *(x for pair in sizes.items() for x in pair)]
        given += [x for name, value in sets.items() for x in ("--set", f"{name}={value}")]
        if (folder.path / "run.json").is_file():
            given.append("--resume")
        return [str(x) for x in (*given, *more)]

    def start(self, arguments: Sequence[str], patch: str = "") -> Any:
        """A worker that runs the command line with these arguments; `patch`: see `tools.faults.worker`."""
        return self.nursery.start("tools.faults.worker", [patch, *arguments], self.log)

    def command(self, arguments: Sequence[str], patch: str = "") -> tuple[int, str]:
        """Run the command line to its end: its exit status, and what it said."""
        status = self.start(arguments, patch).wait(600)
        return status, " ".join(self.log.read_text(encoding="utf-8", errors="replace").split())

    @property
    def log(self) -> Path:
        """What the last worker said."""
        return self.folder / "worker.log"

    def reference(self, *size: int, more: Sequence[object] = (), patch: str = "") -> Reference:
        """The run when nothing happens to it. The first of all is done twice: it fills caches, and takes longer."""
        key = (*size, *more, patch)
        for _ in range(0 if key in self._references else 1 if self._references else 2):
            folder, began = self.new(), time.perf_counter()
            status, said = self.command(self.arguments(folder, *size, *more), patch or "keep")
            if status:
                raise RuntimeError(f"the run itself fails: {said}")
            self._references[key] = Reference(folder, time.perf_counter() - began)
        return self._references[key]


class Reference:
    """A run to which nothing happened, with all its checkpoints' checksums where they were kept."""

    def __init__(self, folder: RunFolder, seconds: float) -> None:
        """See the class."""
        self.folder, self.seconds = folder, seconds
        self.rows = rows(folder)
        self.sums = {step: sums(folder, step) for step in folder.checkpoint_steps()}

    def whole(self, folder: RunFolder) -> str:
        """What differs in a finished run; empty: weights, losses and results are the same, bit for bit."""
        if not folder.done:
            return f"{folder.path.name} is not finished"
        if sums(folder)["model.safetensors"] != sums(self.folder)["model.safetensors"]:
            return f"{folder.path.name}: the weights differ"
        if (read := rows(folder)) != self.rows:
            place = next((i for i, (a, b) in enumerate(zip(read, self.rows, strict=False)) if a != b), len(read))
            there = [x[place] if place < len(x) else "nothing" for x in (read, self.rows)]
            return f"{folder.path.name}: the metrics differ in row {place}: {there[0]}, and without a break {there[1]}"
        if plain(folder.result) != plain(self.folder.result):
            return f"{folder.path.name}: the results differ"
        left = [entry.name for entry in folder.checkpoints.iterdir()]
        return "" if len(left) == 1 else f"{folder.path.name}: checkpoints hold {', '.join(sorted(left))}"

    def partly(self, folder: RunFolder) -> str:
        """What is wrong with an unfinished run's newest checkpoint and metrics; empty: nothing."""
        try:
            read = rows(folder)
            steps = folder.checkpoint_steps()
            if steps:
                # What ends a run deletes the moments: nothing goes on from there.
                verify_files(folder.checkpoint(steps[-1]), ["model.safetensors"] if folder.done else None)
        except Exception as error:
            return str(error)
        if read != self.rows[: len(read)]:
            return f"{folder.path.name}: rows differ from the reference's"
        kept_all = len(self.sums) > 1
        if steps and kept_all and sums(folder, steps[-1]) != self.sums.get(steps[-1]):
            return f"{folder.path.name}: the checkpoint of step {steps[-1]} differs"
        return ""


def sums(folder: RunFolder, step: int | None = None) -> dict[str, str]:
    """Checksums of a checkpoint's tensors; None: the newest."""
    step = folder.checkpoint_steps()[-1] if step is None else step
    found = read_json(folder.checkpoint(step) / "checksums.json")
    return {name: value for name, value in found.items() if name.endswith(".safetensors")}


def rows(folder: RunFolder) -> list[str]:
    """What the metrics say, without times and stops."""
    told = (row for row in folder.metrics() if row.get("event") not in ("stopped", "ranks"))  # of the break itself
    return [json.dumps(plain(row), sort_keys=True) for row in told]


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row without what differs from run to run."""
    return {name: repr(value) for name, value in row.items() if name not in TIMES}


@contextmanager
def timed(found: Found) -> Iterator[Found]:
    """Note how long a row took."""
    began = time.perf_counter()
    yield found
    found.seconds += time.perf_counter() - began


def wait_for_steps(folder: RunFolder, steps: int, worker: Any, most: float = 120.0) -> bool:
    """Whether a worker has done so many steps; False where it ended before."""
    until = time.monotonic() + most
    while time.monotonic() < until:
        with (
            open(folder.path / "metrics.jsonl", "rb")
            if (folder.path / "metrics.jsonl").exists()
            else open(os.devnull, "rb") as file
        ):
            if file.read().count(b'"kind": "train"') >= steps:
                return True
        if worker.poll() is not None:
            return False
        time.sleep(0.002)
    return False


def end(worker: Any) -> None:
    """Ask a process to end, then make it. torchrun asks its ranks too; killed at once, it would leave them behind."""
    worker.terminate()
    try:
        worker.wait(60)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()


def never_came(worker: Any, scene: Scene) -> str:
    """Why `wait_for_steps` said False; a worker that still runs (a crowded machine) is ended."""
    if worker.poll() is None:
        end(worker)
        return "the run was not there in time; other work has the processor"
    return f"the run ended before the fault: {scene.log.read_text(errors='replace')[-300:]}"


def named(status: int) -> str:
    """A worker's end in a word."""
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"


assert sys.platform != "win32", "workers are forked, and signals are POSIX's"
