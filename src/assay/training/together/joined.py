"""Several members' batches as one of all their rows, member by member. NumPy only."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.data.batch import Batch, decoder_mask, reading_mask
from assay.spec.masks import Bidirectional, Mask, MaskFacts, Padding, SameDocument

__all__ = ["joined"]

Array = NDArray[Any]

MASKS = {"mask": "document_ids", "decoder_mask": "decoder_document_ids", "cross_mask": "document_ids"}
"""Whose positions are a mask's keys."""


def joined(batches: Sequence[Batch]) -> Batch:
    """One batch of all rows. Shorter rows are padded: no position that was there sees the padding, or has it to learn.

    Args:
        batches: of one objective and family, all with as many rows.
    """
    first = batches[0]
    assert len({batch.input_ids.shape for batch in batches}) == 1, "members have rows of one length, and as many"
    fields: dict[str, Any] = {"single_document": all(b.single_document for b in batches),
                              "counted": all(b.counted for b in batches)}  # fmt: skip
    for field in dataclasses.fields(Batch):
        values = [getattr(batch, field.name) for batch in batches]
        if isinstance(values[0], np.ndarray):
            fields[field.name] = _stacked(values)
    for name, keys in MASKS.items():
        if getattr(first, name) is not None:
            queries = fields["decoder_document_ids"] if name == "cross_mask" else None
            fields[name] = _mask([getattr(batch, name) for batch in batches], fields[keys], queries)
    return dataclasses.replace(first, **fields)


def _stacked(arrays: Sequence[Array]) -> Array:
    """All rows, filled up with zeros (False, no document, no weight) at their ends."""
    length = max(a.shape[-1] for a in arrays)
    even = [a if a.shape[-1] == length else np.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, length - a.shape[-1])])
            for a in arrays]  # fmt: skip
    return np.concatenate(even)


def _mask(masks: Sequence[Mask], documents: Array, queries: Array | None) -> Mask:
    """One rule for all rows. Where rules differ, those of rows with a document each said no more than they had to:
    now documents are kept apart in all, and padding, which nothing is learned from, sees nothing.

    Args:
        masks: a member's each.
        documents: of the keys of all rows.
        queries: the same of the queries, where they are others.
    """
    rule = masks[0].rule
    if all(mask.rule == rule for mask in masks):
        names = [n for n in ("prefix", "document_ids", "query_document_ids", "key_mask") if _given(masks[0], n)]
        return Mask(rule, MaskFacts(**{n: _stacked([getattr(mask.facts, n) for mask in masks]) for n in names}))
    if any(isinstance(mask.rule, Bidirectional | Padding | SameDocument) for mask in masks):
        return reading_mask(documents, queries, single=False)
    rows, keys = len(documents) // len(masks), documents.shape[1]
    prefixes = [mask.facts.prefix for mask in masks]
    if all(prefix is None for prefix in prefixes):
        return decoder_mask(documents, None, single=False)
    none = np.zeros((rows, keys), dtype=bool)
    return decoder_mask(documents, _stacked([none if p is None else p for p in prefixes]), single=False)


def _given(mask: Mask, name: str) -> bool:
    """Whether a rule looks a fact up; documents of queries only where they are others than those of keys."""
    needed = "document_ids" if name == "query_document_ids" else name
    return needed in mask.rule.needs and getattr(mask.facts, name) is not None
