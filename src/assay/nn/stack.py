"""A stack of blocks with what enters before the first and what follows the last."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from assay.nn.attention import LayerCache
from assay.nn.block import Block, Surroundings
from assay.nn.hooks import Tap, scoped, touch
from assay.nn.masks import EVERYTHING, Visible, is_causal, narrow, visible
from assay.nn.norms import Norm
from assay.nn.positions import Rotary, alibi_slopes, relative_buckets, rotary, sinusoids
from assay.nn.ranged import key_ranges, pays
from assay.spec.axes import Family, Placement, PositionKind
from assay.spec.masks import Mask
from assay.spec.model import ModelSpec, StackName
from assay.spec.placement import has_embedding_norm, has_final_norm

BlockCache = dict[str, LayerCache]


class StackOutput(NamedTuple):
    """What a stack gives."""

    hidden: Float[Tensor, "b s width"]
    """After the final norm."""
    states: tuple[Tensor, ...] | None
    """Embeddings, every layer's output, the last one after the final norm; None unless asked for."""
    raw: Tensor | None = None
    """The last layer's output before the final norm; None unless states are asked for."""


class Group(nn.Module):
    """Blocks that follow one another, so that one compiled graph can hold them. Owns nothing: the stack does."""

    def __init__(self, blocks: Iterable[nn.Module]) -> None:
        """Args: blocks: in order."""
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor, around: Surroundings) -> Tensor:
        """The stream after all of them."""
        for block in self.blocks:
            x = block.forward(x, around)
        return x


class Stack(nn.Module):
    """Blocks of one kind, with their position tables and norms before and after."""

    def __init__(self, spec: ModelSpec, stack: StackName) -> None:
        """Args: spec: the model; stack: which of its stacks."""
        super().__init__()
        self.spec, self.stack = spec, stack
        positions, width = spec.positions, spec.width
        rows = spec.context + positions.offset
        learned = positions.kind is PositionKind.learned
        self.positions = nn.Embedding(rows, width) if learned else None
        self.block_positions = nn.Embedding(rows, width) if learned and positions.axes == 2 else None
        types = spec.embedding.token_types
        self.token_types = nn.Embedding(types, width) if types else None
        self.embedding_norm = Norm(spec.norm, width) if has_embedding_norm(spec) else None
        shared_table = positions.kind is PositionKind.relative and not positions.per_layer
        self.relative = nn.Embedding(positions.buckets, spec.heads(stack)) if shared_table else None
        self.blocks = nn.ModuleList(Block(spec, stack, layer) for layer in range(spec.depth(stack)))
        self.final_norm = Norm(spec.norm, width) if has_final_norm(spec) else None
        self.dual = spec.placement.kind is Placement.residual
        self.groups: tuple[Group, ...] = ()  # what `compile_blocks` makes; a tuple, so its blocks are not listed twice
        self.checkpointing = False  # keep only what enters each block (or group), and compute the rest again
        dropped = (spec.dropout, spec.attention.dropout, spec.feedforward.dropout)
        self.random = any(share > 0 for share in dropped)

    def forward(
        self,
        x: Float[Tensor, "b s width"],
        mask: Mask,
        *,
        position_ids: Int[Tensor, "b s"] | Int[Tensor, "b axes s"] | None = None,
        token_type_ids: Int[Tensor, "b s"] | None = None,
        memory: Float[Tensor, "b m width"] | None = None,
        memory_mask: Mask | None = None,
        cache: list[BlockCache] | None = None,
        past: int = 0,
        states: bool = False,
        tap: Tap | None = None,
    ) -> StackOutput:
        """Run every block.

        Args:
            x: token embeddings, scaled.
            mask: who sees whom among keys `past + S`.
            position_ids: positions of these tokens; None: `past`, `past + 1`, ...
            token_type_ids: segments; None: 0.
            memory, memory_mask: the encoder's output and who sees it, in an encoder-decoder's decoder.
            cache: one entry a block, extended in place.
            past: tokens already in the cache.
            states: also keep every layer's output.
            tap: instruments.
        """
        tap = scoped(tap, self.stack)
        length = x.shape[1]
        if position_ids is None:
            position_ids = self._count(past, length, x.device)
        x = touch(tap, "embedding", self._enter(x, position_ids, token_type_ids))
        kept = [x] if states else None
        if self.dual:
            x = torch.stack((x, x))
        turn = self._rotary(position_ids, past + length)
        seen: dict[object, Visible] = {}
        across = EVERYTHING
        if memory is not None and memory_mask is not None:
            across = visible(memory_mask, length, memory.shape[1], device=x.device, dtype=x.dtype, cross=True)
        plain = cache is None and tap is None
        arounds = [
            Surroundings(self._visible(seen, layer, mask, length, past, x, plain=plain), turn, memory, across)
            for layer in range(len(self.blocks))
        ]
        if cache is None and tap is None and not states and torch.is_grad_enabled():
            x = self._train(x, arounds, alike=len(seen) == 1)
        else:
            for layer, (block, around) in enumerate(zip(self.blocks, arounds, strict=True)):
                # Compiled blocks serve training; without gradients the block runs as written.
                run = block if torch.is_grad_enabled() else block.forward
                x = run(x, around, None if cache is None else cache[layer], scoped(tap, f"blocks.{layer}"))
                if kept is not None and layer + 1 < len(self.blocks):
                    kept.append(x[0] if self.dual else x)
        raw = None if kept is None else x[0] if self.dual else x
        x = touch(tap, "final", self._leave(x))
        return StackOutput(x, None if kept is None else (*kept, x), raw)

    def _train(self, x: Tensor, arounds: list[Surroundings], *, alike: bool) -> Tensor:
        """Every block, in compiled groups where there are any, recomputed in the backward pass where asked for."""
        compiled = self.blocks[0]._compiled_call_impl is not None
        parts: list[tuple[nn.Module, Surroundings]] = list(zip(self.blocks, arounds, strict=True))
        if compiled and alike and 1 < len(self.groups) < len(self.blocks):
            parts = [(group, arounds[0]) for group in self.groups]
        for part, around in parts:
            if self.checkpointing:
                x = checkpoint(part, x, around, use_reentrant=False, preserve_rng_state=self.random)
            else:
                x = part(x, around)
        return x

    def _count(self, past: int, length: int, device: torch.device) -> Tensor:
        ids = torch.arange(past, past + length, device=device)[None]
        return ids[:, None].expand(1, 2, length) if self.spec.positions.axes == 2 else ids

    def _enter(self, x: Tensor, ids: Tensor, types: Tensor | None) -> Tensor:
        say = self.spec.positions
        if self.positions is not None:
            rows = ids.unbind(1) if self.block_positions is not None else (ids,)
            x = x + self.positions(rows[0] + say.offset)
            if self.block_positions is not None:
                x = x + self.block_positions(rows[1] + say.offset)
        elif say.kind is PositionKind.sinusoidal:
            x = x + sinusoids(ids, self.spec.width, say.theta).to(x.dtype)
        if self.token_types is not None:
            x = x + self.token_types(ids.new_zeros(x.shape[:2]) if types is None else types)
        if self.embedding_norm is not None:
            x = self.embedding_norm(x)
        return F.dropout(x, self.spec.embedding.dropout, self.training)

    def _leave(self, x: Tensor) -> Tensor:
        if not self.dual:
            return self._last(x)
        near, far = x.unbind(0)
        return near + self._last(far)

    def _last(self, x: Tensor) -> Tensor:
        if self.final_norm is None:
            return x
        return self.final_norm(x) if torch.is_grad_enabled() else self.final_norm.forward(x)

    def _rotary(self, ids: Tensor, length: int) -> Rotary | None:
        # By this stack's own heads: an encoder may have more or fewer than its decoder.
        say = self.spec.positions
        own = int(self.spec.head_width(self.stack) * say.fraction)
        rotated = own if say.kind is PositionKind.rope else 0
        return rotary(say, rotated, ids, length, centre=self.spec.context // 2) if rotated else None

    def _visible(
        self,
        seen: dict[object, Visible],
        layer: int,
        mask: Mask,
        length: int,
        past: int,
        x: Tensor,
        *,
        plain: bool,
    ) -> Visible:
        """The layer's mask; layers that share window and bias share one. `plain`: neither cache nor instruments."""
        window, own = self.spec.window(layer), self._own_table(layer)
        key = (window, None if own is None else layer)
        if key not in seen:
            keys = past + length
            narrowed = Mask(narrow(mask.rule, window, keys), mask.facts)
            bias = self._bias(own or self.relative, mask, length, keys, x.device)
            ranged = self._ranged(narrowed, bias, x) if plain else None
            seen[key] = ranged or visible(narrowed, length, keys, device=x.device, dtype=x.dtype, bias=bias)
        return seen[key]

    def _ranged(self, mask: Mask, bias: Tensor | None, x: Tensor) -> Visible | None:
        """The mask as ranges of keys, where the bias is learned and attention by stretches is the faster one."""
        say, (batch, length, _) = self.spec.attention, x.shape[-3:]  # ResiDual: two streams, stacked in front
        heads = self.spec.heads(self.stack)
        if bias is None or not bias.requires_grad or not torch.is_grad_enabled():
            return None
        if x.device.type != "cpu" or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
            return None
        if say.softcap or say.relax or (say.dropout and self.training) or heads != self.spec.kv_heads(self.stack):
            return None
        if torch._C._functorch.peek_interpreter_stack() is not None:
            return None
        found = key_ranges(mask, batch, length, length)
        if found is None or not pays(found[0], heads, length):
            return None
        return Visible(causal=found[1], bias=bias.contiguous(), ranges=found[0])  # read row by row, in every layer

    def _own_table(self, layer: int) -> nn.Embedding | None:
        table = self.blocks[layer].get_submodule("attention").relative
        return table if isinstance(table, nn.Embedding) else None

    def _bias(
        self, table: nn.Embedding | None, mask: Mask, queries: int, keys: int, device: torch.device
    ) -> Float[Tensor, "1 h q k"] | None:
        """What positions add to attention scores: ALiBi's slopes or T5's table, from key - query."""
        say = self.spec.positions
        if say.kind not in (PositionKind.alibi, PositionKind.relative):
            return None
        if table is None:
            q = torch.arange(keys - queries, keys, device=device)
            distance = torch.arange(keys, device=device)[None, :] - q[:, None]
            slopes = alibi_slopes(self.spec.heads(self.stack)).to(device)
            if say.scaled_bias:
                slopes = slopes * self.spec.attention_scale(self.stack, 0)
            causal = is_causal(mask.rule) and self.stack == "decoder"
            steps = distance if causal else -distance.abs()
            return slopes[None, :, None, None] * steps
        buckets = relative_buckets(
            torch.arange(1 - keys, queries, device=device),
            # A prefix looks ahead within itself, so a prefix decoder tells keys after the query apart too.
            bidirectional=self.stack == "encoder" or self.spec.family is Family.prefix,
            buckets=say.buckets,
            max_distance=say.max_distance,
        )
        # Every distance is looked up once: a query's row is a window over them, the last query's the first.
        return table(buckets).t().unfold(-1, keys, 1).flip(1)[None]
