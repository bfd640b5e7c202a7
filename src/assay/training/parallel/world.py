"""How the ranks of a run talk: sums of a few numbers, what rank 0 alone does, and errors that all raise together.

In a single process everything here is the identity, so that the loop reads the same with and without ranks.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeVar

from assay.errors import UserError
from assay.training.accounting import BatchCount
from assay.training.parallel.layout import Launch, launched

__all__ = ["RankLost", "World", "lost"]

T = TypeVar("T")

TIMEOUT = 600.0
"""Seconds that a rank waits for the others in a step before it gives up; ASSAY_RANK_TIMEOUT says otherwise."""
PATIENCE = timedelta(hours=24)
"""For what rank 0 does alone while the others wait: reading a text and training a tokenizer. A rank that ends is
noticed at once all the same, since its connections close."""


class RankLost(Exception):
    """Another rank has ended, or does not answer: this one cannot go on."""


def lost(error: BaseException) -> bool:
    """Whether an error says that another rank is gone."""
    import torch.distributed as dist

    if isinstance(error, RankLost | dist.DistError):
        return True
    failures = getattr(error, "failures", None)  # distributed checkpoint's own wrapping
    if isinstance(failures, dict):
        return any(lost(failure[0]) for failure in failures.values())
    # gloo speaks through RuntimeError alone.
    said = str(error)
    signs = ("gloo", "Connection closed by peer", "Connection reset by peer", "Broken pipe", "Timed out waiting")
    return isinstance(error, RuntimeError) and any(sign in said for sign in signs)


class World:
    """The ranks of a run, as one of them sees them.

    Attributes:
        rank, size: this one of how many.
        local_rank, local_size: the same on this machine.
        device: where this rank computes.
    """

    def __init__(self, launch: Launch | None = None, device: str | None = None) -> None:
        """Args: launch: its place; None: alone. device: None: to be chosen by the caller."""
        launch = launch or Launch()
        self.launch, self.device = launch, device
        self.rank, self.size, self.local_rank, self.local_size, _ = launch
        self._patient: Any = None
        self._store: Any = None

    @classmethod
    def join(cls, *, device: str | None = None, timeout: float | None = None) -> World:
        """Meet the other ranks that the environment names; alone where it names none.

        Args:
            device: "cpu" or "cuda"; None: an accelerator where there is one.
            timeout: seconds to wait for others in a step.

        Raises:
            UserError: the others cannot be met.
        """
        launch = launched()
        if launch.size == 1:
            return cls(launch, device)
        import torch
        import torch.distributed as dist

        kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if kind == "cuda":
            kind = f"cuda:{launch.local_rank}"
            torch.cuda.set_device(launch.local_rank)
        backend = "cpu:gloo,cuda:nccl" if kind.startswith("cuda") else "gloo"
        seconds = timeout or float(os.environ.get("ASSAY_RANK_TIMEOUT", TIMEOUT))
        try:
            store, rank, size = next(dist.rendezvous("env://", timeout=timedelta(seconds=seconds)))
            # The launcher's store may be that of an earlier attempt, and hold the addresses of the dead.
            store = dist.PrefixStore(f"assay {launch.attempt}", store)
            dist.init_process_group(
                backend, store=store, rank=rank, world_size=size, timeout=timedelta(seconds=seconds)
            )  # fmt: skip
        except (RuntimeError, ValueError) as error:
            raise UserError(
                f"rank {launch.rank} of {launch.size}: cannot meet the other processes ({str(error).splitlines()[0]}).",
                "Start all of them with torchrun; across machines, with --rdzv-endpoint HOST:PORT.",
            ) from None
        world = cls(launch, kind)
        world._patient = dist.new_group(backend="gloo", timeout=PATIENCE)
        world._store = store
        return world

    @property
    def leads(self) -> bool:
        """Whether this is the rank that prints and writes."""
        return self.rank == 0

    def sums(self, *values: float) -> list[float]:
        """Each value summed over ranks, in float64: whole numbers below 2^53 come out exactly."""
        if self.size == 1:
            return list(values)
        import torch
        import torch.distributed as dist

        table = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(table)
        return [float(value) for value in table]

    def total(self, count: BatchCount) -> BatchCount:
        """What the ranks' rows of a batch hold together."""
        if self.size == 1:
            return count
        flops, targets, weight, inputs, slots = self.sums(
            count.flops, count.targets, count.weight, count.inputs, count.slots
        )
        return BatchCount(flops, int(targets), weight, int(inputs), int(slots))

    def same(self, what: str, facts: dict[str, Any]) -> None:
        """Refuse to go on where ranks see different things.

        Raises:
            UserError: naming the first field that differs.
        """
        seen = self.together(lambda: facts)
        for rank, theirs in enumerate(seen):
            for name in theirs:
                if theirs[name] != seen[0].get(name):
                    raise UserError(
                        f"{what}.{name}: {seen[0].get(name)!r} on rank 0 and {theirs[name]!r} on rank {rank}.",
                        "Give all machines the same files.",
                    )

    def any(self, flag: bool) -> bool:
        """Whether it is so on any rank; the same answer on all."""
        return bool(flag) if self.size == 1 else self.sums(float(flag))[0] > 0

    def lead(self, work: Callable[[], T], *, patient: bool = False) -> T:
        """What `work` gives on rank 0, on every rank.

        Args:
            work: of rank 0.
            patient: wait for it as long as it takes.

        Raises:
            UserError: rank 0 raised it; every rank does.
            RankLost: rank 0 failed otherwise (it raises what it raised).
        """
        if self.size == 1:
            return work()
        import torch.distributed as dist

        result, error = _attempt(work) if self.leads else (None, None)
        said: list[Any] = [(result, _told(error, self.rank))]
        dist.broadcast_object_list(said, src=0, group=self._patient if patient else None)
        _raise(error, [said[0][1]])
        return said[0][0]

    def together(self, work: Callable[[], T], *, patient: bool = False) -> list[T]:
        """What `work` gives on each rank, by rank, on every rank.

        Args:
            work: of this rank.
            patient: wait for the others as long as it takes.

        Raises:
            UserError: some rank raised it; every rank raises the first one's.
            RankLost: some other rank failed otherwise (it raises what it raised).
        """
        if self.size == 1:
            return [work()]
        import torch.distributed as dist

        result, error = _attempt(work)
        said: list[Any] = [None] * self.size
        dist.all_gather_object(said, (result, _told(error, self.rank)), group=self._patient if patient else None)
        _raise(error, [told for _, told in said])
        return [value for value, _ in said]

    def in_turn(self, work: Callable[[], T]) -> T:
        """`work` on the first rank of every machine, however long it takes, then on the others: those find its result
        in the cache.

        Raises:
            UserError, RankLost: as `together`.
        """
        first = self.local_rank == 0
        found: list[T] = []
        self.together(lambda: found.append(work()) if first else None, patient=True)
        self.together(lambda: None if first else found.append(work()), patient=True)
        return found[0]

    def once(self, say: Callable[[], None], *, seconds: float = 5.0) -> None:
        """Say something that every rank has to say, once: rank 0 does, and others when it has not within a time.

        It asks nothing of ranks that have nothing to say, so it serves where the others may be anywhere.
        """
        if self.size == 1 or self.leads:
            say()
            if self._store is not None:
                self._store.set("said", "")
            return
        try:
            self._store.wait(["said"], timedelta(seconds=seconds))
        except Exception:  # rank 0 has something else on its mind, or is gone
            say()

    def close(self) -> None:
        """Part from the others."""
        if self.size > 1:
            import torch.distributed as dist

            with suppress(Exception):  # they may be gone
                dist.destroy_process_group()


def _attempt(work: Callable[[], T]) -> tuple[T | None, Exception | None]:
    try:
        return work(), None
    except Exception as error:
        return None, error


def _told(error: Exception | None, rank: int) -> UserError | str | None:
    """An error as other ranks hear of it: a user's mistake whole, anything else in words."""
    if error is None or isinstance(error, UserError):
        return error
    return f"rank {rank} failed: {type(error).__name__}: {error}"


def _raise(own: Exception | None, told: list[UserError | str | None]) -> None:
    for error in told:
        if isinstance(error, UserError):
            raise error
    if own is not None:
        raise own
    for error in told:
        if error is not None:
            raise RankLost(str(error))
