"""What every instrument needs: a model held still, a batch's single rows, and which positions are real."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor, nn

from assay.data.batch import Batch
from assay.nn.batch import TensorBatch, hidden_at_targets, to_tensors
from assay.nn.hooks import Tap
from assay.nn.transformer import Transformer
from assay.spec.masks import Mask, MaskFacts

__all__ = ["device_of", "forward", "held_still", "real_positions", "row_of"]


@contextmanager
def held_still(model: nn.Module) -> Iterator[None]:
    """Evaluation mode (no dropout) and uncompiled blocks while it is entered; every module's mode comes back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def device_of(model: nn.Module) -> torch.device:
    """Where the weights live."""
    return next(model.parameters()).device


def row_of(batch: Batch, index: int) -> Batch:
    """One row of a batch as a batch of its own, masks cut with it."""
    found: Batch = _cut(batch, slice(index, index + 1))
    return found


def _cut(value: Any, rows: slice) -> Any:
    if isinstance(value, Mask):
        return Mask(value.rule, _cut(value.facts, rows))
    if isinstance(value, Batch | MaskFacts):
        return dataclasses.replace(
            value, **{f.name: _cut(getattr(value, f.name), rows) for f in dataclasses.fields(value)}
        )
    return value[rows] if hasattr(value, "shape") else value


def real_positions(batch: Batch, device: torch.device) -> dict[str, Bool[Tensor, "b s"]]:
    """Positions that are not padding, by stack."""
    own = torch.as_tensor(np.asarray(batch.document_ids) > 0, device=device)
    if batch.decoder_document_ids is None:
        return {"encoder": own, "decoder": own}
    return {"encoder": own, "decoder": torch.as_tensor(np.asarray(batch.decoder_document_ids) > 0, device=device)}


def forward(model: Transformer, batch: TensorBatch, tap: Tap | None = None) -> Tensor:
    """Logits [targets, vocabulary] at the batch's targets; the tap sees every point on the way."""
    return model.logits(hidden_at_targets(model, batch, tap), tap)


def tensors(model: nn.Module, batch: Batch) -> TensorBatch:
    """The batch where the model lives."""
    return to_tensors(batch, device_of(model))
