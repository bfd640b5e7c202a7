"""The training loop: one run in one folder, from whatever is there to its result."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from assay.data.bad_batches import bad_batch_file, save_bad_batch
from assay.data.batch import Batch
from assay.data.loader import Loader
from assay.evaluation.continuation import Continuation
from assay.evaluation.masked import Masked
from assay.nn import build
from assay.nn.kernels.heap import HEAP
from assay.nn.transformer import Transformer
from assay.runs import RunFolder
from assay.spec.study import RunSpec
from assay.training.accounting import BatchCount, FlopMeter
from assay.training.checkpoint import OPTIMIZER, Keeper, resumable
from assay.training.heldout import HeldOut
from assay.training.optimizer import adamw
from assay.training.parallel.layout import plan_layout
from assay.training.parallel.stopping import StopSignals, telling_of_lost_ranks
from assay.training.parallel.world import World
from assay.training.policy import Policy
from assay.training.readying import make_ready
from assay.training.record import Counters, begin, result
from assay.training.row_losses import row_losses
from assay.training.schedule import factor, warmup_share
from assay.training.setup import (
    check,
    default_dtype,
    first_count,
    make_loader,
    pick_device,
)
from assay.training.signals import Interrupt
from assay.training.start import check_tokens, fill_weights, text_of
from assay.training.step import StepResult, apply_step, precision, seed_dropout, take_step
from assay.training.text import Text, resolve

if TYPE_CHECKING:
    from assay.training.parallel.checkpoint import TeamKeeper
    from assay.training.parallel.team import Team

__all__ = ["Asked", "Diverged", "Training", "Work", "train_run"]

Progress = Callable[[dict[str, Any]], None]
Stop = Callable[[], bool]


class Asked(NamedTuple):
    """A step that a run wants done next."""

    batch: Batch
    """This rank's rows."""
    weight: float
    """Of the targets of the whole step."""
    rate: float
    """Learning rate."""


Work = Generator[Asked, tuple[StepResult, float], dict[str, Any]]
"""A run in steps: it asks for each, is sent what the step showed and the seconds that it took, and returns its end."""


class Diverged(Exception):
    """The loss or a gradient is no longer finite, or spikes, and the policy is to end there."""


def train_run(
    run: RunSpec,
    folder: RunFolder,
    *,
    progress: Progress | None = None,
    stop: Stop | None = None,
    text: Text | None = None,
    command: str | None = None,
    device: str | None = None,
    world: World | None = None,
) -> dict[str, Any]:
    """Do one run, or what is left of it, in this process, or in several that all call this.

    A run that is done is not done again; an unfinished one goes on from its checkpoint, to the same weights, bit
    for bit, that it would have had without the break (on the same machine).

    Args:
        run: what is done.
        folder: where it is recorded.
        progress: called with every row of metrics.
        stop: asked after every step; when it says True, a checkpoint is written and the run returns.
        text: the data, where the caller has it; None: it is read.
        command: the command that does this run again; None: this process's.
        device: "cpu", "cuda" ...; None: an accelerator where there is one.
        world: the ranks that share the run (`World.join()`); None: this process alone. Only rank 0 writes metrics and
            calls `progress`; all return the same.

    Returns:
        What the file DONE holds, with "status": "done", "stopped" (a checkpoint waits) or "diverged" (with
        "failed", the reason).

    Raises:
        UserError: the run is impossible (data, lengths, budget), or the disk is full; what was written stays.
        KeyboardInterrupt: on Ctrl-C or SIGTERM, after a checkpoint; a second one does not wait for it. With
            ranks on every one, whichever was told, and all wait.
        RankLost: another rank has ended, or does not answer.
    """
    world = world or World()
    signals = StopSignals() if world.size > 1 else Interrupt()
    with telling_of_lost_ranks(folder, world), signals as interrupt, torch.random.fork_rng(devices=[]):
        done = world.lead(lambda: folder.result if folder.done else None)
        if done is not None:
            return {**done, "status": "done"}
        text = text or world.in_turn(lambda: text_of(run))
        watch = progress or (lambda row: None)
        training = Training(run, folder, text, device or world.device or pick_device(), watch, command, world)
        asked = stop or (lambda: False)
        outcome = training.go(lambda: interrupt.happened or asked())
        folder.close()
        if outcome["status"] == "stopped" and world.any(interrupt.happened):
            raise interrupt.error(
                f"stopped at step {training.at.step}; {folder.path} holds a checkpoint. The same command with "
                "--resume goes on from there."
            )
    return outcome


class Training:
    """A run under way. `go` does it; the parts are apart so that each reads by itself."""

    def __init__(
        self,
        run: RunSpec,
        folder: RunFolder,
        text: Text,
        device: str,
        progress: Progress,
        command: str | None,
        world: World | None = None,
    ) -> None:
        """Check everything that can be checked, then build or restore. See `train_run`."""
        self.run, self.world = resolve(run), world or World()
        self.folder, self.text, self.device, self.progress = folder, text, device, progress
        self.layout = plan_layout(run.train, self.world.launch)
        self.world.same("data", text.facts)
        check_tokens(self.run, text)
        self.loader: Loader = make_loader(self.run, text, rank=self.world.rank, ranks=self.world.size)
        self.meter = FlopMeter(self.run.model)
        self.held = HeldOut(self.run, text, self.loader)
        first = self.world.total(first_count(self.loader, self.meter))
        self.total = check(self.run, text, self.held.windows, first)
        self.warmup = warmup_share(run.train.schedule, self._share(first))
        self.world.lead(lambda: begin(folder, run.hash, self.run, text, command))
        self.dtype = run.train.dtype or default_dtype(device)
        if not device.startswith("cuda"):
            HEAP.keep()
        events = self._build(fresh=self.world.lead(lambda: resumable(folder) is None))
        state = self.keeper.load()
        self.at = Counters(**state) if state else Counters()
        self.policy = Policy(run.train.on_bad_loss, self.at.recent)
        self.world.lead(lambda: folder.truncate_metrics(self.at.step if state else -1))
        for event in events:
            self.event(event)
        self.heldout = [row for row in folder.metrics() if row.get("kind") == "eval"]
        self._make_ready()

    def _build(self, *, fresh: bool) -> list[dict[str, Any]]:
        """Model, optimizer and what keeps them, spread over the ranks where there are several.

        Args:
            fresh: there is no checkpoint, so weights that the run begins from are filled in.

        Returns:
            What there is to tell of it.
        """
        run, events = self.run, []
        filled = run.init is not None and fresh
        cut = self.layout.sharded and not filled  # then no rank ever holds the whole
        self.model: Transformer = build(run.model, seed=run.seed, device="meta" if cut else self.device)
        self.model.train()
        for stack in (self.model.encoder, self.model.decoder):
            if stack is not None:
                stack.checkpointing = run.train.checkpointing
        if filled:
            events.append({"event": "init", **fill_weights(run, self.model)})
        self.team: Team | None = None
        if self.world.size == 1:
            self.optimizer = adamw(self.model, run.train.optimizer)
            self.keeper: Keeper | TeamKeeper = Keeper(self.folder, self.model, self.optimizer)
            return events
        from assay.training.parallel.checkpoint import TeamKeeper
        from assay.training.parallel.team import Team

        self.team = Team(self.model, self.layout, self.world, dtype=self.dtype, seed=run.seed if cut else None)
        self.optimizer = adamw(self.team.shards, run.train.optimizer)
        self.keeper = TeamKeeper(self.folder, self.team, self.optimizer)
        return [*events, {"event": "ranks", **self.layout.plain()}]

    def go(self, stop: Stop) -> dict[str, Any]:
        """Train to the end, or until `stop`."""
        work = self.work(stop)
        try:
            asked = next(work)
            while True:
                began = time.perf_counter()
                asked = work.send((self.take(asked), time.perf_counter() - began))
        except StopIteration as end:
            ended: dict[str, Any] = end.value
            return ended

    def take(self, asked: Asked) -> StepResult:
        """Do a step that `work` asks for."""
        train = self.run.train
        seed_dropout(self.run.seed, self.at.step, self.world.rank)
        how: dict[str, Any] = {
            "weight": asked.weight,
            "parts": train.accumulation,
            "z_loss": train.z_loss,
            "dtype": self.dtype,
        }
        return take_step(self.model, self.optimizer, asked.batch, **how, **self._rules(asked))

    def apply(self, asked: Asked, loss: float) -> StepResult:
        """Do it where the gradients of its `loss` are there already."""
        return apply_step(self.model, self.optimizer, loss, **self._rules(asked))

    def _rules(self, asked: Asked) -> dict[str, Any]:
        say = self.run.train.optimizer
        return {
            "learning_rate": asked.rate, "most": say.clip, "equal_layers": say.equal_layers,
            "allowed": self.policy.allows, "team": self.team,
        }  # fmt: skip

    def work(self, stop: Stop) -> Work:
        """All of `go` but the steps themselves, which whoever drives it does: alone, or several runs' at once."""
        train, done = self.run.train, 0.0
        if self.at.step == 0:
            self._evaluate()
        else:
            done = self.at.progress
        while done < 1:
            try:
                before, done = done, (yield from self._step())
            except Diverged as error:
                return self._diverged(str(error))
            HEAP.tidy()
            last = done >= 1
            if last or _crossed(before, done, train.evaluations):
                self._evaluate()
            # Any rank may be told to stop, or find that the checkpoint under way cannot be written: all hear of it.
            stopping, failed = self.world.sums(float(not last and stop()), float(self.keeper.failed))
            if failed:
                self.keeper.wait()
            if last or stopping or _crossed(before, done, train.checkpoints):
                self.keeper.save(self.at.step, self.at.plain())
            if stopping:
                self.keeper.wait()
                self.event({"event": "stopped"})
                return {"status": "stopped", "step": self.at.step}
        self.keeper.wait()
        return {**self.world.lead(self._finish), "status": "done"}

    def _finish(self) -> dict[str, Any]:
        """Write what came out."""
        outcome = result(self.run, self.at, self.heldout)  # not all rows again: of a long run they fill memory
        self.folder.mark_done(outcome)
        # Nothing continues a finished run: the moments have done their work and are two thirds of the bytes.
        (self.folder.checkpoint(self.at.step) / OPTIMIZER).unlink(missing_ok=True)
        return outcome

    def _share(self, count: BatchCount) -> float:
        """The share of the run that a batch takes."""
        train = self.run.train
        return 1 / train.steps if train.steps else count.flops / (train.budget or math.inf)

    def _step(self) -> Generator[Asked, tuple[StepResult, float], float]:
        """One step with its row of metrics.

        Returns:
            The share of the run that is done after it.

        Raises:
            Diverged: loss or gradient is bad (`TrainSpec.on_bad_loss`) and that ends the run; nothing was applied.
        """
        began = time.perf_counter()
        at, train = self.at, self.run.train
        batch = self.loader.batch(at.epoch, at.place)
        count = self.world.total(self.meter.count(batch))
        at.add(count)
        at.epoch, at.place = batch.epoch, batch.step + 1
        at.progress = at.step / train.steps if train.steps else at.flops / (train.budget or math.inf)
        rate = train.optimizer.learning_rate * factor(train.schedule, at.progress, self.warmup, self._since_warmup())
        prepared = time.perf_counter() - began
        found, spent = yield Asked(batch, count.weight, rate)
        took = prepared + spent
        at.seconds += took
        if reason := self.policy.reason(found.loss, found.grad_norm):
            self._bad(batch, found, reason)
            return at.progress
        self.policy.note(found.loss, found.grad_norm)
        self._row(
            {
                "kind": "train",
                "step": at.step,
                "loss": found.loss,
                "lr": rate,
                "grad_norm": found.grad_norm,
                "tokens": at.targets,
                "input_tokens": at.inputs,
                "flops": at.flops,
                "seconds": at.seconds,
                "tokens_per_second": count.inputs / took,
                "progress": at.progress,
            }
        )
        return at.progress

    def _bad(self, batch: Batch, found: StepResult, reason: str) -> None:
        """Keep a batch whose step was not applied, and leave it out or end the run.

        Raises:
            Diverged: the policy, or the number of batches left out, says so.
        """
        at, policy = self.at, self.run.train.on_bad_loss
        loader = self.loader
        if self.team is not None:  # what is looked at is the whole batch; all ranks make it, and as many passes
            loader = make_loader(self.run, self.text)
            batch = loader.batch(batch.epoch, batch.step)
        with nullcontext() if self.team is None else self.team.gathering():
            losses = row_losses(self.model, batch, self.dtype)
        told = {"reason": reason, "loss": found.loss, "grad_norm": found.grad_norm}
        pieces = loader.pieces_of(batch.epoch, batch.step)
        facts = {"step": at.step, "seed": self.run.seed, **told, "row_losses": losses, "pieces": pieces}
        self.world.lead(lambda: save_bad_batch(self.folder, batch, facts))
        if not self.policy.skips(at.skipped):
            before = f"; {at.skipped} batches had been left out before" if at.skipped else ""
            raise Diverged(f"diverged at step {at.step}: {reason}{before}")
        at.skipped += 1
        kept = {"batch": bad_batch_file(at.step), "skipped": at.skipped, "most": policy.most}
        self.event({"event": "skipped", **told, **kept})

    def _evaluate(self) -> Continuation | Masked:
        began = time.perf_counter()
        found = self.held.measure(self.model, precision(self.dtype, self.device), self.team)
        at = self.at
        row = {
            "kind": "eval",
            "step": at.step,
            "progress": at.progress,
            "flops": at.flops,
            "tokens": at.targets,
            "seconds": at.seconds,
            **found.row(),
            "eval_seconds": time.perf_counter() - began,
        }
        self.heldout.append(row)
        self._row(row)
        return found

    def _since_warmup(self) -> list[float]:
        """Held-out losses from the end of the warmup on, for the schedule that follows them."""
        return [row[self.held.measure_name] for row in self.heldout if row["progress"] >= self.warmup]

    def _make_ready(self) -> None:
        began = time.perf_counter()
        failed = make_ready(
            self.at, self.run, self.model, self.optimizer, self.loader.batch(0, 0),
            total=self.total, dtype=self.dtype, device=self.device, team=self.team,
        )  # fmt: skip
        if failed:
            self.event({"event": "eager", "reason": self.at.compiled})
        self.at.setup_seconds += time.perf_counter() - began

    def _diverged(self, reason: str) -> dict[str, Any]:
        self.event({"event": "diverged", "reason": reason})
        self.keeper.wait()
        self.world.lead(lambda: self.folder.mark_failed(reason))
        return {"status": "diverged", "failed": reason, "steps": self.at.step}

    def event(self, fields: dict[str, Any]) -> None:
        """Add a row of metrics that tells of something that happened."""
        self._row({"kind": "event", "step": self.at.step, **fields})

    def _row(self, row: dict[str, Any]) -> None:
        if self.world.leads:
            self.folder.append_metrics(row)
            self.progress(row)


def _crossed(before: float, after: float, times: int) -> bool:
    """Whether one of `times` even marks of (0, 1] lies in (before, after]."""
    return math.floor(after * times + 1e-9) > math.floor(before * times + 1e-9)
