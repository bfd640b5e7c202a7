"""All instruments of one model on one batch, joined into a row a layer and a row a matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assay.data.batch import Batch
from assay.nn.transformer import Transformer
from assay.probes.activations import FLOAT16_MAX, observe
from assay.probes.gradients import gradient_norms
from assay.probes.updates import function_update

__all__ = ["LayerRow", "MatrixRow", "Stability", "stability"]


@dataclass(frozen=True)
class LayerRow:
    """One layer; layers count from 1, as the papers' figures do."""

    stack: str
    """encoder or decoder."""
    layer: int
    """From 1, at the input."""
    gradient: float
    """Norm of the batch's mean gradient over the layer's parameters."""
    gradient_of_examples: float
    """Mean over examples of the norm of an example's gradient."""
    signal: float
    """E|x|^2 / d of the stream that leaves the layer."""
    rms: float
    """Root mean square over all values inside: sublayers' inputs and outputs, inner features, the stream."""
    maximum: float
    """Largest magnitude inside, attention scores aside."""
    headroom: float
    """65504 / the largest magnitude inside: times that float16 still has room for."""
    entropy: float
    """Of self-attention, nats."""
    uniform: float
    """The entropy of equal weights over the keys that have any."""
    largest_logit: float
    """Of self-attention."""
    update: float | None
    """Root mean square by which a step moves the stream that leaves the layer; None without a step."""
    relative_update: float | None
    """The same over the stream's own root mean square."""


@dataclass(frozen=True)
class MatrixRow:
    """One parameter."""

    name: str
    gradient: float
    """Norm of the batch's mean gradient."""
    gradient_of_examples: float
    """Mean over examples of the norm."""
    weight: float
    """Root mean square of the weights."""


@dataclass(frozen=True)
class Stability:
    """What the instruments said of one model on one batch."""

    loss: float
    """Nats per target."""
    layers: tuple[LayerRow, ...]
    matrices: tuple[MatrixRow, ...]
    output_update: float | None
    """Root mean square by which a step moves the output of the last stack, after its final norm."""
    relative_output_update: float | None
    """The same over the output's own root mean square."""
    logits_update: float | None
    """Root mean square by which a step moves the logits at targets."""
    step_norm: float | None
    """Norm of the step in weights."""
    largest_output_logit: float
    """Largest magnitude of a logit over the vocabulary."""

    def ratio(self) -> float:
        """Gradient norm of the last layer over the first's: how they grow toward the output (of the output stack)."""
        own = [row for row in self.layers if row.stack == self.layers[-1].stack]
        return own[-1].gradient / own[0].gradient if own[0].gradient else float("inf")

    def spread(self) -> float:
        """Largest gradient norm of a layer over the smallest."""
        norms = [row.gradient for row in self.layers]
        return max(norms) / min(norms) if min(norms) else float("inf")


def stability(model: Transformer, batch: Batch, step: Callable[[], Any] | None = None) -> Stability:
    """Gradients, activations, attention and, where a step is given, the update of the function.

    Args:
        model: any family; weights, gradients and modes stay as they are.
        batch: what it reads; the step's fixed inputs too.
        step: changes the weights in place, once; they are restored.
    """
    norms, seen = gradient_norms(model, batch), observe(model, batch)
    moved = None if step is None else function_update(model, batch, step)
    own, points, heads = _by_block(norms.names), _by_block(seen.points), _by_block(seen.attention)
    rows = []
    for stack in model.spec.stacks:
        for layer in range(model.spec.depth(stack)):
            prefix = f"{stack}.blocks.{layer}."
            inside = [seen.points[name] for name in points[prefix] if name != f"{prefix}in"]
            attention = seen.attention[f"{prefix}attention"]
            move = None if moved is None else moved.points[f"{prefix}out"]
            largest = _most([point.maximum for point in inside])
            logits = [abs(seen.attention[name].largest_logit) for name in heads[prefix]]
            rows.append(
                LayerRow(
                    stack=stack,
                    layer=layer + 1,
                    gradient=norms.norm_of_mean(own[prefix]),
                    gradient_of_examples=norms.mean_of_norms(own[prefix]),
                    signal=seen.points[f"{prefix}out"].mean_square,
                    rms=float(np.sqrt(np.mean([point.mean_square for point in inside]))),
                    maximum=largest,
                    headroom=FLOAT16_MAX / _most([largest, *logits]),
                    entropy=attention.entropy,
                    uniform=attention.uniform,
                    largest_logit=attention.largest_logit,
                    update=None if move is None else move.change,
                    relative_update=None if move is None else move.relative,
                )
            )
    return Stability(
        loss=norms.loss,
        layers=tuple(rows),
        matrices=tuple(
            MatrixRow(name, norms.norm_of_mean(name), norms.mean_of_norms(name), _rms(p))
            for name, p in model.named_parameters()
        ),
        output_update=None if moved is None else moved.output.change,
        relative_output_update=None if moved is None else moved.output.relative,
        logits_update=None if moved is None else moved.points["logits"].change,
        step_norm=None if moved is None else moved.parameters,
        largest_output_logit=seen.points["logits"].maximum,
    )


def _by_block(names: Iterable[str]) -> dict[str, list[str]]:
    """Names under the prefix of their block, in one pass; those outside of blocks are left out."""
    found: dict[str, list[str]] = {}
    for name in names:
        stack, blocks, rest = name.partition(".blocks.")
        if blocks:
            found.setdefault(f"{stack}.blocks.{rest.partition('.')[0]}.", []).append(name)
    return found


def _rms(weight: Tensor) -> float:
    return float(torch.linalg.vector_norm(weight.detach(), dtype=torch.float64)) / max(weight.numel(), 1) ** 0.5


def _most(values: list[float]) -> float:
    """The largest; NaN where one is, which Python's max would lose."""
    return float(np.max(values))
