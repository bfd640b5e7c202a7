"""What flows through a model on one batch: size of activations, head-room in float16, attention's entropy and scores.

Every number is taken over real positions alone (padding is left out) while the forward pass runs; no activation is
kept, so memory stays that of the pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from assay.data.batch import Batch
from assay.nn.transformer import Transformer
from assay.probes.looking import device_of, forward, held_still, real_positions, tensors

__all__ = ["FLOAT16_MAX", "AttentionFacts", "Observation", "Point", "observe"]

FLOAT16_MAX = 65504.0
"""The largest finite float16."""

ATTENTIONS = ("attention", "cross_attention")


@dataclass(frozen=True)
class Point:
    """One hook point on one batch."""

    rms: float
    """Root of the mean square over real positions and features."""
    maximum: float
    """Largest magnitude; not finite where a value is not."""

    @property
    def mean_square(self) -> float:
        """E|x|^2 / d: of the stream, the signal whose growth by depth tells placements apart."""
        return self.rms**2

    @property
    def headroom(self) -> float:
        """65504 / maximum: times that values may still grow before float16 overflows; below 1 they already do."""
        return FLOAT16_MAX / self.maximum if self.maximum else math.inf


@dataclass(frozen=True)
class AttentionFacts:
    """Attention of one layer on one batch."""

    entropy: float
    """Mean over heads and real queries of -sum p ln p, in nats."""
    by_head: tuple[float, ...]
    """The same for each head."""
    uniform: float
    """What the entropy would be with equal weights: mean ln of the number of keys with a weight above 0."""
    largest_logit: float
    """Largest score of a visible pair, scaled and soft-capped, before mask and position bias."""


@dataclass(frozen=True)
class Observation:
    """All points of one forward pass, by their names in `nn/hooks.py`."""

    points: dict[str, Point]
    attention: dict[str, AttentionFacts]
    """By the sublayer's name: `decoder.blocks.0.attention`, `....cross_attention`."""

    def of_layer(self, stack: str, layer: int) -> dict[str, Point]:
        """The points of one block, names shortened: `in`, `out`, `attention.q` ..."""
        prefix = f"{stack}.blocks.{layer}."
        return {name[len(prefix) :]: point for name, point in self.points.items() if name.startswith(prefix)}


class _Meter:
    """A tap that measures what passes and keeps numbers alone."""

    def __init__(self, real: dict[str, Tensor], attention: bool) -> None:
        self.real, self.attention = real, attention
        self.points: dict[str, Point] = {}
        self.facts: dict[str, AttentionFacts] = {}
        self._scores: Tensor | None = None

    def wants(self, name: str) -> bool:
        return self.attention or not name.endswith((".scores", ".pattern"))

    def __call__(self, name: str, value: Tensor) -> Tensor:
        seen = value.detach()
        if name.endswith(".scores"):
            self._scores = seen
        elif name.endswith(".pattern"):
            assert self._scores is not None
            real = self.real[name.partition(".")[0]]
            self.facts[name.removesuffix(".pattern")] = _attention(self._scores, seen, real)
            self._scores = None
        else:
            self.points[name] = self._measure(name, seen)
        return value

    def _measure(self, name: str, value: Tensor) -> Point:
        if name == "logits":
            return _point(value)
        stack = name.partition(".")[0]
        # Keys and values of cross-attention stand at the encoder's positions.
        if name.endswith((".cross_attention.k", ".cross_attention.v")):
            stack = "encoder"
        real = self.real[stack]
        if name.endswith((".q", ".k", ".v")):
            value = value.transpose(1, 2)
        elif value.dim() == 4:  # ResiDual's two streams, both taken
            return _point(value[:, real])
        return _point(value[real])


def _point(value: Tensor) -> Point:
    if not value.numel():
        return Point(0.0, 0.0)
    # Norms summed wide: squares of float16 overflow where the values themselves do not.
    norm = float(torch.linalg.vector_norm(value, dtype=torch.float64))
    return Point(norm / math.sqrt(value.numel()), float(value.abs().amax()))


def _attention(scores: Tensor, pattern: Tensor, real: Tensor) -> AttentionFacts:
    weights = pattern.double()
    entropy = torch.special.entr(weights).sum(-1).transpose(1, 2)[real]  # [real queries, heads]
    visible = pattern > 0
    seen = visible.sum(-1).transpose(1, 2)[real]
    by_head = entropy.mean(0)
    largest = scores.masked_fill(~(visible & real[:, None, :, None]), -math.inf).amax()
    return AttentionFacts(
        entropy=float(by_head.mean()),
        by_head=tuple(by_head.tolist()),
        uniform=float(seen.clamp_min(1).double().log().mean()),
        largest_logit=float(largest),
    )


@torch.no_grad()
def observe(model: Transformer, batch: Batch, *, attention: bool = True) -> Observation:
    """One forward pass, every hook point measured.

    Args:
        model: any family; stays as it is.
        batch: what it reads.
        attention: also measure attention weights, for which attention computes step by step and holds them whole.
    """
    meter = _Meter(real_positions(batch, device_of(model)), attention)
    with held_still(model):
        forward(model, tensors(model, batch), meter)
    return Observation(meter.points, meter.facts)
