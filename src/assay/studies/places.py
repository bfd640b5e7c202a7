"""Where workers run: what this machine and a Ray cluster offer alike, and the former."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from assay.errors import UserError
from assay.spec.data import DataSpec
from assay.studies.processes import Nursery
from assay.studies.protocol import MODULES

__all__ = ["Here", "Place", "Task", "Worker", "default_workers", "open_place"]


@dataclass(frozen=True)
class Task:
    """What a worker is to do: `module.main(arguments)`, and the files that this takes.

    Another machine brings them there and back, so all paths are absolute.
    """

    module: str
    """Such as "assay.studies.worker"."""
    arguments: tuple[str, ...]
    """Texts; a path among them is one of the paths below."""
    log: Path
    """The file of its standard output and error."""
    writes: tuple[Path, ...]
    """Files and folders that it writes, and reads first where they are there."""
    reads: tuple[Path, ...] = ()
    """Files and folders that it only reads."""
    texts: tuple[DataSpec, ...] = ()
    """What text it reads."""


class Worker(Protocol):
    """A worker as who started it sees it: `subprocess.Popen`'s words."""

    @property
    def pid(self) -> int | None:
        """Its process, on whatever machine; None while it is not known."""

    def poll(self) -> int | None:
        """How it ended, None while it runs: an exit status, minus a signal's number, or `protocol.LOST`."""

    def wait(self, timeout: float | None = None) -> int:
        """How it ended. Raises subprocess.TimeoutExpired after `timeout` seconds."""

    def terminate(self) -> None:
        """Ask it to stop; it writes a checkpoint first."""

    def kill(self) -> None:
        """End it."""


class Place(Protocol):
    """A context manager that starts workers; at its end they are let go."""

    option: str
    """What a command is given to come here again: "" or " --on ray"."""

    @property
    def slots(self) -> int:
        """Workers of one thread that it has room for."""

    def start(self, task: Task) -> Worker:
        """Start a worker. Raises UserError where the place is gone."""

    def __enter__(self) -> Self:
        """Itself, ready."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go."""


class Here:
    """This machine: workers are its processes and work in the folders themselves.

    Args:
        modules: what workers need in memory beside a run's own; see `Nursery`.
    """

    option = ""

    def __init__(self, modules: Sequence[str] = ()) -> None:
        """See the class."""
        self._nursery = Nursery([*MODULES, *modules])

    @property
    def slots(self) -> int:
        """As many as this process has cores; one where an accelerator does the work."""
        return default_workers()

    def start(self, task: Task) -> Worker:
        """Start a process."""
        return self._nursery.start(task.module, task.arguments, task.log)

    def __enter__(self) -> Here:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Workers that still run see their parent gone."""
        self._nursery.__exit__()


def default_workers() -> int:
    """As many workers as this process has cores; one where an accelerator does the work."""
    from assay.runs import hardware

    machine = hardware()
    return 1 if machine["accelerators"] else int(machine["cores"] or 1)


def open_place(on: str | None = None, *, workers: int | None = None, modules: Sequence[str] = ()) -> Place:
    """A place by its name.

    Args:
        on: None: this machine; "ray": Ray, started on this machine or where RAY_ADDRESS says; "ray://HOST:PORT": a
            cluster.
        workers: at a time, where that decides how much is started.
        modules: what workers need in memory beside a run's own.

    Raises:
        UserError: no such place, or it cannot be reached.
    """
    if on is None:
        return Here(modules)
    if on != "ray" and not on.startswith("ray://"):
        raise UserError(f"--on {on}: no such place.", "Write --on ray, or --on ray://HOST:10001")
    from assay.studies.ray_place import RayPlace

    return RayPlace(on, workers=workers, modules=modules)
