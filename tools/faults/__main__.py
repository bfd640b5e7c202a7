"""Do faults for real, count, and write what came of them into docs/reliability.md.

python -m tools.faults                       # all of them, about a quarter of an hour on one core
python -m tools.faults kill --trials 20      # one of them
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tools.faults.bad_loss import bad_loss
from tools.faults.damage import damage
from tools.faults.disk import disk
from tools.faults.kills import kills
from tools.faults.page import put_row
from tools.faults.ranks import ranks
from tools.faults.ray_workers import ray_workers
from tools.faults.scene import Found, Scene
from tools.faults.signals import signals

from assay.errors import UserError

FAULTS: dict[str, tuple[Callable[..., Found], int]] = {
    "kill": (kills, 200),
    "signal": (signals, 20),
    "disk": (disk, 40),
    "bad-loss": (bad_loss, 5),
    "damage": (damage, 5),
    "rank": (ranks, 5),
    "ray": (ray_workers, 6),
}
"""Name to what does it and how often."""


def main(arguments: list[str]) -> int:
    """The command line; 1 where something went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tools.faults", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(FAULTS)}; none: all")
    parser.add_argument("--trials", type=int, help="how often, in place of each fault's own number")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments and places")
    parser.add_argument("--no-page", action="store_true", help="print only; docs/reliability.md stays as it is")
    args = parser.parse_args(arguments)
    if unknown := set(args.names) - set(FAULTS):
        parser.error(f"{', '.join(sorted(unknown))}: no such fault; there are {', '.join(FAULTS)}")
    wrong = 0
    for name in args.names or FAULTS:
        do, trials = FAULTS[name]
        with tempfile.TemporaryDirectory(prefix="assay-faults-") as folder, Scene(Path(folder)) as scene:
            try:
                found = do(scene, args.trials or trials, args.seed)
            except UserError as error:  # a part that this machine lacks
                print(f"{name}: not done. {error}", flush=True)
                wrong += 1
                continue
        wrong += len(found.wrong)
        print(f"{found.fault}: {found.trials} trials in {found.seconds:.0f} s. {outcome(found)}", flush=True)
        for sentence in found.wrong:
            print(f"  WRONG: {sentence}", flush=True)
        if not args.no_page:
            put_row("faults", row(found), key=0)
    return 1 if wrong else 0


def outcome(found: Found) -> str:
    """What came of it, in a sentence."""
    bad = f"{len(found.wrong)} went wrong, first: {found.wrong[0][:200]}. " if found.wrong else "None went wrong. "
    return bad + found.said[:1].upper() + found.said[1:] + "."


def row(found: Found) -> list[str]:
    """Of the table."""
    command = f"`python -m tools.faults {found.options}`"
    return [found.fault, str(found.trials), outcome(found), f"{found.seconds:.0f} s", command]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
