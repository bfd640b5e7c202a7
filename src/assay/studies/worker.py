"""A worker: a run in a process of its own. `python -m assay.studies.worker RUN_DIR`, on one thread.

The run is described in RUN_DIR/request.json. The exit status says how it ended; what it measured is in the folder.
Several folders are several runs that are trained together.
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

__all__ = ["attend", "attend_all", "leave", "main"]

Stop = Callable[[], bool]


def main(arguments: list[str]) -> int:
    """Do the run of a folder, or those of several; the exit status."""
    return attend(arguments, _train) if len(arguments) == 1 else attend_all(arguments, _train_together)


def attend(arguments: list[str], do: Callable[[RunFolder, dict[str, Any], Stop], str]) -> int:
    """Do what a folder's request asks for; the exit status.

    Args:
        arguments: the folder.
        do: called with the folder, its request, and what says whether to stop; it returns "done", "stopped" or
            "diverged".
    """
    return attend_all(arguments, lambda folders, requests, stop: [do(folders[0], requests[0], stop)])


def attend_all(
    arguments: list[str], do: Callable[[list[RunFolder], list[dict[str, Any]], Stop], list[str]]
) -> int:  # fmt: skip
    """`attend` for several folders. The status is that of one that has an end of its own to tell, "stopped" first; an
    error marks all as failed that have not ended.
    """
    folders = [RunFolder(path) for path in arguments]
    asked = False

    def stop(number: int, frame: object) -> None:
        nonlocal asked
        asked = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the parent, who asks for a stop
    parent = os.getppid()
    try:
        requests = [folder.read_json(REQUEST) for folder in folders]
        import torch

        torch.set_num_threads(1)
        # A worker whose parent is gone has nobody to report to.
        ends = do(folders, requests, lambda: asked or os.getppid() != parent)
    except UserError as error:
        print(error, file=sys.stderr)
        _fail(folders, str(error))
        return FAILED
    except Exception as error:
        traceback.print_exc()
        _fail(folders, f"{type(error).__name__}: {error}")
        return FAILED
    return next(status for end, status in STATUSES.items() if end in ends)


STATUSES = {"stopped": STOPPED, "diverged": DIVERGED, "done": DONE}


def _fail(folders: list[RunFolder], reason: str) -> None:
    for folder in folders:
        if not folder.done and folder.failure is None:
            folder.mark_failed(reason)


def leave(status: int) -> None:
    """End this process: tensors and compiled code need no tearing down."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _train(folder: RunFolder, request: dict[str, Any], stop: Stop) -> str:
    from assay.training.loop import train_run

    run = RunSpec.from_dict(request["run"], source=REQUEST)
    return str(train_run(run, folder, stop=stop, command=request.get("command"))["status"])


def _train_together(folders: list[RunFolder], requests: list[dict[str, Any]], stop: Stop) -> list[str]:
    from assay.training.together.train import train_together

    runs = [RunSpec.from_dict(request["run"], source=REQUEST) for request in requests]
    found = train_together(runs, folders, stop=stop, command=requests[0].get("command"))
    return [str(end["status"]) for end in found]


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
