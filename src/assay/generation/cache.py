"""Keys and values kept between calls: allocated ahead, written in place."""

from __future__ import annotations

import torch
from torch import Tensor

from assay.nn.stack import BlockCache
from assay.nn.transformer import Transformer


class KeyValues:
    """One layer's keys and values, [B, heads, capacity, head width], of which the first `length` are filled."""

    def __init__(self, capacity: int) -> None:
        """Args: capacity: tokens foreseen; more make it grow by doubling."""
        self.capacity, self.length = capacity, 0
        self.k: Tensor | None = None
        self.v: Tensor | None = None

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write new keys and values [B, heads, S, head width] behind the old ones; returns all, as views."""
        start, end = self.length, self.length + k.shape[2]
        self.reserve(end, like=(k, v))
        assert self.k is not None and self.v is not None
        self.k[:, :, start:end] = k
        self.v[:, :, start:end] = v
        self.length = end
        return self.k[:, :, :end], self.v[:, :, :end]

    def reserve(self, end: int, like: tuple[Tensor, Tensor] | None = None) -> None:
        """Make room for `end` tokens; `like` gives shape, type and device where nothing is allocated yet."""
        if self.k is not None and end <= self.capacity:
            return
        if end > self.capacity:
            self.capacity = max(end, 2 * self.capacity)
        if like is None:
            assert self.k is not None and self.v is not None
            like = (self.k, self.v)
        # Zeros, not whatever was there: a hidden key times weight 0 must not be NaN.
        old, fresh = (self.k, self.v), []
        for before, shape in zip(old, like, strict=True):
            made = shape.new_zeros((shape.shape[0], shape.shape[1], self.capacity, shape.shape[3]))
            if before is not None:
                made[:, :, : self.length] = before[:, :, : self.length]
            fresh.append(made)
        self.k, self.v = fresh

    def select(self, rows: Tensor) -> None:
        """Keep the given rows of the batch, in that order, repeats allowed (beam search)."""
        if self.k is not None and self.v is not None:
            self.k, self.v = self.k.index_select(0, rows), self.v.index_select(0, rows)

    def gather(self, rows: Tensor) -> None:
        """Every filled key and value from the row of the cache that `rows` [B, 1, length] names for its time."""
        if self.k is not None and self.v is not None:
            heads, times = (torch.arange(n, device=rows.device) for n in (self.k.shape[1], rows.shape[2]))
            for kept in (self.k, self.v):
                kept[:, :, : len(times)] = kept[rows, heads[:, None], times]

    def cut(self, length: int) -> None:
        """Forget all but the first `length` tokens."""
        self.length = min(self.length, length)


class Memory:
    """Cross-attention's keys and values of a layer, made once from the encoder's output."""

    def __init__(self) -> None:
        """Empty until the first call."""
        self.kept: tuple[Tensor, Tensor] | None = None

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keep what the first call made."""
        self.kept = (k, v)
        return self.kept

    def select(self, rows: Tensor) -> None:
        """As `KeyValues.select`."""
        if self.kept is not None:
            k, v = self.kept
            self.kept = (k.index_select(0, rows), v.index_select(0, rows))


class Cache:
    """All layers' keys and values. Handed to `generate(cache=...)`, it also carries a text over several calls.

    `ids` are the tokens whose keys it holds; a later call whose tokens begin with them computes only the rest.
    """

    def __init__(self) -> None:
        """Empty; layers are made by the first call."""
        self.layers: list[BlockCache] = []
        self.ids: Tensor | None = None
        self.bounds: object = None
        """What decided visibility: keys made under another prefix are not reused."""
        self.reused = 0
        """Tokens of the last call that were not computed again."""

    @property
    def length(self) -> int:
        """Tokens held."""
        return self._own[0].length if self.layers else 0

    @property
    def _own(self) -> list[KeyValues]:
        kept = [entry["attention"] for entry in self.layers]
        return [entry for entry in kept if isinstance(entry, KeyValues)]

    def prepare(self, net: Transformer, capacity: int) -> None:
        """Make a layer's entry for every block of the decoder, with room for `capacity` tokens."""
        assert net.decoder is not None
        if self.layers:
            for entry in self._own:
                entry.reserve(capacity)
            return
        for _ in net.decoder.blocks:
            layer: BlockCache = {"attention": KeyValues(capacity)}
            if net.two_stacks:
                layer["cross_attention"] = Memory()
            self.layers.append(layer)

    def select(self, rows: Tensor) -> None:
        """Keep the given rows of the batch."""
        for entry in self.layers:
            for kept in entry.values():
                kept.select(rows)  # type: ignore[attr-defined]

    def cut(self, length: int) -> None:
        """Forget all but the first `length` tokens."""
        for entry in self._own:
            entry.cut(length)

    def clear(self) -> None:
        """Forget everything."""
        self.layers, self.ids, self.bounds = [], None, None
