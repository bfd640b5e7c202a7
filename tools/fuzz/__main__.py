from __future__ import annotations

import argparse
import collections
import json
import os
import sys
import time
from pathlib import Path

from tools.fuzz import described, published, tables
from tools.fuzz.cases import read_case, write_case
from tools.fuzz.harness import Outcome, run_batch, run_one
from tools.fuzz.shrink import smaller
from tools.fuzz.targets import TARGETS, Target

assert described and published and tables  # their targets are in TARGETS now
SETTINGS = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"} | dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS"), "1"
)
"""Pools of threads do not survive a fork."""
EXAMPLES = 2
"""Inputs kept of each kind of failure."""
WARM = 8
"""Valid inputs that a child reads first."""


def main() -> int:
    """See the package."""
    for name, value in SETTINGS.items():  # before torch and polars are loaded, which is when they are first used
        os.environ.setdefault(name, value)
    parser = argparse.ArgumentParser(prog="python -m tools.fuzz", description="Broken and hostile files for readers.")
    parser.add_argument("--target", action="append", choices=tuple(TARGETS), help="one or more; default: all")
    parser.add_argument("--count", type=int, default=1000, help="inputs of each target")
    parser.add_argument("--seed", type=int, default=0, help="of the inputs")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--batch", type=int, default=200, help="inputs a child")
    parser.add_argument("--keep", type=Path, default=None, metavar="DIR", help="where failing inputs are kept")
    parser.add_argument("--replay", type=Path, nargs="*", metavar="FILE", help="read kept inputs again instead")
    parser.add_argument("--json", type=Path, metavar="FILE", help="add the counts to a JSON file")
    args = parser.parse_args()
    if args.replay:
        return _replay(args.replay)
    failed = 0
    for name in args.target or TARGETS:
        failed += _run(TARGETS[name], args)
    return 1 if failed else 0


def _replay(paths: list[Path]) -> int:
    failed = 0
    for path in paths:
        name, case, why = read_case(path)
        found = run_one(case, TARGETS[name].read, warm=TARGETS[name].good()[:WARM])
        failed += found.verdict == "failed"
        print(f"{path.name}: {found.verdict} {found.kind}\n  was: {why}\n  {found.detail}")
    return 1 if failed else 0


def _run(target: Target, args: argparse.Namespace) -> int:
    good = target.good()
    warm = good[:WARM]
    for outcome in run_batch(lambda number: good[number], target.read, list(range(len(good))), warm=warm):
        if outcome.verdict != "clean":
            print(f"{target.name}: valid input {outcome.number} is not read: {outcome.kind} {outcome.detail}")
            return 1
    began, counts = time.monotonic(), collections.Counter[str]()
    kinds: dict[str, collections.Counter[str]] = {"refused": collections.Counter(), "failed": collections.Counter()}
    numbers = list(range(args.first, args.first + args.count))
    for at in range(0, len(numbers), args.batch):
        for outcome in run_batch(
            lambda number: target.case(args.seed, number), target.read, numbers[at : at + args.batch], warm=warm
        ):
            counts[outcome.verdict] += 1
            if outcome.verdict != "clean":
                kinds[outcome.verdict][outcome.kind] += 1
            if outcome.verdict == "failed" and kinds["failed"][outcome.kind] <= EXAMPLES:
                _tell(target, outcome, args)
    spent = time.monotonic() - began
    print(
        f"{target.name}: {len(numbers)} inputs in {spent:.0f} s: "
        + ", ".join(f"{counts[v]} {v}" for v in ("clean", "refused", "failed"))
    )
    for verdict, found in kinds.items():
        for kind, count in found.most_common():
            print(f"    {verdict:8}{count:7}  {kind}")
    sys.stdout.flush()
    if args.json:
        known = json.loads(args.json.read_text()) if args.json.is_file() else {}
        known[target.name] = {
            "what": target.what,
            "inputs": len(numbers),
            "seed": args.seed,
            "seconds": round(spent),
            **counts,
            "kinds": {verdict: dict(found.most_common()) for verdict, found in kinds.items()},
        }
        args.json.write_text(json.dumps(known, indent=1) + "\n")
    return counts["failed"]


def _tell(target: Target, outcome: Outcome, args: argparse.Namespace) -> None:
    print(f"{target.name} {outcome.number}: {outcome.kind}\n{outcome.detail}\n", flush=True)
    if args.keep is None:
        return
    case = target.case(args.seed, outcome.number)
    if outcome.kind != "hang":
        case = smaller(case, lambda less: run_one(less, target.read, warm=target.good()[:WARM]).kind == outcome.kind)
    slug = "".join(c if c.isalnum() else "-" for c in outcome.kind)[:60].strip("-")
    write_case(
        args.keep / f"{target.name}-{slug}-{outcome.number}.json",
        target.name,
        case,
        f"{outcome.kind}: {outcome.detail[-300:]}",
    )


if __name__ == "__main__":
    sys.exit(main())
