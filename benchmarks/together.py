"""A step of several seeds as one batched model against the same seeds' steps one by one, whole steps of real runs.

    python -m benchmarks.together --seconds 60
    python -m benchmarks.together --widths 16,64 --members 4 --layers 4 --batch 6 --length 128 --json together.json

Everything that a run does at a step is in the time: making the batch, forward, backward, clipping, AdamW, the row of
metrics. Both are eager, in one process, round by round, on one thread. A round is a few steps of every seed, those of
one seed in a row, so that a seed by itself finds its weights in the caches as it would in a process of its own. What
is shown is a round's processor time by its steps.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from assay.runs import RunFolder
from assay.spec.study import RunSpec, StudySpec
from assay.training.loop import Training
from assay.training.text import Text, load_text
from assay.training.together.eligible import pays, step_flops
from assay.training.together.train import Crew, Member
from benchmarks import measure
from benchmarks.command import lines
from benchmarks.result import Check, Result, Row, Spread, pairwise

WIDTHS, MEMBERS = (16, 32, 64, 128, 256), (2, 4, 8)
LAYERS, BATCH, LENGTH, VOCABULARY = 4, 6, 128, 512
"""The quick claims' standard run, but for the width."""
STEPS = 4
"""Of every seed in a round."""
DRIFT = 1e-3
"""Nats by which two runs may part in some hundred steps that round differently; seeds are 0.1 apart."""


def runs_of(
    width: int, members: int, *, layers: int, batch: int, length: int, vocabulary: int, source: str = "stdlib"
) -> list[RunSpec]:
    """Seeds of one run."""
    tokens = "bytes" if vocabulary <= 256 else {"kind": "bpe", "vocab_size": vocabulary}
    study = StudySpec.from_dict(
        {
            "model": {"layers": layers, "width": width, "attention": {"heads": max(width // 32, 1)}, "context": 512},
            "train": {"steps": 10**6, "batch_size": batch, "length": length, "evaluations": 1, "checkpoints": 1,
                      "compile": False},
            "data": {"source": source, "tokenizer": tokens},
            "vary": {},
            "seeds": members,
        },
        source="benchmark",
    )  # fmt: skip
    return study.runs()


@contextmanager
def crews(runs: Sequence[RunSpec], text: Text) -> Iterator[tuple[Crew, list[Crew], list[dict[str, Any]]]]:
    """All as one, each alone, and where the last row of each run is kept: first those as one, then those alone."""
    with tempfile.TemporaryDirectory(prefix="assay-") as where:
        rows: list[dict[str, Any]] = [{} for _ in range(2 * len(runs))]
        found, open_ = [], []
        for number, run in enumerate([*runs, *runs]):
            folder = RunFolder(Path(where, str(number)))
            training = Training(run, folder, text, "cpu", rows[number].update, "benchmark")
            open_.append(folder)
            found.append(Member(training, lambda: False))
        yield Crew(found[: len(runs)]), [Crew([member]) for member in found[len(runs) :]], rows
        for folder in open_:
            folder.close()


def compare(width: int, members: int, seconds: float, **sizes: Any) -> dict[str, Any]:
    """Times of a round, as one and one by one, and how far losses have come apart."""
    runs = runs_of(width, members, **sizes)
    with crews(runs, load_text(runs[0].data)) as (together, apart, rows):

        def as_one() -> None:
            for _ in range(STEPS):
                together.step()

        def one_by_one() -> None:
            for crew in apart:
                for _ in range(STEPS):
                    crew.step()

        times = measure.interleave({"together": as_one, "apart": one_by_one}, seconds, warmup=1)
        drift = max(abs(a["loss"] - b["loss"]) for a, b in zip(rows[:members], rows[members:], strict=True))
        steps = int(rows[0]["step"])
    return {"width": width, "members": members, "times": times, "drift": drift, "steps": steps,
            "flops": step_flops(runs[0]), "auto": pays(runs[0])}  # fmt: skip


def result_of(found: Sequence[dict[str, Any]], setting: str) -> Result:
    """Rows of all sizes."""
    out = Result(
        "together", "Seeds trained together as one batched model", "training", setting, "ms a step of one seed",
        rounds=min(len(one["times"]["together"]) for one in found),
    )  # fmt: skip
    for one in found:
        name, members = f"width {one['width']}, {one['members']} seeds", one["members"]
        ours, theirs = one["times"]["together"], one["times"]["apart"]
        each = 1e3 / members / STEPS
        out.rows.append(Row(f"{name}: together", "assay", Spread.of(ours).times(each)))
        out.rows.append(Row(f"{name}: one by one", "other", Spread.of(theirs).times(each), pairwise(ours, theirs)))
        out.checks.append(Check(f"{name}: losses after {one['steps']} steps, nats", one["drift"], DRIFT))
    chosen = ", ".join(f"{one['width']}" for one in found if one["auto"] and one["members"] == found[0]["members"])
    out.notes.append(f"Widths that `--together auto` trains together: {chosen or 'none'}.")
    return out


def suite(seconds: float, long: bool) -> list[Result]:
    """The widths of small studies with four seeds; long: more numbers of seeds, and wider models."""
    torch.set_num_threads(1)
    measure.clock = time.process_time
    cases = [(w, k) for w in WIDTHS for k in MEMBERS] if long else [(w, 4) for w in WIDTHS[:4]]
    return [_measured(cases, seconds, layers=LAYERS, batch=BATCH, length=LENGTH, vocabulary=VOCABULARY)]


def _measured(cases: Sequence[tuple[int, int]], seconds: float, **sizes: int) -> Result:
    found = [compare(width, members, seconds / len(cases), **sizes) for width, members in cases]
    return result_of(
        found,
        f"{sizes['layers']} layers, {sizes['batch']} x {sizes['length']} tokens, vocabulary {sizes['vocabulary']}, "
        "float32, eager, 1 thread, processor time",
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", default=",".join(map(str, WIDTHS)))
    parser.add_argument("--members", default=",".join(map(str, MEMBERS)))
    for name, value in (("layers", LAYERS), ("batch", BATCH), ("length", LENGTH), ("vocabulary", VOCABULARY)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--seconds", type=float, default=120, help="of processor time, shared by all sizes")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    measure.clock = time.process_time
    cases = [(int(w), int(k)) for w in args.widths.split(",") for k in args.members.split(",")]
    result = _measured(
        cases, args.seconds, layers=args.layers, batch=args.batch, length=args.length, vocabulary=args.vocabulary
    )
    print("\n".join(lines(result)))
    if args.json:
        args.json.write_text(json.dumps(result.to_dict(), indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
