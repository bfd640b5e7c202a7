"""What ranks do in the tests; each function runs on every rank of a `Crew`, with its `World`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from assay.errors import UserError
from assay.nn import build
from assay.runs import RunFolder
from assay.spec.study import RunSpec
from assay.training import loop
from assay.training.accounting import BatchCount
from assay.training.loop import train_run
from assay.training.optimizer import global_norm
from assay.training.parallel.team import Team
from assay.training.parallel.world import World


def double() -> Any:
    """Weights in float64, so that a difference in the order of sums is 1e-16 and anything else is not."""
    return mock.patch.object(loop, "build", partial(build, dtype="float64"))


def stop_after(steps: int | None) -> Callable[[], bool] | None:
    calls = iter(range(1, 10**6))
    return None if steps is None else lambda: next(calls) >= steps


def rank_means() -> Any:
    """Every rank takes the mean over its own targets, and gradients are averaged."""
    real = World.total

    def total(self: World, count: BatchCount) -> BatchCount:
        return dataclasses.replace(real(self, count), weight=count.weight * self.size)

    return mock.patch.object(World, "total", total)


def local_norm() -> Any:
    """Every rank clips by the norm of what it holds."""
    return mock.patch.object(Team, "norm", lambda self, gradients: global_norm(gradients))


def same_rows() -> Any:
    """Every rank takes the first rank's rows."""
    real = loop.make_loader
    return mock.patch.object(
        loop, "make_loader", lambda run, text, *, rank, ranks: real(run, text, rank=0, ranks=ranks)
    )


MISTAKES = {"rank means": rank_means, "local norm": local_norm, "same rows": same_rows, "": nullcontext}
"""Classic ones, by name."""


def train(
    world: World, run: dict[str, Any], out: str, *, stop: int | None = None, wide: bool = False, mistake: str = ""
) -> dict[str, Any]:
    """Train a run, or what is left of it; what it came to and, of rank 0, its rows."""
    folder = RunFolder(Path(out))
    seen: list[dict[str, Any]] = []
    with ExitStack() as stack:
        if wide:
            stack.enter_context(double())
        stack.enter_context(MISTAKES[mistake]())
        outcome = train_run(
            RunSpec.from_dict(run), folder, stop=stop_after(stop), world=world, progress=seen.append, device="cpu"
        )
    assert world.leads or not seen, "only rank 0 tells"
    return {"outcome": outcome, "rows": folder.metrics() if world.leads else None, "seen": len(seen)}


def refusal(world: World, run: dict[str, Any], out: str) -> str:
    """The message with which every rank refuses a run."""
    try:
        train_run(RunSpec.from_dict(run), RunFolder(Path(out)), world=world, device="cpu")
    except UserError as error:
        return str(error)
    raise AssertionError("not refused")
