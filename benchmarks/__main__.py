"""Run the benchmarks, each in a process of its own, and keep what they found as JSON beside each other.

python -m benchmarks [--only training,decode] [--seconds 60] [--out benchmarks/results]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

SUITE = {
    "training-11M": ["benchmarks.training", "--size", "11M", "--seconds", "{seconds}", "--json", "{json}"],
    "training-1.3M": ["benchmarks.training", "--size", "1.3M", "--seconds", "{seconds}", "--json", "{json}"],
    "decode": ["benchmarks.decode", "--json", "{json}"],
    "norms": ["benchmarks.norms", "--threads", "1", "--json", "{json}"],
    "objectives": ["benchmarks.objectives", "--out", "{json}"],
    "span-corruption": ["benchmarks.span_corruption", "--json", "{json}"],
    "prefix": ["benchmarks.prefix", "--json", "{json}"],
    "head": ["benchmarks.head", "--json", "{json}"],
    "depth": ["benchmarks.depth", "--seconds", "{seconds}", "--json", "{json}"],
    "rank": ["benchmarks.rank", "--seconds", "{seconds}", "--json", "{json}"],
}
"""Name to module and arguments; `{json}` is where the result goes."""


def main() -> int:
    """Command line; see the module. The exit status is 1 where a benchmark failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="names, or beginnings of names, joined by commas")
    parser.add_argument("--seconds", type=float, default=60.0, help="timed seconds of each benchmark that takes them")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    wanted = [name for name in SUITE if not args.only or name.startswith(tuple(args.only.split(",")))]
    if not wanted:
        parser.error(f"--only {args.only}: no such benchmark; there are {', '.join(SUITE)}")
    args.out.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in wanted:
        began = time.monotonic()
        print(f"== {name}", flush=True)
        words = [word.format(seconds=args.seconds, json=args.out / f"{name}.json") for word in SUITE[name]]
        if subprocess.run([sys.executable, "-m", *words], check=False).returncode:
            failed.append(name)
        print(f"== {name}: {time.monotonic() - began:.0f} s\n", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
