"""The README's table of speeds, from the results of the last `make bench`.

python -m benchmarks.table [--out benchmarks]

One line a comparison: assay's median, how many times the best peer's speed that is, and the share of the machine's own
limit. Quartiles, all other peers and targets are in OUT/report.html.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from assay.report.format import significant
from benchmarks.page import collect, said
from benchmarks.result import Result

__all__ = ["markdown"]


def markdown(results: Iterable[Result]) -> str:
    """The table; comparisons without a peer or a limit, and those that failed, are left out."""
    lines = ["| work | assay | times the best peer | of the limit |", "| --- | --- | --- | --- |"]
    for result in results:
        own = result.own
        best = result.best_peer
        if result.group == "growth" or own is None or (best is None and own.limit_share is None):
            continue
        assert own.value is not None
        peer = f"{said(best.ratio)} ({best.who})" if best and best.ratio else "–"
        share = "–" if own.limit_share is None else significant(own.limit_share)
        lines.append(f"| {result.title} | {significant(own.value.median)} {result.unit} | {peer} | {share} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; see the module. The exit status is 1 where there are no results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    args = parser.parse_args(arguments)
    results, _, _ = collect(args.out)
    if not results:
        print(f"{args.out}/results: no results there; run make bench first.", file=sys.stderr)
        return 1
    print(markdown(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
