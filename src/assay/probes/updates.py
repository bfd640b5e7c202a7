"""How far a step moves the function: outputs on fixed inputs, before and after (Wang et al. 2022, section 3).

DeepNet bounds |F(x, theta + step) - F(x, theta)|, the model update, by making residuals heavy and weights small.
Here it is measured at the output of every layer, after the last norm, and in the logits. The step itself, with its
optimizer, is the caller's: any function that changes the model's weights.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from assay.data.batch import Batch
from assay.nn.hooks import Record
from assay.nn.transformer import Transformer
from assay.probes.looking import device_of, forward, held_still, real_positions, tensors

__all__ = ["FunctionUpdate", "Move", "function_update", "outputs", "restored"]

_WATCHED = re.compile(r"\w+\.(blocks\.\d+\.out|final)|logits")


@dataclass(frozen=True)
class Move:
    """How far the values at one point moved."""

    change: float
    """Root mean square of the difference over real positions and features: |after - before| / sqrt(number)."""
    size: float
    """Root mean square before."""

    @property
    def relative(self) -> float:
        """Change over size."""
        return self.change / self.size if self.size else math.inf if self.change else 0.0


@dataclass(frozen=True)
class FunctionUpdate:
    """What one step did to the function."""

    points: dict[str, Move]
    """By hook point: `decoder.blocks.3.out`, `decoder.final`, `logits` (at targets) ..."""
    output: Move
    """At the end of the output stack, after its final norm: DeepNet's F."""
    parameters: float
    """Norm of the step itself, over all weights."""


def outputs(model: Transformer, batch: Batch) -> dict[str, Tensor]:
    """What every layer gives, the end of each stack, and the logits at targets; real positions alone."""
    real = real_positions(batch, device_of(model))
    record = Record(lambda name: _WATCHED.fullmatch(name) is not None)
    with held_still(model), torch.no_grad():
        forward(model, tensors(model, batch), record)
    found = {}
    for name, value in record.values.items():
        if name == "logits":
            found[name] = value
        else:
            chosen = real[name.partition(".")[0]]
            # Copied: an optimizer that writes in place must not reach what was kept.
            found[name] = value[:, chosen] if value.dim() == 4 else value[chosen]
    return found


def function_update(
    model: Transformer, batch: Batch, step: Callable[[], Any], *, restore: bool = True
) -> FunctionUpdate:
    """Outputs before a step, the step, outputs after.

    Args:
        model: whose function is watched.
        batch: the fixed inputs; they need not be those that the step learns from.
        step: changes the model's weights in place, such as `lambda: take_step(model, optimizer, ...)`.
        restore: give weights and `.grad`s back as they were; False: leave the step done, to follow a training run.
    """
    before = outputs(model, batch)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    if restore:
        with restored(model):
            step()
            after, moved = outputs(model, batch), _moved(model, start)
    else:
        step()
        after, moved = outputs(model, batch), _moved(model, start)
    points = {name: _move(value, after[name]) for name, value in before.items()}
    return FunctionUpdate(points, points[f"{model.spec.output_stack}.final"], moved)


@contextmanager
def restored(model: nn.Module) -> Iterator[None]:
    """Weights, buffers and `.grad`s come back bit for bit when it is left."""
    tensors = [*model.parameters(), *model.buffers()]
    values = [t.detach().clone() for t in tensors]
    grads = [None if t.grad is None else t.grad.clone() for t in tensors]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value, grad in zip(tensors, values, grads, strict=True):
                tensor.copy_(value)
                tensor.grad = grad


def _move(before: Tensor, after: Tensor) -> Move:
    number = math.sqrt(max(before.numel(), 1))
    difference = after.double() - before.double()
    return Move(
        float(torch.linalg.vector_norm(difference)) / number,
        float(torch.linalg.vector_norm(before, dtype=torch.float64)) / number,
    )


def _moved(model: nn.Module, start: dict[str, Tensor]) -> float:
    squares = [
        float(torch.linalg.vector_norm(p.detach() - start[name], dtype=torch.float64)) ** 2
        for name, p in model.named_parameters()
    ]
    return math.sqrt(sum(squares))
