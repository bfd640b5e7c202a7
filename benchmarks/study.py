"""A whole study in wall time: 9 runs of 1.3M parameters (6 layers, 128 wide, batch 16 x 128), from cold processes.

    python -m benchmarks.study [--steps 24] [--seconds 100] [--json FILE]

assay: `assay.compare` with as many workers as cores, its evaluation, checkpoints and report included. transformers:
its Trainer, eager, all cores, one run after the other (a final evaluation and checkpoint each). The best compiled
peers: transformers' and litgpt's model with `torch.compile` in a plain loop, runs shared out to as many processes as
cores, one thread each, compilation included. All read the same tokens, tokenised beforehand, and evaluate the same
held-out text: peers once, at the end, assay before the first step too. Contenders take turns; `--seconds` decides how
many rounds there are, one at the least, and one round has no spread.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.command import command_line
from benchmarks.result import Check, Result
from benchmarks.rows import cannot, of_times

__all__ = ["description", "suite"]

RUNS, STEPS, LONG_STEPS = 9, 24, 200
TOKENIZER = {"kind": "bpe", "vocab_size": 512}


def description(steps: int, runs: int = RUNS, **model: Any) -> dict[str, Any]:
    """The study in assay's words: three learning rates, `runs` / 3 seeds each."""
    rates = [5e-4, 1e-3, 2e-3][: min(runs, 3)]
    return {
        "model": {
            "width": 128, "layers": 6, "context": 128, "norm": {"kind": "rmsnorm", "eps": 1e-6},
            "attention": {"heads": 4}, "feedforward": {"width": 344}, "head": {"tied": False}, **model,
        },
        "train": {"steps": steps, "batch_size": 16, "length": 128, "evaluations": 1, "checkpoints": 1},
        "data": {"source": "stdlib", "tokenizer": TOKENIZER},
        "vary": {"train.optimizer.learning_rate": rates},
        "seeds": max(runs // 3, 1),
    }  # fmt: skip


def tokens(path: Path, rows: int, length: int = 129) -> Path:
    """The study's training tokens as rows [rows, length], for peers; assay's cache is warm after that."""
    from assay.spec.data import DataSpec
    from assay.training.text import load_text

    text = load_text(DataSpec.model_validate({"source": "stdlib", "tokenizer": TOKENIZER}))
    flat = np.asarray(text.train.tokens[: rows * length]).astype(np.int64)
    np.save(path, np.resize(flat, (rows, length)))
    return path


def heldout(path: Path, length: int = 128) -> Path:
    """The text of assay's evaluations as rows [rows, length], for peers; what does not fill a row is left out."""
    from assay.spec.data import DataSpec
    from assay.training.setup import curve_windows
    from assay.training.text import load_text

    text = load_text(DataSpec.model_validate({"source": "stdlib", "tokenizer": TOKENIZER}))
    parts = [ids for window in curve_windows(text) for ids in (window.prefix_ids, window.continuation_ids)]
    flat = np.concatenate(parts).astype(np.int64)
    np.save(path, flat[: len(flat) // length * length].reshape(-1, length))
    return path


def run_all(commands: list[list[str]], threads: int) -> float:
    """Seconds until all processes that were started together have ended. Raises RuntimeError where one fails."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, str(threads)), "TOKENIZERS_PARALLELISM": "false"}
    began = time.perf_counter()
    going = [
        subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for words in commands
    ]
    said = [process.communicate()[1] for process in going]
    took = time.perf_counter() - began
    for process, words in zip(going, said, strict=True):
        if process.returncode:
            raise RuntimeError((words.strip().splitlines() or ["it ended without a word"])[-1][:300])
    return took


class Contest:
    """The three ways to run the study, and the last training losses that each reached."""

    def __init__(self, folder: Path, steps: int, runs: int, cores: int) -> None:
        """Args: folder: for runs and tokens; steps: of each run; cores: workers, or threads of one."""
        self.folder, self.steps, self.runs, self.cores, self.turn = folder, steps, runs, cores, 0
        self.rows, self.held = tokens(folder / "rows.npy", 16 * min(steps, 64)), heldout(folder / "held.npy")
        self.losses: dict[str, float] = {}

    def assay(self) -> float:
        """`assay.compare` in a process of its own."""
        out = self.folder / f"study-{self.turn}"
        self.turn += 1
        given = f"{description(self.steps, self.runs)!r}, out={str(out)!r}, workers={self.cores}"
        code = f"import assay; assay.compare({given})"
        took = run_all([[sys.executable, "-c", code]], 1)
        last = []
        for file in out.glob("runs/*/metrics.jsonl"):
            rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
            last.append([row["loss"] for row in rows if row.get("kind") == "train"][-1])
        if len(last) != self.runs:
            raise RuntimeError(f"{len(last)} of {self.runs} runs were done")
        self.losses["assay"] = float(np.mean(last))
        return took

    def peer(self, way: str, workers: int) -> Callable[[], float]:
        """One of `study_peer`'s ways, its runs shared out to workers."""

        def run() -> float:
            files = [self.folder / f"{way}-{worker}.json" for worker in range(workers)]
            commands = []
            for worker, file in enumerate(files):
                numbers = ",".join(map(str, range(worker, self.runs, workers)))
                commands.append([
                    sys.executable, "-W", "ignore", "-m", "benchmarks.study_peer", way, "--runs", numbers, "--steps",
                    str(self.steps), "--rows", str(self.rows), "--held", str(self.held), "--threads",
                    str(max(self.cores // workers, 1)), "--out", str(file),
                ])  # fmt: skip
            took = run_all(commands, max(self.cores // workers, 1))
            found = [loss for file in files for loss in json.loads(file.read_text(encoding="utf-8"))]
            self.losses[way] = float(np.mean(found))
            return took

        return run


def suite(seconds: float, long: bool, *, steps: int | None = None, runs: int = RUNS) -> list[Result]:
    """The row of the suite. Long: 200 steps a run."""
    steps = steps or (LONG_STEPS if long else STEPS)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        contest = Contest(Path(folder), steps, runs, cores)
        trainer, compiled, other = "transformers' Trainer, in turn", "transformers/compiled", "litgpt/compiled"
        ways = {"assay": contest.assay, trainer: contest.peer("trainer", 1)}
        ways |= {f"{compiled}, workers": contest.peer("transformers", cores)}
        if long:
            ways |= {f"{other}, workers": contest.peer("litgpt", cores)}
        times: dict[str, list[float]] = {name: [] for name in ways}
        reasons: dict[str, str] = {}
        end = time.perf_counter() + seconds
        while not times["assay"] or time.perf_counter() < end:
            for name, way in ways.items():
                if name in reasons:
                    continue
                try:
                    times[name].append(way())
                except RuntimeError as error:
                    if name == "assay":
                        raise
                    reasons[name] = str(error)
        out = Result(
            "study", f"A study of {runs} runs of 1.3M parameters, wall time", "training",
            f"6 layers, 128 wide, batch 16 x 128, {steps} steps a run, vocabulary 512, float32, {cores} cores, cold "
            "processes",
            "s for the study", rounds=len(times["assay"]),
        )  # fmt: skip
        out.rows = of_times({name: values for name, values in times.items() if name not in reasons}, "assay", factor=1)
        out.rows += cannot(reasons)
        if not long:
            out.notes.append("litgpt compiled in workers, and 200 steps a run, where start-up weighs less: --long.")
        mine = contest.losses["assay"]
        out.checks = [
            Check(f"mean last training loss, {way}, another order of the data", abs(loss - mine) / mine, 0.1)
            for way, loss in contest.losses.items()
            if way != "assay"
        ]
        out.aim_at(trainer, 2.5)
        best = min((r for r in out.rows if r.ratio and "workers" in r.who), key=lambda r: r.ratio.median, default=None)  # type: ignore[union-attr]
        out.aim("times the best compiled peer in workers", 1.5, best.ratio if best else None)
    return [out]


if __name__ == "__main__":
    command_line(__doc__ or "", suite, seconds=1.0)
