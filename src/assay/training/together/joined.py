"""Several members' batches as one of all their rows, member by member. NumPy only."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.data.batch import Batch
from assay.spec.masks import Mask, MaskFacts, Table

__all__ = ["joined"]

Array = NDArray[Any]

MASKS = {"mask": ("input_ids",) * 2, "decoder_mask": ("decoder_input_ids",) * 2,
         "cross_mask": ("decoder_input_ids", "input_ids")}  # fmt: skip
"""Whose positions are a mask's queries, and whose its keys."""


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
    for name, (queries, keys) in MASKS.items():
        if getattr(first, name) is not None:
            shape = (len(first.input_ids), fields[queries].shape[1], fields[keys].shape[1])
            fields[name] = _mask([getattr(batch, name) for batch in batches], shape)
    return dataclasses.replace(first, **fields)


def _stacked(arrays: Sequence[Array]) -> Array:
    """All rows, filled up with zeros (False, no document, no weight) at their ends."""
    length = max(a.shape[-1] for a in arrays)
    even = [a if a.shape[-1] == length else np.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, length - a.shape[-1])])
            for a in arrays]  # fmt: skip
    return np.concatenate(even)


def _mask(masks: Sequence[Mask], shape: tuple[int, int, int]) -> Mask:
    """One rule where all have the same, and else an explicit table of what each one's says: [rows, queries, keys]."""
    rule = masks[0].rule
    if all(mask.rule == rule for mask in masks):
        facts = {name: _stacked([getattr(mask.facts, name) for mask in masks]) for name in _needed(masks[0])}
        return Mask(rule, MaskFacts(**facts))
    b, q, k = np.ogrid[: shape[0], : shape[1], : shape[2]]
    seen = [np.broadcast_to(m.rule(b, q, k, MaskFacts(**_wide(m, *shape[1:]))), shape) for m in masks]
    return Mask(Table(), MaskFacts(blocked=~np.concatenate(seen)))


def _needed(mask: Mask) -> list[str]:
    """Facts that a rule looks up; documents of queries where they are others than those of keys."""
    names = set(mask.rule.needs)
    if "document_ids" in names and mask.facts.query_document_ids is not None:
        names.add("query_document_ids")
    return sorted(names)


def _wide(mask: Mask, queries: int, keys: int) -> dict[str, Array]:
    """What a rule looks up, for as many positions as the joined rows have."""
    found = {}
    for name in _needed(mask):
        value, length = getattr(mask.facts, name), queries if name == "query_document_ids" else keys
        found[name] = np.pad(value, [(0, 0), (0, length - value.shape[1])])
    return found
