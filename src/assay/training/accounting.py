"""What a batch costs and holds, counted from its arrays: FLOPs of its documents, targets, tokens, padding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.data.batch import Batch
from assay.spec.model import ModelSpec

__all__ = ["BatchCount", "FlopMeter", "documents_of"]


@dataclass(frozen=True)
class BatchCount:
    """What one batch holds."""

    flops: float
    """Training FLOPs: of the documents as they are, so padding costs nothing and neither do masked pairs."""
    targets: int
    """Positions with a weight: the supervised tokens."""
    weight: float
    """Sum of the weights, which the loss is divided by."""
    inputs: int
    """Tokens that enter a stack: of the encoder and of the decoder where there are two."""
    slots: int
    """Places for tokens, padding included."""


class FlopMeter:
    """Counts the training FLOPs of batches by `spec.flops`, document by document.

    The head is linear in the targets, so a document's cost depends on its lengths and prefix, each combination of
    which is counted once and remembered: a batch costs a few table look-ups.

    Args:
        spec: the model.
    """

    def __init__(self, spec: ModelSpec) -> None:
        """See the class."""
        self.spec = spec
        bare = spec.flops(2, decoder_length=2, targets=0, prefix=0, training=True)
        self._head = spec.flops(2, decoder_length=2, targets=1, prefix=0, training=True) - bare
        self._known: dict[tuple[int, int, int], float] = {}

    def count(self, batch: Batch) -> BatchCount:
        """Everything that is counted of a batch."""
        weights = np.asarray(batch.weights)
        targets = int(np.count_nonzero(weights))
        documents = documents_of(batch)
        flops = self._head * targets
        for shape, number in zip(*np.unique(documents, axis=0, return_counts=True), strict=True):
            flops += number * self._document(*map(int, shape))
        slots = int(np.size(batch.input_ids))
        if batch.decoder_input_ids is not None:
            slots += int(np.size(batch.decoder_input_ids))
        return BatchCount(
            flops=float(flops),
            targets=targets,
            weight=float(weights.sum(dtype=np.float64)),
            inputs=int(documents[:, :2].sum()),
            slots=slots,
        )

    def _document(self, length: int, decoder: int, prefix: int) -> float:
        """Training FLOPs of one document without its head."""
        key = (length, decoder, prefix)
        if key not in self._known:
            self._known[key] = float(
                self.spec.flops(length, decoder_length=decoder, targets=0, prefix=prefix, training=True)
            )
        return self._known[key]


def documents_of(batch: Batch) -> np.ndarray[Any, Any]:
    """Every document of a batch as a row (tokens, decoder tokens, prefix): [documents, 3] ints.

    The decoder's tokens are 0 where there is no decoder, the prefix is 0 where the mask has none.
    """
    ids = np.asarray(batch.document_ids)
    decoder = batch.decoder_document_ids
    most = int(max(ids.max(initial=0), 0 if decoder is None else np.asarray(decoder).max(initial=0)))
    size = len(ids) * (most + 1)
    row = np.arange(len(ids))[:, None] * (most + 1)
    flat = (row + ids).ravel()
    columns = [np.bincount(flat, minlength=size), np.zeros(size, int), np.zeros(size, int)]
    if decoder is not None:
        columns[1] = np.bincount((row + np.asarray(decoder)).ravel(), minlength=size)
    prefix = batch.mask.facts.prefix
    if prefix is not None:
        columns[2] = np.bincount(flat[np.asarray(prefix).ravel()], minlength=size)
    table = np.stack(columns, axis=1).reshape(len(ids), most + 1, 3)[:, 1:].reshape(-1, 3)
    return table[table[:, :2].any(axis=1)]
