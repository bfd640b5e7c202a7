"""A Ray cluster as a place where workers run: one actor and one core a worker, files sent there and back.

`ray` starts Ray on this machine (or goes where RAY_ADDRESS says); `ray://HOST:PORT` is a cluster's client server.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from assay.data import delivered
from assay.data.sources import read
from assay.errors import UserError
from assay.runs import versions
from assay.studies.berth import Berth
from assay.studies.parcels import pack, unpack
from assay.studies.places import Task, Worker, default_workers
from assay.studies.processes import environment, waited
from assay.studies.protocol import LOST, MODULES

__all__ = ["RayPlace"]

LOOK = 0.3
"""Seconds between looks at a worker, each a message over the network."""
REACH = 5.0
"""Seconds in which an address has to answer at all."""
SAME = ("assay", "torch")
"""Versions that all machines have to share."""
KEPT = ("ASSAY_NATIVE",)
"""Variables of this process that change how numbers are got."""


class RayPlace:
    """A cluster. Nothing is shared between its machines: see `berth`.

    Args:
        on: "ray" or "ray://HOST:PORT".
        workers: cores that Ray is given where it is started here; None: this machine's.
        modules: what workers need in memory beside a run's own.

    Raises:
        UserError: ray is not installed, nothing answers at the address, or it does not fit this one.
    """

    def __init__(self, on: str, *, workers: int | None = None, modules: Sequence[str] = ()) -> None:
        """Connect."""
        self._on, self.option = on, f" --on {on}"
        self._modules = [*MODULES, *modules]
        self._ray = _import()
        self._mine = on != "ray" or not self._ray.is_initialized()  # a caller's own Ray is used and left as it is
        self._sigterm = signal.getsignal(signal.SIGTERM)
        if self._mine:
            _connect(self._ray, on, workers or default_workers())
        self._free: list[Any] = []
        self._all: list[Any] = []
        self._busy: list[_RayWorker] = []
        self._texts: dict[tuple[str, str], Callable[[], bytes]] = {}
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        self._actor = self._ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(Berth)
        self._arguments = (self._modules, kept)

    @property
    def slots(self) -> int:
        """The cluster's cores, as it is now."""
        with self.reachable():
            return max(int(self._ray.cluster_resources().get("CPU", 1)), 1)

    def start(self, task: Task) -> Worker:
        """Send a task to a machine with a free core; where there is none it waits for one."""
        for data in task.texts:
            key = (data.source, data.text_field)
            if key not in self._texts and not data.source.startswith("made:"):  # those are the same everywhere
                with suppress(UserError):  # the worker says it, of its own run
                    self._texts[key] = partial(
                        self._ray.get, self._ray.put(delivered.wrap(read(*key[:1], text_field=key[1])))
                    )
        self._busy.append(_RayWorker(self, task))
        return self._busy[-1]

    def berth(self) -> tuple[Any, bool]:
        """An actor, and whether it has served before."""
        if self._free:
            return self._free.pop(), True
        self._all.append(self._actor.remote(*self._arguments))
        return self._all[-1], False

    def ended(self, worker: _RayWorker, actor: Any = None) -> None:
        """A worker serves no longer; `actor`: what may serve again.

        It keeps its core: where another worker still waits for one (a machine was lost), it serves that.
        """
        self._busy.remove(worker)
        if actor is None:
            return
        if (other := next((one for one in self._busy if one.waits_for_a_core), None)) is not None:
            other.move(actor)
        else:
            self._free.append(actor)

    def drop(self, actor: Any) -> None:
        """An actor is gone, or is to go."""
        with suppress(ValueError):
            self._all.remove(actor)
        with suppress(Exception):
            self._ray.kill(actor)

    def texts(self, task: Task) -> dict[tuple[str, str], Callable[[], bytes]]:
        """What fetches a task's texts."""
        keys = {(data.source, data.text_field) for data in task.texts}
        return {key: fetch for key, fetch in self._texts.items() if key in keys}

    def check(self, facts: dict[str, str]) -> None:
        """Refuse a machine of other versions.

        Raises:
            UserError: its numbers would be another program's.
        """
        mine = versions()
        for name in SAME:
            if facts.get(name) != mine.get(name):
                raise UserError(
                    f"--on {self._on}: {facts['machine']} has {name} {facts.get(name)}, this machine {mine.get(name)}.",
                    "Install one version on all machines.",
                )

    @contextmanager
    def reachable(self) -> Iterator[None]:
        """Tell of a connection that broke inside."""
        try:
            yield
        except Exception as error:
            system = isinstance(error, ConnectionError | self._ray.exceptions.RaySystemError)
            if not system and not type(error).__module__.startswith("grpc"):
                raise
            raise UserError(
                f"--on {self._on}: the connection to the cluster is lost ({_first(error)}).",
                "What had arrived is kept; the same command with --resume goes on from there.",
            ) from None

    @property
    def ray(self) -> Any:
        """The module."""
        return self._ray

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave nothing on the machines; end Ray where it was started here, and take back the signal that it took."""
        try:
            self._leave()
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, self._sigterm)

    def _leave(self) -> None:
        if not self._ray.is_initialized():  # the connection is lost
            return
        closing = []
        for actor in self._all:
            with suppress(Exception):  # machines that are gone need no clearing
                closing.append(actor.close.remote())
        with suppress(Exception):
            self._ray.wait(closing, num_returns=len(closing), timeout=REACH)
        for actor in list(self._all):
            self.drop(actor)
        if self._mine:
            self._ray.shutdown()


@dataclass(eq=False)
class _RayWorker:
    """A worker in an actor: every look asks what is new, and puts it into this machine's folders."""

    place: RayPlace
    task: Task
    pid: int | None = None
    returncode: int | None = None
    _actor: Any = None
    _served: bool = False
    _waits: Any = None
    """The answer that is waited for: of `facts` and `start`, then of `look`."""
    _asked: float = field(default=0.0)

    def __post_init__(self) -> None:
        self._begin()

    def poll(self) -> int | None:
        """How it ended, None while it runs; what it wrote is in place when this returns."""
        while self.returncode is None and self._step():
            pass
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """How it ended.

        Raises:
            subprocess.TimeoutExpired: it still runs after `timeout` seconds.
        """
        return waited(self.poll, timeout, pause=0.05)

    def terminate(self) -> None:
        """Ask it to stop; one that has not begun is not to begin."""
        if self.pid or self.poll() is not None:
            self._actor.terminate.remote()
        else:
            self._lost("it had not begun")

    def kill(self) -> None:
        """End it."""
        self._actor.kill.remote()

    @property
    def waits_for_a_core(self) -> bool:
        """Whether its actor is not there yet."""
        return self.pid is None and not self.place.ray.wait(self._waits[:1], timeout=0)[0]

    def move(self, actor: Any) -> None:
        """Begin in another actor."""
        self.place.drop(self._actor)
        self._begin(actor)

    def _begin(self, actor: Any = None) -> None:
        self._actor, self._served = (actor, True) if actor is not None else self.place.berth()
        task, (writes, reads) = self.task, ([str(p) for p in paths] for paths in (self.task.writes, self.task.reads))
        parcel = pack([*task.writes, *task.reads])
        started = self._actor.start.remote(
            task.module, list(task.arguments), str(task.log), writes, reads, parcel, self.place.texts(task)
        )
        self._waits = [self._actor.facts.remote(), started]

    def _step(self) -> bool:
        """One answer, if it is there; whether another may be."""
        if self._waits is None and time.monotonic() - self._asked < LOOK:
            return False
        ray, errors = self.place.ray, self.place.ray.exceptions
        with self.place.reachable():
            try:
                if self._waits is None:
                    self._asked, self._waits = time.monotonic(), [self._actor.look.remote()]
                if len(ray.wait(self._waits, num_returns=len(self._waits), timeout=0)[0]) < len(self._waits):
                    return False
                answers, self._waits = ray.get(self._waits), None
            except errors.RayActorError as error:
                return self._gone(error)
        if not self.pid:
            self.place.check(answers[0])
            self.pid = answers[1]
        else:
            status, parcel = answers[0]
            unpack(parcel)
            if status is not None:
                self.returncode = status
                self.place.ended(self, self._actor)
        return True

    def _gone(self, error: Exception) -> bool:
        if not self.pid and self._served:  # it had died while it was free: the run has not begun
            self.place.drop(self._actor)
            self._begin()
            return False
        if "No module named 'assay" in str(error):
            raise UserError(
                "--on: a machine of the cluster has no assay.", "Install the same version on all machines."
            ) from None
        return self._lost(_first(error))

    def _lost(self, why: str) -> bool:
        self.returncode = LOST
        self.place.drop(self._actor)
        self.place.ended(self)
        with self.task.log.open("a", encoding="utf-8") as log:
            log.write(f"lost: {why}\n")
        return False


def _import() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told of a study
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # a lost connection is no reason to start Ray here
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # a berth sees to that; else Ray warns
    try:
        import ray
    except ImportError:
        raise UserError("--on ray: ray is not installed.", "Install it: pip install 'assay[ray]'") from None
    return ray


def _connect(ray: Any, on: str, cores: int) -> None:
    address = on if on != "ray" else os.environ.get("RAY_ADDRESS")
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if not address or address in ("local", "auto"):
        source = {"env_vars": {"PYTHONPATH": environment()["PYTHONPATH"]}}  # this very package, wherever it lies
        ray.init(
            address,
            **quiet,
            runtime_env=source,
            **({} if address == "auto" else {"num_cpus": cores, "include_dashboard": False}),
        )
        return
    host, port = _host(on, address)
    try:
        socket.create_connection((host, port), timeout=REACH).close()
    except OSError as error:
        raise UserError(
            f"--on {on}: nothing answers at {host}:{port} ({error.strerror or error}).",
            "Start Ray there (ray start --head), open its client port, or give its address: --on ray://HOST:10001",
        ) from None
    try:
        ray.init(address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(
            f"--on {on}: {host}:{port} answers, but not as a Ray cluster that fits ({_first(error)}).",
            "Give its client port, install the same Python and ray on all machines, and where the cluster asks for a "
            "token set RAY_AUTH_MODE=token.",
        ) from None


def _host(on: str, address: str) -> tuple[str, int]:
    parts = urlsplit(address if "//" in address else f"//{address}")
    with suppress(ValueError):
        if parts.hostname and parts.port and parts.scheme in ("", "ray"):
            return parts.hostname, parts.port
    raise UserError(f"--on {on}: {address!r} is no address.", "Write --on ray, or --on ray://HOST:10001")


def _first(error: BaseException) -> str:
    said = [line.strip() for line in str(error).splitlines() if line.strip()]
    if said and said[0].endswith(":"):  # the cause comes last, below a trace
        said[0] += f" {said[-1]}"
    return said[0][:300] if said else type(error).__name__
