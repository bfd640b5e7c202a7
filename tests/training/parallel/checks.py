"""What ranks do in the tests; each function runs on every rank of a `Crew`, with its `World`."""

from __future__ import annotations

import dataclasses
import errno
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from safetensors.torch import load_file
from torch.distributed.tensor import DTensor

from assay.errors import UserError
from assay.nn import build
from assay.runs import RunFolder, disk_guard
from assay.spec.study import RunSpec
from assay.training import loop
from assay.training.accounting import BatchCount
from assay.training.checkpoint import moments
from assay.training.loop import train_run
from assay.training.optimizer import global_norm
from assay.training.parallel.checkpoint import TeamKeeper
from assay.training.parallel.onefile import OneFileWriter
from assay.training.parallel.team import Team
from assay.training.parallel.world import World
from assay.training.start import text_of
from assay.training.step import gradients


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


def begun(world: World, run: dict[str, Any], out: str) -> loop.Training:
    """A run, built or restored."""
    spec = RunSpec.from_dict(run)
    return loop.Training(spec, RunFolder(Path(out)), text_of(spec), "cpu", lambda row: None, None, world)


def held(training: loop.Training) -> dict[str, dict[str, Any]]:
    """Weights and moments of a run, whole, by file and name."""
    found: dict[str, dict[str, Any]] = {"model": {}, "optimizer": {}}
    if isinstance(training.keeper, TeamKeeper):
        tensors = training.keeper._tensors()
    else:
        tensors = {f"model/{name}": p for name, p in training.model.named_parameters()}
        tensors |= {f"optimizer/{name}": p for name, p in moments(training.model, training.optimizer).items()}
    for key, tensor in tensors.items():
        file, _, name = key.partition("/")
        whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        found[file][name] = whole.detach().clone().numpy()
    return found


def write(world: World, run: dict[str, Any], out: str) -> Any:
    """One step, and its checkpoint; weights are overwritten as soon as `save` returns."""
    training = begun(world, run, out)
    step = training._step()
    with suppress(StopIteration):
        step.send((training.take(next(step)), 0.0))
    wanted = held(training)
    training.keeper.save(1, training.at.plain())
    with torch.no_grad():
        for parameter in (training.team.shards if training.team else training.model).parameters():
            parameter.fill_(torch.nan)
    training.keeper.wait()
    return wanted if world.leads else None


def read(world: World, run: dict[str, Any], out: str) -> Any:
    """What a run holds when it goes on."""
    training = begun(world, run, out)
    assert training.at.step == 1
    whole = held(training)
    return whole if world.leads else None


def slow_disk(world: World, run: dict[str, Any], out: str, until: int) -> dict[str, Any]:
    """Train while the first write waits for a step; the steps at which writes ended, and what the first one kept."""
    folder, at, ended = RunFolder(Path(out)), {"step": 0}, []
    kept: dict[str, Any] = {}
    real_write, real_finish = OneFileWriter.write_data, OneFileWriter.finish

    def slow(self: OneFileWriter, plan: Any, planner: Any) -> Any:
        give_up = time.monotonic() + 30
        while world.leads and at["step"] < until and time.monotonic() < give_up:
            time.sleep(0.01)
        return real_write(self, plan, planner)

    def finish(self: OneFileWriter, metadata: Any, results: Any) -> None:
        real_finish(self, metadata, results)
        ended.append(at["step"])
        if not kept:
            (file,) = folder.checkpoints.glob("step-*/model.safetensors")
            kept.update({name: value.numpy() for name, value in load_file(file).items()})

    def watch(row: dict[str, Any]) -> None:
        if row["kind"] == "train":
            at["step"] = row["step"]

    with mock.patch.object(OneFileWriter, "write_data", slow), mock.patch.object(OneFileWriter, "finish", finish):
        outcome = train_run(RunSpec.from_dict(run), folder, world=world, progress=watch, device="cpu")
    return {"ended": ended, "kept": kept, "outcome": outcome}


def full_disk(world: World, run: dict[str, Any], out: str, rank: int, write: int) -> str:
    """What every rank says when the disk of one is full at a write."""
    real, calls = OneFileWriter.write_data, iter(range(1, 100))

    def full(self: OneFileWriter, plan: Any, planner: Any) -> Any:
        if next(calls) == write and world.rank == rank:
            with disk_guard(Path(out), 1000):
                raise OSError(errno.ENOSPC, "no space left on device")
        return real(self, plan, planner)

    with mock.patch.object(OneFileWriter, "write_data", full):
        return refusal(world, run, out)


def first_gradients(world: World, run: dict[str, Any], out: str) -> dict[str, Any]:
    """Whole gradients of the first step, by name, in float64, from every rank."""
    with double():
        training = begun(world, run, out)
    batch, say, team = training.loader.batch(0, 0), training.run.train, training.team
    weight = world.total(training.meter.count(batch)).weight
    gradients(
        training.model, batch, weight=weight, parts=say.accumulation, z_loss=1e-3, dtype="float32", team=team
    )  # fmt: skip
    found = {}
    for name, parameter in (team.shards if team else training.model).named_parameters():
        if parameter.grad is None:
            continue
        whole = team.shards.pairs[name][0] if team else parameter
        if isinstance(whole, DTensor):
            placed = (whole.device_mesh, whole.placements)
            parts = DTensor.from_local(
                parameter.grad, *placed, run_check=False, shape=whole.shape, stride=whole.stride()
            )  # fmt: skip
            found[name] = parts.full_tensor().numpy()
        else:
            found[name] = parameter.grad.numpy()
    return found


def bad_gradient(world: World, run: dict[str, Any], out: str, rank: int, step: int) -> dict[str, Any]:
    """Train; at a step the gradient of one rank is infinite."""
    real, calls = Team.collect, iter(range(100))
    next(calls)

    def collect(self: Team) -> None:
        real(self)
        # The first call is the pass that memory is measured by.
        if next(calls) == step + 1 and world.rank == rank:
            next(p for p in self.shards.parameters() if p.grad is not None).grad.fill_(torch.inf)

    with mock.patch.object(Team, "collect", collect):
        return train(world, run, out)


def signalled(world: World, run: dict[str, Any], out: str, rank: int, step: int) -> dict[str, Any]:
    """Train; one rank is told to end at a step, twice. What every rank then raises."""
    steps = iter(range(1, 1000))

    def stop() -> bool:
        if next(steps) == step and world.rank == rank:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
        return False

    try:
        train_run(RunSpec.from_dict(run), RunFolder(Path(out)), stop=stop, world=world, device="cpu")
    except KeyboardInterrupt as error:
        return {"raised": str(error), "status": getattr(error, "status", 130)}
    raise AssertionError("not stopped")


def agreeing(world: World) -> dict[str, Any]:
    """Everything that a `World` agrees on."""

    def wrong(number: int) -> None:
        raise UserError(f"a = {number}: wrong.")

    def message(work: Callable[[], Any]) -> str:
        try:
            work()
        except UserError as error:
            return str(error)
        return ""

    ran: list[int] = []
    return {
        "sums": world.sums(world.rank, 2.0**50 + 1),
        "any": world.any(world.rank == 3),
        "none": world.any(False),
        "lead": world.lead(lambda: world.rank),
        "together": world.together(lambda: world.rank),
        "lead error": message(lambda: world.lead(lambda: wrong(1))),
        "error of 2": message(lambda: world.together(lambda: wrong(world.rank) if world.rank >= 2 else None)),
        "turn": world.in_turn(lambda: not ran and ran.append(1) is None),
        "same": message(lambda: world.same("data", {"hash": "y" if world.rank == 3 else "x"})),
    }
