"""Reads inputs in forked children, watches them, and says how each ended.

A child takes a batch from a warm process, so a crash costs one fork and is known by its input. Within a child:
CPU time by an interval timer whose signal kills, address space by RLIMIT_AS, resident memory by the kernel's high
water mark (reset before each input), and an audit hook on whatever a reader has no business doing.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import traceback
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.fuzz.cases import Case, write_files

__all__ = ["CPU", "Outcome", "Watch", "run_batch", "run_one"]

CPU = 5.0
"""Seconds of CPU time that an input may take."""
WALL = 120.0
"""Seconds without a word after which a child is given up."""
SPACE = 6 << 30
"""Bytes of address space beyond what the warm process has."""
ROOM = 64 << 20
"""Bytes of memory that any input may take ..."""
TIMES = 24
"""... beyond so many times its own size."""
LONGEST = 6_000
"""Characters of a message that somebody may still read."""
FORBIDDEN = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "os.forkpty",
    "subprocess.Popen",
    "pty.spawn",
    "socket.connect",
    "socket.bind",
    "pickle.find_class",
    "os.kill",
    "os.symlink",
    "os.link",
    "shutil.unpack_archive",
    "webbrowser.open",
    "ftplib.connect",
    "urllib.Request",
)
CHANGES = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.truncate", "os.chmod", "shutil.rmtree")
OUTSIDE = "outside"
"""What this folder beside the input's holds is nobody's to read."""


@dataclass(frozen=True)
class Outcome:
    """How one input ended."""

    number: int
    verdict: str
    """clean, refused, or failed."""
    kind: str
    """Refused: where the error was raised. Failed: what happened and where."""
    detail: str = ""


class Watch:
    """The audit hook of a child: which events mean that a file had its way."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.arena = ""
        self.seen: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """An event; nothing is stopped, all is told."""
        if self.folder is None:
            return
        if event in FORBIDDEN:
            self.seen.append(f"{event} {arguments!r}"[:200])
        elif event == "open" and isinstance(arguments[0], str | bytes):
            path = os.path.abspath(os.fsdecode(arguments[0]))
            flags = arguments[2] if isinstance(arguments[2], int) else 0
            writes = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
            inside = path.startswith(self.folder)
            if (writes and not inside and path != os.devnull) or (path.startswith(self.arena) and not inside):
                self.seen.append(f"open {path} {'for writing' if writes else ''}".strip())
        elif event in CHANGES and not os.path.abspath(os.fsdecode(arguments[0])).startswith(self.folder):
            self.seen.append(f"{event} {arguments[0]!r}"[:200])


def run_batch(
    make: Callable[[int], Case], read: Callable[[Path], None], numbers: list[int], *, warm: Sequence[Case] = ()
) -> Iterator[Outcome]:
    """The outcomes of some inputs, in order; a child that dies is replaced, and its input has failed."""
    left = list(numbers)
    while left:
        for outcome in _child(make, read, left, warm):
            assert outcome.number == left[0], (outcome, left[0])
            left.pop(0)
            yield outcome


def run_one(case: Case, read: Callable[[Path], None], *, warm: Sequence[Case] = ()) -> Outcome:
    """The outcome of one input."""
    return next(run_batch(lambda _: case, read, [0], warm=warm))


def _child(
    make: Callable[[int], Case], read: Callable[[Path], None], numbers: list[int], warm: Sequence[Case]
) -> Iterator[Outcome]:
    arena = Path(tempfile.mkdtemp(prefix="fuzz-"))
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        status = 1
        try:
            _work(make, read, numbers, arena, theirs, warm)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(theirs)
    try:
        yield from _listen(ours, child, numbers)
    finally:
        os.close(ours)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(child, 0)
        shutil.rmtree(arena, ignore_errors=True)


def _listen(pipe: int, child: int, numbers: list[int]) -> Iterator[Outcome]:
    """What a child says; where it dies, the input that it was at has failed."""
    waiting = list(numbers)
    rest, swollen = b"", False
    while waiting:
        ready, _, _ = select.select([pipe], [], [], WALL)
        if not ready:
            yield Outcome(waiting[0], "failed", "hang", f"nothing for {WALL:.0f} s")
            return
        data = os.read(pipe, 1 << 16)
        if not data and swollen:
            return
        if not data:
            _, status = os.waitpid(child, 0)
            number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
            if number == signal.SIGPROF:
                yield Outcome(waiting[0], "failed", "hang", f"more than {CPU:.0f} s of CPU time")
            else:
                how = f"signal {signal.Signals(number).name}" if number else f"exit {os.waitstatus_to_exitcode(status)}"
                yield Outcome(waiting[0], "failed", f"crash: {how}")
            return
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            said = json.loads(line)
            waiting.pop(0)
            swollen = str(said[2]).startswith("memory")
            yield Outcome(*said)


def _work(
    make: Callable[[int], Case],
    read: Callable[[Path], None],
    numbers: list[int],
    arena: Path,
    pipe: int,
    warm: Sequence[Case],
) -> None:
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    if not os.environ.get("FUZZ_LOUD"):
        os.dup2(quiet, 2)
    sys.dont_write_bytecode = True
    faulthandler.disable()  # a crash is told by its signal
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    (arena / OUTSIDE).mkdir()
    (arena / f"{OUTSIDE}.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    watch = Watch()
    sys.addaudithook(watch)
    for number, case in enumerate(warm):  # what loads when it is first used is no input's doing
        _read(case, read, arena / f"warm{number}")
    size = _status("VmSize") + SPACE
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in numbers:
        case = make(number)
        folder = arena / f"case{number}"
        watch.arena, watch.seen = str(arena), []
        verdict, kind, detail = _measured(case, read, folder, watch)
        shutil.rmtree(folder, ignore_errors=True)
        os.write(pipe, json.dumps([number, verdict, kind, detail[:1500]]).encode() + b"\n")
        if kind.startswith("memory"):
            return  # what is swollen measures badly


def _measured(case: Case, read: Callable[[Path], None], folder: Path, watch: Watch) -> tuple[str, str, str]:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = _status("VmRSS")
    watch.folder = str(folder)
    signal.setitimer(signal.ITIMER_PROF, CPU)
    try:
        verdict, kind, detail = _read(case, read, folder)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    watch.folder = None
    grown = _status("VmHWM") - before
    if watch.seen:
        return "failed", f"did: {watch.seen[0].split()[0]}", "; ".join(watch.seen)
    if grown > ROOM + TIMES * sum(map(len, case.values())):
        return "failed", f"memory, then {verdict} {kind}", f"{grown >> 20} MiB for {sum(map(len, case.values()))} bytes"
    return verdict, kind, detail


def _read(case: Case, read: Callable[[Path], None], folder: Path) -> tuple[str, str, str]:
    from assay.errors import UserError

    folder.mkdir()
    write_files(case, folder)
    try:
        read(folder)
    except UserError as error:
        fault = _fault(str(error), folder)
        where = _where(error)
        return ("failed", f"message {fault}: {where}", repr(str(error))) if fault else ("refused", where, str(error))
    except BaseException as error:  # PanicException of compiled Rust is one of these
        told = "".join(traceback.format_exception(error, limit=-6))
        return "failed", f"{type(error).__name__} at {_where(error)}", told[-1400:]
    return "clean", "", ""


def _fault(message: str, folder: Path) -> str:
    """What is wrong with an error's text, or ''."""
    if not message.strip():
        return "empty"
    if len(message) > LONGEST:
        return "too long"
    if any(unicodedata.category(char) in ("Cc", "Cs") and char not in "\n\t" for char in message):
        return "with control characters"
    if str(folder) not in message:
        return "names no file"
    return ""


def _where(error: BaseException) -> str:
    """The innermost line of assay's own: file and function."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/assay/" in f.filename]
    if not frames:
        return "outside"
    return f"{frames[-1].filename.rpartition('/assay/')[2]} {frames[-1].name}"


def _status(name: str) -> int:
    """A line of /proc/self/status, bytes."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith(name + ":"))
