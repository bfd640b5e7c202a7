"""A step of several seeds as one batched model against the same seeds' steps one by one, whole steps of real runs.

    python -m benchmarks.together --seconds 60
    python -m benchmarks.together --widths 16,64 --members 4 --layers 4 --batch 6 --length 128 --json together.json

Everything that a run does at a step is in the time: making the batch, forward, backward, clipping, AdamW, the row of
metrics. Both are eager, in one process, round by round, on one thread. A round is a few steps of every seed, those of
one seed in a row, so that a seed by itself finds its weights in the caches as it would in a process of its own. What
is shown is a round's processor time by its steps. Before it, losses and gradients of the first steps are compared.
The peer is assay itself, one seed at a time: no library that stands beside it trains several seeds as one model.
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

import numpy as np
import torch

from assay.runs import RunFolder
from assay.spec.study import RunSpec, StudySpec
from assay.training.loop import Training
from assay.training.text import Text, load_text
from assay.training.together.eligible import LARGEST, pays, step_flops
from assay.training.together.train import Crew, Member
from benchmarks import measure
from benchmarks.command import lines
from benchmarks.result import Check, Result, pairwise
from benchmarks.rows import of_times

WIDTHS, MEMBERS = (16, 32, 64, 128, 256), (2, 4, 8)
LAYERS, BATCH, LENGTH, VOCABULARY = 4, 6, 128, 512
"""The quick claims' standard run, but for the width."""
STEPS = 4
"""Of every seed in a round."""
FIRST = 6
"""Steps of every seed that are compared before anything is timed."""
APART = {"loss": 1e-4, "grad_norm": 1e-3}
"""Shares by which what rounds differently may differ in those steps: 2e-6 was seen, of another seed 9e-3 and 3e-2."""
OURS, THEIRS = "assay, together", "one by one"


def runs_of(
    width: int, members: int, *, layers: int, batch: int, length: int, vocabulary: int, source: str = "stdlib"
) -> list[RunSpec]:
    """Seeds of one run."""
    tokens = "bytes" if vocabulary <= 256 else {"kind": "bpe", "vocab_size": vocabulary}
    study = StudySpec.from_dict(
        {
            "model": {"layers": layers, "width": width, "attention": {"heads": max(width // 32, 1)}, "context": 512},
            "train": {"steps": 10**6, "batch_size": batch, "length": length, "evaluations": 1, "checkpoints": 1,
                      "compile": False, "optimizer": {"learning_rate": 1e-3},
                      # At once the whole rate: else the first losses would say nothing of gradients.
                      "schedule": {"kind": "constant", "warmup": 0}},
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


def apart(ours: Sequence[dict[str, Any]], alone: Sequence[dict[str, Any]]) -> dict[str, float]:
    """By what share rows of the same steps differ, at most; NaN where one of them is not a number.

    Args:
        ours: rows of metrics, of some seeds and steps.
        alone: those of the same seeds and steps, run by themselves.
    """
    found = {}
    for name in APART:
        mine, theirs = (np.array([row[name] for row in rows]) for rows in (ours, alone))
        found[name] = float(np.max(np.abs(mine - theirs) / np.abs(theirs)))
    return found


def compare(width: int, members: int, seconds: float, **sizes: Any) -> dict[str, Any]:
    """How far the first steps are apart, then times of a round as one and one by one."""
    runs = runs_of(width, members, **sizes)
    with crews(runs, load_text(runs[0].data)) as (together, alone, rows):

        def as_one() -> None:
            for _ in range(STEPS):
                together.step()

        def one_by_one() -> None:
            for crew in alone:
                for _ in range(STEPS):
                    crew.step()

        first = []
        for _ in range(FIRST):
            for crew in (together, *alone):
                crew.step()
            first += [dict(row) for row in rows]
        sides = [[row for n, row in enumerate(first) if n // members % 2 == side] for side in (0, 1)]
        times = measure.interleave({OURS: as_one, THEIRS: one_by_one}, seconds, warmup=1)
        wanted = FIRST + STEPS * (len(times[OURS]) + 1)
        missing = sum(wanted - int(row["step"]) for row in rows)
    return {"width": width, "members": members, "times": times, "apart": apart(*sides), "missing": missing,
            "steps": wanted, "flops": step_flops(runs[0]), "auto": pays(runs[0])}  # fmt: skip


def result_of(one: dict[str, Any], setting: str) -> Result:
    """One size: rows, checks, and as a target that what `auto` trains together is no slower so."""
    width, members = one["width"], one["members"]
    out = Result(
        f"together-{width}-{members}", f"{members} seeds trained together, {width} wide", "training", setting,
        "ms a step of one seed", rounds=len(one["times"][OURS]),
    )  # fmt: skip
    out.rows = of_times(one["times"], OURS, factor=1e3 / members / STEPS)
    out.checks = [
        Check(f"{name.replace('_', ' ')} of each seed's first {FIRST} steps against its own run's", share, APART[name])
        for name, share in one["apart"].items()
    ]
    out.checks.append(Check(f"steps that a seed lacks of the {one['steps']} asked for", float(one["missing"]), 0.0))
    how = "trains this size together" if one["auto"] else "leaves each run of this size alone"
    out.notes.append(f"`--together auto` {how} ({one['flops']:.2g} training FLOPs a step, at most {LARGEST:.0e}).")
    if one["auto"]:
        out.aim_at(THEIRS, 1.0)
    return out


def picture(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Where it pays: times as fast as one by one, by width."""
    rows: list[dict[str, Any]] = []
    for one in found:
        gain = pairwise(one["times"][OURS], one["times"][THEIRS])
        rows.append({"series": f"{one['members']} seeds", "x": one["width"], "y": gain.median, "low": gain.low,
                     "high": gain.high})  # fmt: skip
    widths = [one["width"] for one in found]
    rows += [{"series": "as fast", "x": width, "y": 1.0} for width in (min(widths), max(widths))]
    return {"title": "Seeds trained together: where it pays", "x": "width", "y": "times as fast as one by one",
            "kind": "lines", "log_x": True, "log_y": True, "rows": rows}  # fmt: skip


def suite(seconds: float, long: bool, *, cases: Sequence[tuple[int, int]] = (), **changes: Any) -> list[Result]:
    """Four seeds of each width of small studies, a result each; long: a wider one, and two and eight seeds."""
    torch.set_num_threads(1)
    measure.clock = time.process_time
    if not cases:
        cases = [(w, k) for w in WIDTHS for k in MEMBERS if k == 4 or w <= 64] if long else [(w, 4) for w in WIDTHS[:4]]
    sizes = {"layers": LAYERS, "batch": BATCH, "length": LENGTH, "vocabulary": VOCABULARY} | changes
    found = [compare(width, members, seconds / len(cases), **sizes) for width, members in cases]
    setting = (
        f"{sizes['layers']} layers, {sizes['batch']} x {sizes['length']} tokens, vocabulary {sizes['vocabulary']}, "
        "whole steps of real runs, float32, eager, 1 thread, processor time"
    )
    results = [result_of(one, setting) for one in found]
    results[0].pictures.append(picture(found))
    return results


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
    cases = [(int(w), int(k)) for w in args.widths.split(",") for k in args.members.split(",")]
    sizes = {name: getattr(args, name) for name in ("layers", "batch", "length", "vocabulary")}
    results = suite(args.seconds, False, cases=cases, **sizes)
    for result in results:
        print("\n".join(lines(result)))
    if args.json:
        args.json.write_text(json.dumps([result.to_dict() for result in results], indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
