"""The process that workers are forked from: `python -m assay.studies.cradle MODULE ...` imports them once.

Importing torch takes longer than many a run. One JSON object a line on standard input asks for a worker:

    {"module": "assay.studies.worker", "arguments": [...], "log": path}

and one a line on standard output tells of it: {"born": pid}, then {"dead": pid, "status": n} as `subprocess` counts
(below 0: by that signal). A worker runs `MODULE.main(arguments)` in a session of its own and ends with what that
returns. When standard input ends, so does this process, and its workers see their parent gone.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import sys
import traceback
from typing import Any

__all__ = ["main"]


def main(modules: list[str]) -> None:
    """Import, then fork until there is nobody to ask for it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the parent, who asks for a stop
    for module in modules:
        importlib.import_module(module)
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    waiting = b""
    while True:
        ready, _, _ = select.select([0, read], [], [])
        if read in ready:
            os.read(read, 4096)
            _bury()
        if 0 in ready:
            some = os.read(0, 65536)
            if not some:
                return
            *lines, waiting = (waiting + some).split(b"\n")
            for line in lines:
                _bear(json.loads(line), (read, write))


def _bear(asked: dict[str, Any], pipes: tuple[int, int]) -> None:
    pid = os.fork()
    if pid:
        _tell({"born": pid})
        return
    status = 1
    try:
        _settle(asked["log"], pipes)
        status = importlib.import_module(asked["module"]).main(list(asked["arguments"]))
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)  # tensors and compiled code need no tearing down


def _settle(log: str, pipes: tuple[int, int]) -> None:
    """Make a forked process one of its own: its session, its signals, its files."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for pipe in pipes:
        os.close(pipe)
    nothing = os.open(os.devnull, os.O_RDONLY)
    said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(nothing, 0)
    os.dup2(said, 1)
    os.dup2(said, 2)


def _bury() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        _tell({"dead": pid, "status": os.waitstatus_to_exitcode(status)})


def _tell(what: dict[str, int]) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


if __name__ == "__main__":
    main(sys.argv[1:])
