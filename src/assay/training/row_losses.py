"""What a model says of each row of a batch alone."""

from __future__ import annotations

import math

import numpy as np
import torch

from assay.data.batch import Batch
from assay.nn.batch import to_tensors
from assay.nn.loss import loss_sum
from assay.nn.transformer import Transformer
from assay.training.step import micro_batches, precision

__all__ = ["row_losses"]


@torch.no_grad()
def row_losses(model: Transformer, batch: Batch, dtype: str) -> list[float | None]:
    """Nats per target of each row by the weights as they are, without dropout; None for a row without targets."""
    device = next(model.parameters()).device
    training, found = model.training, []
    model.eval()
    try:
        for row in micro_batches(batch, len(batch.input_ids)):
            weight = float(np.sum(row.weights, dtype=np.float64))
            with precision(dtype, str(device)):
                total = float(loss_sum(model, to_tensors(row, device)).total) if weight else math.nan
            found.append(total / weight if weight else None)
    finally:
        model.train(training)
    return found
