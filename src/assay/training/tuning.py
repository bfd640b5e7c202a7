"""Tuning: text to text, loss on the answer alone, for any family; several tasks at stated rates.

    L = - sum over answer tokens of ln p(a_i | prompt, a_1 ... a_{i-1}) / their number

in a step, whatever tasks the answers belong to. Batches depend on (seed, step) alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from assay.errors import UserError
from assay.evaluation.pairs import Codec, Pair, fill_rows, score
from assay.evaluation.tasks import Task
from assay.generation.model import Model
from assay.objectives.base import Key
from assay.training.accounting import FlopMeter
from assay.training.lora import add_lora, merge_lora
from assay.training.optimizer import adamw
from assay.training.schedule import factor, warmup_share
from assay.training.setup import default_dtype
from assay.training.step import seed_dropout, take_step
from assay.training.tuning_spec import TuneSpec
from assay.training.tuning_state import TuningState

__all__ = ["Mixture", "Part", "Tuned", "tune"]

Progress = Callable[[dict[str, Any]], None]
Stop = Callable[[], bool]


@dataclass(frozen=True)
class Part:
    """One task of a mixture."""

    train: Task
    valid: Task
    """Held out, for early stopping."""
    rate: float = 1.0
    """Its share of the examples, in proportion to the others'."""


@dataclass
class Tuned:
    """What tuning did to a model."""

    history: list[dict[str, Any]]
    """Rows of metrics: kind "train" or "eval"."""
    step: int
    """Steps done."""
    best_step: int
    """The step whose weights the model has now."""
    best_loss: float
    """Held-out nats per answer token at that step, tasks weighted by their rates."""
    stopped: str
    """Why it ended: "steps", "patience", "asked" or "diverged"."""
    flops: float = 0.0
    """Training FLOPs (all weights counted as trained, adapters or not)."""
    seconds: float = 0.0
    cut: dict[str, int] = field(default_factory=dict)
    """Task: training prompts that lost their beginning to the window."""
    trained: int = 0
    """Parameters that were tuned."""

    @property
    def early(self) -> bool:
        """Whether held-out loss ended it."""
        return self.stopped == "patience"


class Mixture:
    """Examples of several tasks at stated rates, each task gone through in random order, epoch by epoch."""

    def __init__(self, codec: Codec, parts: Sequence[Part], *, batch_size: int, seed: int) -> None:
        """Tokenise the tasks' training examples.

        Raises:
            UserError: no task, an impossible rate, or an answer that does not fit the window.
        """
        if not parts:
            raise UserError("data: no task to tune on.", "Give at least one.")
        for part in parts:
            if not (part.rate > 0 and math.isfinite(part.rate)):
                raise UserError(
                    f"rate = {part.rate:g} of {part.train.name}: a rate is positive.", "Leave the task out."
                )
            if not part.train.items:
                raise UserError(f"{part.train.name}: no training examples.", "Give more examples.")
        self.parts, self.batch_size, self.seed = list(parts), batch_size, seed
        self.pairs = [_pairs(codec, part.train) for part in parts]
        rates = np.array([part.rate for part in parts])
        self.shares = rates / rates.sum()
        self._order: dict[tuple[int, int], np.ndarray[Any, Any]] = {}
        self._drawn = np.zeros(len(parts), dtype=np.int64)
        self._step = 0

    def batch(self, step: int) -> list[Pair]:
        """The examples of a step; steps are asked for in order."""
        assert step == self._step, "a mixture is drawn from in order"
        self._step += 1
        chosen = []
        rng = Key(self.seed, 0, step).generator()
        for task in rng.choice(len(self.parts), self.batch_size, p=self.shares):
            size = len(self.pairs[task])
            epoch, place = divmod(int(self._drawn[task]), size)
            key = (int(task), epoch)
            if key not in self._order:
                self._order = {k: v for k, v in self._order.items() if k[0] != task}
                self._order[key] = Key(self.seed, 1 + epoch, int(task)).generator().permutation(size)
            chosen.append(self.pairs[task][self._order[key][place]])
            self._drawn[task] += 1
        return chosen


def tune(
    model: Model,
    parts: Sequence[Part],
    spec: TuneSpec,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    stop: Stop | None = None,
    state: TuningState | None = None,
) -> Tuned:
    """Tune a model in place; it ends with the weights of its lowest held-out loss.

    Args:
        model: with a tokenizer; adapters, where there are any, are merged into its weights at the end.
        parts: the tasks and their rates.
        spec: how.
        seed: of the order of examples, of dropout and of adapters.
        progress: called with every row of metrics.
        stop: asked after every step.
        state: where it is kept from being lost; it goes on from what is there.

    Raises:
        UserError: a family or tokenizer that cannot, an answer longer than the window, or peft is missing.
    """
    codec = Codec(model, length=spec.length)
    net = model.transformer
    mixture = Mixture(codec, parts, batch_size=spec.batch_size, seed=seed)
    heldout = [
        (_pairs(codec, part.valid, spec.heldout), share) for part, share in zip(parts, mixture.shares, strict=True)
    ]
    before = {name: parameter.requires_grad for name, parameter in net.named_parameters()}
    for parameter in net.parameters():
        parameter.requires_grad_(True)
    if spec.rank:
        add_lora(net, spec.rank, spec.alpha, spec.targets, seed=seed)
    tuned = Tuned([], 0, 0, math.inf, "steps")
    tuned.cut = {p.train.name: sum(x.cut > 0 for x in pairs) for p, pairs in zip(parts, mixture.pairs, strict=True)}
    tuned.trained = sum(p.numel() for p in net.parameters() if p.requires_grad)
    try:
        _go(codec, mixture, heldout, spec, seed, tuned, progress or (lambda row: None), stop or (lambda: False),
            state)  # fmt: skip
    finally:
        if spec.rank:
            merge_lora(net)
        for name, parameter in net.named_parameters():
            parameter.requires_grad_(before[name])
        net.eval()
    return tuned


def _go(
    codec: Codec,
    mixture: Mixture,
    heldout: Sequence[tuple[list[Pair], float]],
    spec: TuneSpec,
    seed: int,
    tuned: Tuned,
    progress: Progress,
    stop: Stop,
    state: TuningState | None,
) -> None:
    net = codec.model.transformer
    device = str(codec.model.device)
    optimizer, meter = adamw(net, spec.optimizer), FlopMeter(net.spec)
    warmup = warmup_share(spec.schedule, 1 / spec.steps)
    best: dict[str, torch.Tensor] = {}
    waited = 0

    def measure() -> bool:
        """Held-out loss; whether it is the best so far."""
        loss = float(sum(share * _loss(codec, pairs) for pairs, share in heldout))
        better = loss < tuned.best_loss
        if better:
            tuned.best_loss, tuned.best_step = loss, tuned.step
            best.update({n: p.detach().clone() for n, p in net.named_parameters() if p.requires_grad})
        row = {"kind": "eval", "step": tuned.step, "loss": loss, "best": better, "flops": tuned.flops}
        tuned.history.append(row)
        progress(row)
        return better

    if state is not None:
        state.restore(net, optimizer, best, tuned)
        waited = state.waited
        for before in range(tuned.step):  # the tasks' places in their orders
            mixture.batch(before)
    if not tuned.history:
        measure()
    for step in range(tuned.step, spec.steps):
        if spec.patience and waited >= spec.patience:
            tuned.stopped = "patience"
            break
        began = time.perf_counter()
        batch = fill_rows(codec, mixture.batch(step), spec.length)
        rate = spec.optimizer.learning_rate * factor(spec.schedule, (step + 1) / spec.steps, warmup)
        seed_dropout(seed, step)
        net.train()
        count = meter.count(batch)
        found = take_step(
            net, optimizer, batch, weight=count.weight, parts=1, learning_rate=rate, most=spec.optimizer.clip,
            z_loss=0.0, dtype=default_dtype(device),
        )  # fmt: skip
        if not (math.isfinite(found.loss) and math.isfinite(found.grad_norm)):
            tuned.stopped = "diverged"
            break
        tuned.step += 1
        tuned.flops += count.flops
        tuned.seconds += time.perf_counter() - began
        row = {
            "kind": "train", "step": tuned.step, "loss": found.loss, "lr": rate, "grad_norm": found.grad_norm,
            "progress": tuned.step / spec.steps,
        }  # fmt: skip
        tuned.history.append(row)
        progress(row)
        if tuned.step * spec.evaluations // spec.steps > (tuned.step - 1) * spec.evaluations // spec.steps:
            waited = 0 if measure() else waited + 1
            if state is not None:
                state.waited = waited
                state.save(net, optimizer, best, tuned)
        if stop():
            if state is not None:
                state.save(net, optimizer, best, tuned, at_once=True)
            tuned.stopped = "asked"
            measure()
            break
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name in best:
                parameter.copy_(best[name])


def _pairs(codec: Codec, task: Task, most: int | None = None) -> list[Pair]:
    return [
        codec.pair(item.prompt, item.answer, end=True, where=item.where, choices=item.choices)
        for item in task.items[:most]
    ]


def _loss(codec: Codec, pairs: Sequence[Pair]) -> float:
    found = score(codec, pairs)
    return float(found.nats.sum() / found.tokens.sum())
