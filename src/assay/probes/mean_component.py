"""How much of what a norm reads is its mean: the part that LayerNorm takes out and RMSNorm keeps.

Of a token's features x, |x|^2 = d mean(x)^2 + |x - mean(x)|^2; the share of the mean is the first part over the whole,
summed over real positions. 0: both norms do the same; 1: LayerNorm leaves nothing. Features drawn independently around
0 give 1 / d.
"""

from __future__ import annotations

import re

import torch

from assay.data.batch import Batch
from assay.nn.hooks import Record
from assay.nn.transformer import Transformer
from assay.probes.looking import device_of, forward, held_still, real_positions, tensors

__all__ = ["mean_shares", "share_of_mean"]

_WATCHED = re.compile(r"(\w+)\.blocks\.(\d+)\.out")


def share_of_mean(x: torch.Tensor) -> float:
    """Share of the mean in features x [..., d]: sum of d mean(x)^2 over sum of |x|^2."""
    wide = x.double()
    whole = float(wide.square().sum())
    return float(wide.mean(-1).square().sum()) * x.shape[-1] / whole if whole else 0.0


def mean_shares(model: Transformer, batch: Batch) -> dict[str, list[float]]:
    """Share of the mean in the stream that leaves each layer, by stack.

    Args:
        model: any family; stays as it is.
        batch: what it reads; padding is left out.
    """
    real = real_positions(batch, device_of(model))
    record = Record(lambda name: _WATCHED.fullmatch(name) is not None)
    with held_still(model), torch.no_grad():
        forward(model, tensors(model, batch), record)
    found: dict[str, list[float]] = {}
    for name, value in record.values.items():  # in the order of the pass
        stack = name.partition(".")[0]
        streams = value[:, real[stack]] if value.dim() == 4 else value[real[stack]]
        found.setdefault(stack, []).append(share_of_mean(streams))
    return found
