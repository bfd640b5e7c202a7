"""Worker processes: forked from one that has torch in memory where that is safe, started afresh elsewhere."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import assay.errors
from assay.studies.protocol import LOST

__all__ = ["Nursery", "Process"]


def waited(poll: Callable[[], int | None], timeout: float | None, *, pause: float = 0.02) -> int:
    """How a worker ended, asked until it has, every `pause` seconds.

    Raises:
        subprocess.TimeoutExpired: it still runs after `timeout` seconds.
    """
    until = time.monotonic() + (timeout if timeout is not None else float("inf"))
    while (status := poll()) is None:
        if time.monotonic() > until:
            raise subprocess.TimeoutExpired("worker", timeout or 0)
        time.sleep(pause)
    return status


class Process:
    """A forked worker as its parent sees it: `subprocess.Popen`'s words."""

    def __init__(self, cradle: _Cradle, pid: int) -> None:
        """Made by `Nursery.start`."""
        self._cradle, self.pid = cradle, pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """How it ended, None while it runs: an exit status, minus the signal's number, or `protocol.LOST`."""
        if self.returncode is None:
            self.returncode = self._cradle.ended(self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """How it ended.

        Raises:
            subprocess.TimeoutExpired: it still runs after `timeout` seconds.
        """
        return waited(self.poll, timeout)

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
        self._cradle: _Cradle | None = None

    def __enter__(self) -> Nursery:
        """Itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Let go of the process that workers are forked from; workers that still run see their parent gone."""
        if self._cradle is not None:
            self._cradle.close()
            self._cradle = None

    def start(self, module: str, arguments: Sequence[str], log: Path) -> Process | subprocess.Popen[bytes]:
        """Run `python -m module arguments` (its `main(arguments)`) in a session of its own, output into `log`."""
        if self._fork is None:
            self._fork = _may_fork()
        if self._fork:
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

    def _forked(self, module: str, arguments: Sequence[str], log: Path) -> Process:
        cradle = self._cradle
        for _ in range(2):  # the system may end a cradle, as any process, at any time
            if cradle is None or cradle.gone:
                self._cradle = cradle = _Cradle(self._modules)
            if (pid := cradle.bear(module, arguments, log)) is not None:
                return Process(cradle, pid)
        raise RuntimeError("the process that workers are forked from ended twice before it had begun")


class _Cradle:
    """The process that workers are forked from, and what it has told of them. Its workers outlive its end."""

    def __init__(self, modules: Sequence[str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "assay.studies.cradle", *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
            start_new_session=True,
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self._asks, self._tells = self.process.stdin, self.process.stdout
        os.set_blocking(self._tells.fileno(), False)
        self._said = b""
        self._dead: dict[int, int] = {}
        self._born: list[int] = []

    @property
    def gone(self) -> bool:
        """Whether it has ended."""
        return self.process.poll() is not None

    def bear(self, module: str, arguments: Sequence[str], log: Path) -> int | None:
        """A new worker's process; None where the cradle ended instead."""
        asked = {"module": module, "arguments": [str(a) for a in arguments], "log": str(log)}
        try:
            self._asks.write(json.dumps(asked).encode() + b"\n")
            self._asks.flush()
        except BrokenPipeError:
            self.process.wait()
            return None
        while True:
            gone = self.gone  # before listening: what it said at its end is all there
            self._listen()
            if self._born:
                return self._born.pop(0)
            if gone:
                return None
            time.sleep(0.01)

    def ended(self, pid: int) -> int | None:
        """How a worker ended, None while it runs."""
        gone = self.gone
        self._listen()
        if pid in self._dead:
            return self._dead.pop(pid)
        return LOST if gone and not _alive(pid) else None

    def close(self) -> None:
        """Let it end."""
        with suppress(OSError):
            self._asks.close()
        self.process.wait()

    def _listen(self) -> None:
        with suppress(BlockingIOError):
            while some := os.read(self._tells.fileno(), 65536):
                self._said += some
        *lines, self._said = self._said.split(b"\n")
        for line in lines:
            told: dict[str, Any] = json.loads(line)
            if "born" in told:
                self._born.append(told["born"])
            else:
                self._dead[told["dead"]] = told["status"]


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
        # One that has ended stays in the table until its parent asks; an orphan's new parent may never do so.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except FileNotFoundError:  # it went between the two looks, or the system has no such file
        return not Path("/proc/self/stat").is_file()
