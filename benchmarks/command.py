"""The command line of a benchmark that has none of its own: `suite` run and its rows printed."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from benchmarks.result import Result, Spread

__all__ = ["command_line", "lines"]


def said(value: Spread | None, digits: int = 3) -> str:
    """Median and quartiles."""
    return "" if value is None else f"{value.median:.{digits}g} [{value.low:.{digits}g} {value.high:.{digits}g}]"


def lines(result: Result) -> list[str]:
    """A result for the terminal."""
    found = [f"{result.title} ({result.setting}); {result.unit}; {result.rounds} rounds"]
    if result.failed:
        return [*found, f"  failed: {result.failed}"]
    for row in result.rows:
        if row.cannot:
            found.append(f"  {row.who:34s} not run: {row.cannot}")
            continue
        ratio = f"  assay is {said(row.ratio)} times as good" if row.ratio else ""
        share = f"  {row.limit_share:.3f} of the limit" if row.limit_share is not None and row.kind != "limit" else ""
        found.append(f"  {row.who:34s} {said(row.value, 4)}{ratio}{share}")
    for target in result.targets:
        sign = "at most" if target.at_most else "at least"
        found.append(f"  target {sign} {target.goal:g} {target.what}: {said(target.value)} {target.verdict}")
    bad = [check for check in result.checks if not check.passed]
    found += [f"  NOT EQUAL: {check.what}: {check.error:.2g} > {check.tolerance:g}" for check in bad]
    return found


def command_line(says: str, suite: Callable[[float, bool], list[Result]], *, seconds: float) -> None:
    """Parse, run, print, and write JSON where asked to."""
    parser = argparse.ArgumentParser(description=says, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=seconds, help="timed seconds, without setting up")
    parser.add_argument("--long", action="store_true", help="the longer form")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    results = suite(args.seconds, args.long)
    for result in results:
        print("\n".join(lines(result)))
    if args.json:
        args.json.write_text(json.dumps([result.to_dict() for result in results], indent=1), encoding="utf-8")
