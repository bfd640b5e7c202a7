"""Several runs, each in its folder, in one process: in lock-step where one batched model can do their steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch

from assay.errors import UserError
from assay.runs import RunFolder
from assay.spec.study import RunSpec
from assay.training.loop import Asked, Training
from assay.training.setup import pick_device
from assay.training.signals import Interrupt
from assay.training.start import text_of
from assay.training.step import StepResult
from assay.training.text import Text
from assay.training.together.eligible import kin, why_alone
from assay.training.together.stacked import Stacked

__all__ = ["Crew", "Member", "joins", "train_together"]

Progress = Callable[[dict[str, Any]], None]


def train_together(
    runs: Sequence[RunSpec],
    folders: Sequence[RunFolder],
    *,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
    text: Text | None = None,
    command: str | None = None,
    device: str | None = None,
) -> list[dict[str, Any]]:
    """Do several runs, or what is left of each, as `train_run` would one after another, but in less time.

    Members may be at different steps, and end or diverge at different ones: those that are left go on. A folder holds
    what its own run leaves there, and can be gone on with alone or in other company.

    Args:
        runs: of equal `eligible.kin`. What cannot be a member of a batched model has its steps done by itself.
        folders: where each is recorded.
        progress: called with every row of metrics of every member.
        stop: asked after every step; when it says True, all write checkpoints and this returns.
        text: the data, where the caller has it.
        command: recorded as what does these runs again.
        device: None: an accelerator where there is one; there, steps are done one by one.

    Returns:
        What `train_run` returns, for each.

    Raises:
        UserError: the runs are not of one kin, or one is impossible, or the disk is full.
        KeyboardInterrupt: on Ctrl-C or SIGTERM, after checkpoints.
    """
    if len({kin(run) for run in runs}) > 1:
        raise UserError(
            "runs: they differ in more than seed, optimizer, schedule and length of the run.",
            "Train those together that are equal in model, objective, data and shape of a batch.",
        )
    device, watch, asked = device or pick_device(), progress or (lambda row: None), stop or (lambda: False)
    with Interrupt() as interrupt, torch.random.fork_rng(devices=[]), ExitStack() as closing:
        left = [number for number, folder in enumerate(folders) if not folder.done]
        if left and text is None:
            text = text_of(runs[left[0]])
        trainings = {}
        for number in left:
            assert text is not None
            closing.callback(folders[number].close)
            trainings[number] = Training(runs[number], folders[number], text, device, watch, command)
        together = [training for training in trainings.values() if joins(training)]
        for training in together if len(together) > 1 else ():
            training.at.together = max(len(together), training.at.together)
            training.event({"event": "together", "members": len(together)})
        members = {n: Member(training, lambda: interrupt.happened or asked()) for n, training in trainings.items()}
        crew = Crew(list(members.values()))
        while crew.step():
            pass
        stopped = [str(folders[n].path) for n, member in members.items() if member.ended["status"] == "stopped"]
        if interrupt.happened and stopped:
            raise interrupt.error(f"stopped; checkpoints are in {', '.join(stopped)}. The same command goes on.")
    return [members[n].ended if n in members else {**f.result, "status": "done"} for n, f in enumerate(folders)]


def joins(training: Training) -> bool:
    """Whether a batched model can do a run's steps."""
    plain = training.device == "cpu" and training.dtype == "float32" and training.at.compiled != "yes"
    return plain and not why_alone(training.run)


class Member:
    """One run of several.

    Attributes:
        training: the run.
        asked: the step that it wants next; None when it has ended.
        ended: what `train_run` returns, once it has.
        joins: whether a batched model can do its steps.
    """

    def __init__(self, training: Training, stop: Callable[[], bool]) -> None:
        """Begin: the first evaluation, and the first batch. `stop`: asked after every step."""
        self.training, self._work = training, training.work(stop)
        self.asked: Asked | None = None
        self.ended: dict[str, Any] = {}
        self.joins = joins(training)
        self._go(None)

    def took(self, found: StepResult, seconds: float) -> None:
        """Hand in what a step showed and how long it took, and see what is wanted next."""
        self._go((found, seconds))

    def _go(self, answer: tuple[StepResult, float] | None) -> None:
        try:
            self.asked = next(self._work) if answer is None else self._work.send(answer)
        except StopIteration as end:
            self.asked, self.ended = None, end.value


class Crew:
    """Members that take their steps at the same time."""

    def __init__(self, members: Sequence[Member]) -> None:
        """Args: members: begun."""
        self.members = list(members)
        self._stacked: Stacked | None = None

    def step(self) -> bool:
        """One step of every member that has not ended; whether there is any left."""
        going = [member for member in self.members if member.asked is not None]
        joining = [member for member in going if member.joins]
        if len(joining) > 1:
            self._joint(joining)
        for member in going if len(joining) < 2 else [m for m in going if not m.joins]:
            assert member.asked is not None
            began = time.perf_counter()
            member.took(member.training.take(member.asked), time.perf_counter() - began)
        return any(member.asked is not None for member in going)

    def _joint(self, members: list[Member]) -> None:
        began = time.perf_counter()
        models = [member.training.model for member in members]
        if self._stacked is None or self._stacked.models != models:
            self._stacked = Stacked(models)
        asked = [member.asked for member in members if member.asked is not None]
        train = members[0].training.run.train
        losses = self._stacked.gradients(
            [one.batch for one in asked], [one.weight for one in asked], parts=train.accumulation, z_loss=train.z_loss
        )
        share = (time.perf_counter() - began) / len(members)
        for member, one, loss in zip(members, asked, losses, strict=True):
            began = time.perf_counter()
            found = member.training.apply(one, loss)
            member.took(found, share + time.perf_counter() - began)
