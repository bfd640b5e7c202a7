"""One optimizer step: a batch in parts, losses weighted by tokens, clipped, applied."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from assay.data.batch import Batch
from assay.nn.batch import to_tensors
from assay.nn.loss import loss_sum
from assay.nn.transformer import Transformer
from assay.spec.masks import Mask, MaskFacts
from assay.training.optimizer import clipped_step, global_norm
from assay.training.rescale import equalise_layers

if TYPE_CHECKING:
    from assay.training.parallel.team import Team

__all__ = ["StepResult", "apply_step", "gradients", "micro_batches", "precision", "seed_dropout", "take_step"]


class StepResult(NamedTuple):
    """What a step showed."""

    loss: float
    """Nats per target, mean over the step's weight (with the z-loss, where there is one)."""
    grad_norm: float
    """Global norm before clipping."""


def micro_batches(batch: Batch, parts: int) -> Iterator[Batch]:
    """The batch's rows in `parts` equal parts, masks with them."""
    rows = len(batch.input_ids)
    assert rows % parts == 0, (rows, parts)
    if parts == 1:
        yield batch
        return
    size = rows // parts
    for begin in range(0, rows, size):
        yield _rows(batch, slice(begin, begin + size))


def _rows(value: Any, rows: slice) -> Any:
    """The same with these rows only: arrays are cut, masks' facts too, everything else is shared."""
    if isinstance(value, Mask):
        return Mask(value.rule, _rows(value.facts, rows))
    if isinstance(value, Batch | MaskFacts):
        cut = {f.name: _rows(getattr(value, f.name), rows) for f in dataclasses.fields(value)}
        return dataclasses.replace(value, **cut)
    return value[rows] if hasattr(value, "shape") else value


def precision(dtype: str, device: str) -> AbstractContextManager[Any]:
    """The context of forward passes: bfloat16 autocast (weights stay float32), or nothing."""
    if dtype == "float32":
        return nullcontext()
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16)


def seed_dropout(seed: int, step: int, rank: int = 0) -> None:
    """Set torch's generators for a step from (seed, step, rank) alone, so that a resumed run drops the same.

    Ranks draw apart, since each has rows of its own. So the same run on the same number of ranks drops the same, and
    on another number it drops others: all else (first weights, order of the data) does not depend on the ranks.
    """
    digest = hashlib.sha256(f"dropout {seed} {step}{f' {rank}' if rank else ''}".encode()).digest()
    value = int.from_bytes(digest[:7], "little")
    if torch.accelerator.is_available():
        torch.manual_seed(value)
    else:  # which would note, with a stack trace each, what to seed once an accelerator comes: 0.2 ms a step or more
        torch.default_generator.manual_seed(value)


def gradients(
    model: Transformer,
    batch: Batch,
    *,
    weight: float,
    parts: int,
    z_loss: float,
    dtype: str,
    team: Team | None = None,
) -> float:
    """Add the gradients of a batch's mean loss to the model's, computed in parts.

    Every part's loss is divided by the weight of the whole step, not of the part: targets count alike however
    the batch is cut.

    Args:
        model: whose gradients grow.
        batch: the whole step's (or a part of it, whose share is added).
        weight: sum of the target weights of the whole step.
        parts: how many passes.
        z_loss: weight of log^2 Z.
        dtype: "float32" or "bfloat16".
        team: the ranks that share the step; `batch` is then this rank's rows, and `weight` still that of all.

    Returns:
        The loss: sum over the batch's targets of weight x nats, over `weight`; over all ranks' batches.
    """
    device = next(model.parameters()).device
    total: Tensor | float = 0.0
    for number, part in enumerate(micro_batches(batch, parts), 1):
        tensors = to_tensors(part, device)
        with nullcontext() if team is None else team.part(last=number == parts):
            with precision(dtype, str(device)):
                if team is None:
                    loss = loss_sum(model, tensors, z_loss=z_loss).total / weight
                else:
                    loss = team.loss_sum(tensors, z_loss) / weight
            loss.backward()
        total = total + loss.detach()
    if team is None:
        return float(total)
    team.collect()
    return team.world.sums(float(total))[0]


def take_step(
    model: Transformer,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    *,
    weight: float,
    parts: int,
    learning_rate: float,
    most: float,
    z_loss: float,
    dtype: str,
    equal_layers: bool = False,
    allowed: Callable[[float, float], bool] | None = None,
    team: Team | None = None,
) -> StepResult:
    """Gradients, clipping to the norm `most`, and the optimizer's step at `learning_rate`.

    `equal_layers`: scale the gradient of every layer to the same norm first (`rescale.equalise_layers`).
    `team`: the ranks that share the step, each with its rows of the batch; all see the same loss and norm.

    Nothing is applied where the loss or a gradient is not finite; the result says so (its norm is NaN where the loss
    is not finite). Neither is it where `allowed(loss, norm)` says no.
    """
    optimizer.zero_grad(set_to_none=True)
    loss = gradients(model, batch, weight=weight, parts=parts, z_loss=z_loss, dtype=dtype, team=team)
    return apply_step(
        model, optimizer, loss, learning_rate=learning_rate, most=most, equal_layers=equal_layers, allowed=allowed,
        team=team,
    )  # fmt: skip


def apply_step(
    model: Transformer,
    optimizer: torch.optim.Optimizer,
    loss: float,
    *,
    learning_rate: float,
    most: float,
    equal_layers: bool = False,
    allowed: Callable[[float, float], bool] | None = None,
    team: Team | None = None,
) -> StepResult:
    """The second half of `take_step`: what follows once the gradients of a `loss` are there."""
    if equal_layers:
        equalise_layers(model)
    if not math.isfinite(loss):
        return StepResult(loss, math.nan)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    may = math.isfinite if allowed is None else partial(allowed, loss)
    return StepResult(loss, clipped_step(optimizer, most, may, norm_by=global_norm if team is None else team.norm))
