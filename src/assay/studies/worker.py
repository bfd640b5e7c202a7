"""A worker: one run in a process of its own. `python -m assay.studies.worker RUN_DIR`, on one thread.

The run is described in RUN_DIR/request.json. The exit status says how it ended; what it measured is in the folder.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

from assay.errors import UserError
from assay.runs import RunFolder
from assay.spec.study import RunSpec
from assay.studies.protocol import DIVERGED, DONE, FAILED, REQUEST, STOPPED

__all__ = ["attend", "leave", "main"]

Stop = Callable[[], bool]


def main(arguments: list[str]) -> int:
    """Do the run of a folder; the exit status."""
    return attend(arguments, _train)


def attend(arguments: list[str], do: Callable[[RunFolder, dict[str, Any], Stop], str]) -> int:
    """Do what a folder's request asks for; the exit status.

    Args:
        arguments: the folder.
        do: called with the folder, its request, and what says whether to stop; it returns "done", "stopped" or
            "diverged".
    """
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

        torch.set_num_threads(1)
        # A worker whose parent is gone has nobody to report to.
        status = do(folder, request, lambda: asked or os.getppid() != parent)
    except UserError as error:
        print(error, file=sys.stderr)
        folder.mark_failed(str(error))
        return FAILED
    except Exception as error:
        traceback.print_exc()
        folder.mark_failed(f"{type(error).__name__}: {error}")
        return FAILED
    return {"done": DONE, "stopped": STOPPED, "diverged": DIVERGED}[status]


def leave(status: int) -> None:
    """End this process: tensors and compiled code need no tearing down."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _train(folder: RunFolder, request: dict[str, Any], stop: Stop) -> str:
    from assay.training.loop import train_run

    run = RunSpec.from_dict(request["run"], source=REQUEST)
    return str(train_run(run, folder, stop=stop, command=request.get("command"))["status"])


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
