"""Long hauls: an hour of training whose memory and speed stay flat, and a study of 100 runs whose workers are killed.

    python -m tools.long_haul train --minutes 60
    python -m tools.long_haul study --minutes 20 --runs 100 --killed 0.05

Each says every half minute how far it is, and appends what came of it to docs/long_haul.json and a row to
docs/reliability.md; the exit status is 1 where something went wrong. Ctrl-C ends it and keeps what there is.
"""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from tools.faults.page import put_row
from tools.long_haul.many import study
from tools.long_haul.one import train

from assay.errors import UserError
from assay.runs import hardware, versions, write_json

RECORD = Path(__file__).parents[2] / "docs" / "long_haul.json"


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m tools.long_haul", description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("train", "study"))
    parser.add_argument("--minutes", type=float, default=60.0, help="how long; a study: about")
    parser.add_argument("--threads", type=int, default=2, help="train: threads; study: workers")
    parser.add_argument(
        "--steps", type=int, help="train: so many steps, without a short run before that tells the pace"
    )
    parser.add_argument("--runs", type=int, default=100, help="study: how many runs")
    parser.add_argument("--killed", type=float, default=0.05, help="study: share of workers that are killed")
    parser.add_argument("--seed", type=int, default=0, help="study: of who is killed when")
    parser.add_argument("--no-page", action="store_true", help="print only; nothing under docs/ is changed")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """The command line; 1 where something went wrong, 2 where it could not begin."""
    args = parse(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what there is is kept
    try:
        with tempfile.TemporaryDirectory(prefix="assay-long-haul-") as folder:
            found = (train if args.what == "train" else study)(Path(folder), args)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    given = [argument for argument in arguments if argument != "--no-page"]
    found = {
        "what": args.what,
        "command": f"python -m tools.long_haul {shlex.join(given)}",
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": hardware(),
        "versions": versions(),
        **found,
    }
    print(json.dumps({name: value for name, value in found.items() if name not in ("hardware", "versions", "samples")}))
    if not args.no_page:
        record = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.is_file() else []
        write_json(RECORD, [*record, found])
        said = f"{'; '.join(found['wrong'])}. " if found["wrong"] else "As it should. "
        put_row(
            "long hauls", [found["name"], found["time"][:10], said + found["said"], f"`{found['command']}`"], key=None
        )
    return 1 if found["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
