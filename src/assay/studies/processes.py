"""Worker processes: forked from one that has torch in memory where that is safe, started afresh elsewhere."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import assay.errors

__all__ = ["Nursery", "Process"]

Asked = tuple[str, list[str], Path]


class Process:
    """A worker as its parent sees it: `subprocess.Popen`'s words."""

    def __init__(self, nursery: Nursery, pid: int) -> None:
        """Made by `Nursery.start`."""
        self._nursery, self.pid = nursery, pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """How it ended, None while it runs: an exit status, or minus the signal's number."""
        if self.returncode is None:
            self.returncode = self._nursery._ended(self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """How it ended.

        Raises:
            subprocess.TimeoutExpired: it still runs after `timeout` seconds.
        """
        until = time.monotonic() + (timeout if timeout is not None else float("inf"))
        while (status := self.poll()) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired("worker", timeout or 0)
            time.sleep(0.02)
        return status

    def terminate(self) -> None:
        """Ask it to stop."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


class Nursery:
    """Starts workers, each on one thread. A context manager: at its end nothing new can be started.

    Args:
        modules: what workers need in memory, such as "assay.training.loop".
        fork: whether workers are forked; None: on Linux without an accelerator. Forking a process that talks to an
            accelerator, or on other systems one that has loaded their numerical libraries, is not safe.
    """

    def __init__(self, modules: Sequence[str], *, fork: bool | None = None) -> None:
        """See the class. Nothing is started before the first worker is asked for."""
        self._modules, self._fork = list(modules), fork
        self._cradle: subprocess.Popen[bytes] | None = None
        self._said = b""
        self._dead: dict[int, int] = {}
        self._born: list[int] = []

    def __enter__(self) -> Nursery:
        """Itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Let go of the process that workers are forked from; workers that still run see their parent gone."""
        if self._cradle is not None:
            assert self._cradle.stdin is not None
            with suppress(OSError):
                self._cradle.stdin.close()
            self._cradle.wait()
            self._cradle = None

    def start(self, module: str, arguments: Sequence[str], log: Path) -> Process | subprocess.Popen[bytes]:
        """Run `python -m module arguments` (its `main(arguments)`) in a session of its own, output into `log`."""
        if self._fork is None:
            self._fork = _may_fork()
        if self._fork:
            if self._cradle is None or self._cradle.poll() is not None:
                self._open()
            return self._forked(module, arguments, log)
        with log.open("wb") as file:
            return subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=environment(),
                start_new_session=True,  # Ctrl-C in the terminal reaches the parent alone
            )

    def _open(self) -> None:
        self._cradle = subprocess.Popen(
            [sys.executable, "-m", "assay.studies.cradle", *self._modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
            start_new_session=True,
        )
        assert self._cradle.stdout is not None
        self._said = b""
        os.set_blocking(self._cradle.stdout.fileno(), False)

    def _forked(self, module: str, arguments: Sequence[str], log: Path) -> Process:
        assert self._cradle is not None and self._cradle.stdin is not None
        asked = {"module": module, "arguments": [str(a) for a in arguments], "log": str(log)}
        self._cradle.stdin.write(json.dumps(asked).encode() + b"\n")
        self._cradle.stdin.flush()
        while not self._born:
            self._listen()
            if not self._born:
                if self._cradle.poll() is not None:
                    raise RuntimeError(f"the process that workers are forked from ended with {self._cradle.returncode}")
                time.sleep(0.01)
        return Process(self, self._born.pop(0))

    def _listen(self) -> None:
        if self._cradle is None or self._cradle.stdout is None:
            return
        with suppress(BlockingIOError):
            while some := os.read(self._cradle.stdout.fileno(), 65536):
                self._said += some
        *lines, self._said = self._said.split(b"\n")
        for line in lines:
            told: dict[str, Any] = json.loads(line)
            if "born" in told:
                self._born.append(told["born"])
            else:
                self._dead[told["dead"]] = told["status"]

    def _ended(self, pid: int) -> int | None:
        self._listen()
        if pid in self._dead:
            return self._dead.pop(pid)
        gone = self._cradle is None or self._cradle.poll() is not None
        return -signal.SIGKILL if gone and not _alive(pid) else None


def environment() -> dict[str, str]:
    """A worker's environment: one thread, and this very package."""
    threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")
    source = str(Path(assay.errors.__file__).resolve().parent.parent)
    paths = [source, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        **dict.fromkeys(threads, "1"),
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONPATH": os.pathsep.join(paths),
    }


def _may_fork() -> bool:
    from assay.runs import hardware

    return sys.platform == "linux" and not hardware()["accelerators"]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
