"""A worker: one run in a process of its own. `python -m assay.studies.worker RUN_DIR`, on one thread.

The run is described in RUN_DIR/request.json. The exit status says how it ended; what it measured is in the folder.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback

from assay.errors import UserError
from assay.runs import RunFolder
from assay.spec.study import RunSpec
from assay.studies.protocol import DIVERGED, DONE, FAILED, REQUEST, STOPPED

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Do the run of a folder; the exit status."""
    (path,) = arguments
    folder = RunFolder(path)
    asked = False

    def stop(number: int, frame: object) -> None:
        nonlocal asked
        asked = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the parent, who asks for a stop
    parent = os.getppid()
    try:
        request = folder.read_json(REQUEST)
        import torch

        from assay.training.loop import train_run

        torch.set_num_threads(1)
        outcome = train_run(
            RunSpec.from_dict(request["run"], source=REQUEST),
            folder,
            # A worker whose parent is gone has nobody to report to.
            stop=lambda: asked or os.getppid() != parent,
            command=request.get("command"),
        )
    except UserError as error:
        print(error, file=sys.stderr)
        folder.mark_failed(str(error))
        return FAILED
    except Exception as error:
        traceback.print_exc()
        folder.mark_failed(f"{type(error).__name__}: {error}")
        return FAILED
    return {"done": DONE, "stopped": STOPPED, "diverged": DIVERGED}[outcome["status"]]


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # Tensors and compiled code need no tearing down.
    os._exit(status)
