"""Continuation bits per byte: given the first half of a held-out window, the loss on the second half.

    bits per byte = sum over targets of nats / (ln 2 x bytes of the second halves)

The windows are `data.windows`': 1,024 bytes, halves tokenised apart, no end token, so any tokenizer and any family
that continues text has the measure, and lower is better. A uniform guess over V tokens has log2(V) bits a token.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from assay.data.windows import Window, WindowBatch, window_batches
from assay.nn.batch import to_tensors
from assay.nn.loss import target_nats
from assay.nn.transformer import Transformer
from assay.objectives.base import Vocabulary

__all__ = ["BUCKETS", "Continuation", "continuation"]

BUCKETS = (0, 16, 32, 64, 128, 256, 384)
"""Where buckets of positions begin, in bytes from the start of the continuation."""


@dataclass(frozen=True, eq=False)
class Continuation:
    """What a model makes of held-out windows."""

    nats: NDArray[np.float64]
    """[windows] nats on each continuation, summed."""
    bytes: NDArray[np.int64]
    """[windows] bytes of each continuation."""
    tokens: int
    """Targets over all windows."""
    by_position: list[list[float]]
    """[bucket's first byte, mean nats a token, tokens]: the loss along the continuation."""

    @property
    def bits_per_byte(self) -> float:
        """All bits over all bytes."""
        return float(self.nats.sum() / math.log(2) / self.bytes.sum())

    @property
    def nats_per_token(self) -> float:
        """All nats over all tokens; depends on the tokenizer."""
        return float(self.nats.sum() / self.tokens)

    def row(self) -> dict[str, Any]:
        """The fields of an `eval` row of metrics."""
        return {
            "bits_per_byte": self.bits_per_byte,
            "nats_per_token": self.nats_per_token,
            "by_position": self.by_position,
            "position_unit": "bytes",
            "windows": len(self.nats),
        }


def continuation(
    model: Transformer,
    windows: Sequence[Window],
    vocabulary: Vocabulary,
    *,
    batch_size: int = 16,
    precision: AbstractContextManager[Any] | None = None,
) -> Continuation:
    """Measure a model on windows; nothing is learned and the model is left as it was.

    Blocks run uncompiled here, since windows have other shapes than training's rows.

    Args:
        model: any family that continues text.
        windows: held-out windows (`data.windows`).
        vocabulary: the tokenizer's.
        batch_size: windows at a time; changes the result by rounding alone.
        precision: an autocast context for the forward pass; it is entered once.

    Raises:
        UserError: the family is encoder.
    """
    device = next(model.parameters()).device
    nats = np.zeros(len(windows))
    sizes = np.zeros(len(windows), dtype=np.int64)
    places, losses = [], []
    training = model.training
    model.eval()
    try:
        with torch.compiler.set_stance("force_eager"), torch.no_grad(), precision or torch.no_grad():
            for numbers, part in _batches(windows, model.spec.family.value, vocabulary, batch_size):
                found = target_nats(model, to_tensors(part.batch, device)).double().cpu().numpy()
                where = part.batch.target_positions
                rows = where // part.batch.weights.shape[1]
                np.add.at(nats, numbers[rows], found)
                sizes[numbers] = part.continuation_bytes
                places.append(part.byte_offsets.ravel()[where])
                losses.append(found)
    finally:
        model.train(training)
    place, loss = np.concatenate(places), np.concatenate(losses)
    return Continuation(nats, sizes, len(loss), _by_position(place, loss))


def _batches(
    windows: Sequence[Window], family: str, vocabulary: Vocabulary, size: int
) -> Iterator[tuple[NDArray[np.int64], WindowBatch]]:
    """Batches of windows of like length, with the numbers of their windows: little is padded."""
    lengths = [len(window.prefix_ids) + len(window.continuation_ids) for window in windows]
    order = np.argsort(lengths, kind="stable")
    for begin in range(0, len(order), size):
        numbers = order[begin : begin + size]
        (part,) = window_batches([windows[i] for i in numbers], family, vocabulary, batch_size=size)
        yield numbers, part


def _by_position(place: NDArray[np.int64], nats: NDArray[np.float64]) -> list[list[float]]:
    bucket = np.digitize(place, BUCKETS) - 1
    counts = np.bincount(bucket, minlength=len(BUCKETS))
    sums = np.bincount(bucket, weights=nats, minlength=len(BUCKETS))
    return [[start, float(s / n), int(n)] for start, s, n in zip(BUCKETS, sums, counts, strict=True) if n]
