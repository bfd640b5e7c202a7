"""Held-out masked LM: what an encoder's training is judged by, since it does not continue text.

    nats a masked token = mean over hidden positions of - ln p(what stood there | the text with its hidden positions)

under the run's own objective (its share of hidden tokens, 80/10/10), on held-out rows drawn once and for all, the same
for every run on that text with that tokenizer and length. It depends on the tokenizer and on what is hidden, and it is
no continuation bits per byte: each token is predicted from both sides. The two are never compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from assay.data.batch import Batch
from assay.data.loader import Loader
from assay.data.shards import TokenDocuments
from assay.nn.batch import to_tensors
from assay.nn.loss import target_nats
from assay.nn.transformer import Transformer
from assay.objectives.base import Objective

__all__ = ["SEED", "Masked", "masked", "masked_batches"]

SEED = 2019
"""Of the hidden positions: the same for all runs."""
TOKENS = 16_384
"""Held-out positions that an evaluation reads at most."""
ROWS = 8
"""Rows of a batch; no matter of the run's own batch size."""


@dataclass(frozen=True, eq=False)
class Masked:
    """What a model makes of hidden tokens."""

    nats: NDArray[np.float64]
    """[tokens] -ln p of each hidden token."""

    @property
    def nats_per_token(self) -> float:
        """Mean over hidden tokens."""
        return float(self.nats.mean())

    def row(self) -> dict[str, Any]:
        """The fields of an `eval` row of metrics; the error is of the mean over hidden tokens."""
        error = float(self.nats.std(ddof=1) / math.sqrt(len(self.nats))) if len(self.nats) > 1 else None
        return {
            "masked_nats_per_token": self.nats_per_token,
            "masked_tokens": len(self.nats),
            "masked_standard_error": error,
        }


def masked_batches(documents: TokenDocuments, objective: Objective, length: int) -> list[Batch]:
    """Held-out rows with hidden tokens, the same at every call.

    Args:
        documents: held-out text as tokens.
        objective: the run's.
        length: positions of a row.

    Raises:
        UserError: the text is too short for a row.
    """
    loader = Loader(documents, objective, batch_size=ROWS, length=length, seed=SEED)
    count = min(max(TOKENS // (ROWS * length), 1), loader.steps(0))
    return [loader.batch(0, step) for step in range(count)]


def masked(
    model: Transformer, batches: Sequence[Batch], *, precision: AbstractContextManager[Any] | None = None
) -> Masked:
    """Measure an encoder on hidden tokens; nothing is learned and the model is left as it was.

    Args:
        model: whose output stack predicts its own positions.
        batches: of `masked_batches`.
        precision: an autocast context for the forward pass; it is entered once.
    """
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    try:
        with torch.compiler.set_stance("force_eager"), torch.no_grad(), precision or torch.no_grad():
            found = [target_nats(model, to_tensors(batch, device)).double().cpu().numpy() for batch in batches]
    finally:
        model.train(training)
    return Masked(np.concatenate(found))
