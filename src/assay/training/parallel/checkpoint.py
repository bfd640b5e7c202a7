"""Checkpoints of a run on several ranks: written while training goes on, read on any number of ranks.

The files are those of a single process (`training.checkpoint`), so a run may go on with other ranks, or with one.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.tensor import DTensor

from assay.errors import UserError
from assay.published.files import header
from assay.runs import RunFolder, read_json, verify_files, write_json
from assay.training.checkpoint import MODEL, OPTIMIZER, STATE, check_names, resumable
from assay.training.parallel.onefile import OneFileReader, OneFileWriter
from assay.training.parallel.team import Team
from assay.training.parallel.world import RankLost, lost

__all__ = ["TeamKeeper"]

TIMEOUT = timedelta(minutes=60)
"""For a rank to write what it holds while the others have written theirs."""


class TeamKeeper:
    """Writes and reads a team's checkpoints. One write is under way at most; the next waits for it.

    Args:
        folder: of the run.
        team: whose weights they are.
        optimizer: over the team's shards.
    """

    def __init__(self, folder: RunFolder, team: Team, optimizer: torch.optim.Optimizer) -> None:
        """See the class; all ranks make one together."""
        self.folder, self.team, self.optimizer = folder, team, optimizer
        self.under_way: tuple[_Write, concurrent.futures.Future[Any]] | None = None
        # Writing talks in a thread of its own, so it needs connections of its own.
        self.group = dist.new_group(backend="gloo", timeout=TIMEOUT)

    def load(self) -> dict[str, Any] | None:
        """Bring weights and moments to the newest checkpoint's state.

        Returns:
            The counters as they were saved, or None where there is no checkpoint to go on from.

        Raises:
            UserError: the checkpoint is damaged or of another model.
        """
        found = self.team.world.lead(self._newest, patient=True)  # checksums of all that is there
        if found is None:
            return None
        path, state = found
        for key in header(path / OPTIMIZER):
            name, _, field = key.rpartition("/")
            mine = self.team.shards.pairs[name][1]
            like = mine.new_zeros(()) if field == "step" else torch.zeros_like(mine)
            self.optimizer.state[mine][field] = like.detach()
        reader = OneFileReader(path, (MODEL, OPTIMIZER))
        _plainly(lambda: dcp.load(self._tensors(), storage_reader=reader, process_group=self.group))
        return state

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Begin to write a step's checkpoint; weights may change as soon as this returns.

        Raises:
            UserError: the checkpoint before could not be written (the disk is full); those before it are kept.
            RankLost: some rank has ended.
        """
        self.wait()
        write = _Write(self.folder, step, state)
        writer = OneFileWriter(write.open, write.close)
        pending = dcp.async_save(self._tensors(), storage_writer=writer, process_group=self.group)
        assert isinstance(pending, concurrent.futures.Future)
        self.under_way = write, pending

    @property
    def failed(self) -> bool:
        """Whether the write under way has come to nothing; `wait` says why."""
        if self.under_way is None or not self.under_way[1].done():
            return False
        return self.under_way[1].exception() is not None

    def wait(self) -> None:
        """Until the write under way is done.

        Raises:
            UserError, RankLost: as `save`.
        """
        if self.under_way is None:
            return
        (write, pending), self.under_way = self.under_way, None
        try:
            _plainly(pending.result)
        except BaseException as error:
            write.abandon(error)
            raise

    def _newest(self) -> tuple[Path, dict[str, Any]] | None:
        path = resumable(self.folder)
        if path is None:
            return None
        verify_files(path)
        pairs = self.team.shards.pairs
        check_names(
            path / MODEL,
            {name: entry.shape for name, entry in header(path / MODEL).items()},
            {name: tuple(whole.shape) for name, (whole, _) in pairs.items()},
        )
        return path, dict(read_json(path / STATE))

    def _tensors(self) -> dict[str, Tensor]:
        """Weights and moments, cut as this team cuts them."""
        found: dict[str, Tensor] = {}
        for name, (whole, mine) in self.team.shards.pairs.items():
            found[f"model/{name}"] = whole.detach()
            for field, value in self.optimizer.state.get(mine, {}).items():
                cut = isinstance(whole, DTensor) and field != "step"
                found[f"optimizer/{name}/{field}"] = _cut_like(whole, value) if cut else value
        return found


class _Write:
    """One checkpoint under way, as the coordinating rank sees it."""

    def __init__(self, folder: RunFolder, step: int, state: dict[str, Any]) -> None:
        self.folder, self.step, self.state = folder, step, state
        self.block = ExitStack()
        self.path: Path | None = None

    def open(self) -> Path:
        self.path = self.block.enter_context(self.folder.writing_checkpoint(self.step))
        return self.path

    def close(self) -> None:
        assert self.path is not None
        write_json(self.path / STATE, self.state)
        self.block.close()
        self.folder.keep_checkpoints(1)

    def abandon(self, error: BaseException) -> None:
        """Take away what was begun."""
        with suppress(BaseException):  # `error` itself, which the caller raises
            self.block.__exit__(type(error), error, error.__traceback__)


def _cut_like(whole: Tensor, mine: Tensor) -> Tensor:
    assert isinstance(whole, DTensor)
    return DTensor.from_local(
        mine, whole.device_mesh, whole.placements, run_check=False, shape=whole.shape, stride=whole.stride()
    )  # fmt: skip


def _plainly(work: Callable[[], Any]) -> None:
    """Do a distributed checkpoint's work; what went wrong on any rank is raised as what it was.

    Raises:
        UserError: a disk is full, or a file damaged.
        RankLost: a rank has ended.
    """
    try:
        work()
    except CheckpointException as error:
        causes = [cause for cause, _ in error.failures.values()]
        for cause in causes:
            if isinstance(cause, UserError):
                raise cause from None
        if any(map(lost, causes)):
            raise RankLost(str(causes[0])) from None
        raise RuntimeError(str(error)) from causes[0]
    except RuntimeError as error:
        if lost(error):
            raise RankLost(str(error)) from None
        raise
