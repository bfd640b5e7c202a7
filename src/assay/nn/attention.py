"""Attention: projections, norms on queries and keys, rotation, cache, and the weighted sum."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from assay.nn.hooks import Tap, touch
from assay.nn.kernels.attention import short_attention, why_not
from assay.nn.kernels.linear import Linear, merged_linear
from assay.nn.masks import Visible
from assay.nn.norms import Norm
from assay.nn.positions import Rotary, rotate_both
from assay.nn.ranged import ranged_attention
from assay.spec.axes import Pairing, PositionKind, QKNorm
from assay.spec.model import ModelSpec, StackName
from assay.spec.placement import Slot


class LayerCache(Protocol):
    """One layer's keys and values, kept between calls."""

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add new keys and values [B, heads, S, head width]; returns all of them."""
        ...


class MemoryCache(Protocol):
    """Cross-attention's keys and values of a layer, made once from the encoder's output."""

    kept: tuple[Tensor, Tensor] | None


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, section 3.2), grouped or multi-query, self or cross."""

    def __init__(self, spec: ModelSpec, stack: StackName, layer: int, inner: Slot, *, cross: bool = False) -> None:
        """Args: spec: the model; stack, layer: where; inner: the slot before the output projection."""
        super().__init__()
        say = spec.attention
        self.heads, self.kv_heads = spec.heads(stack), spec.kv_heads(stack)
        self.head_width = spec.head_width(stack)
        queries, keys = self.heads * self.head_width, self.kv_heads * self.head_width
        self.q = Linear(spec.width, queries, say.qkv_bias)
        self.k = Linear(spec.width, keys, say.qkv_bias)
        self.v = Linear(spec.width, keys, say.qkv_bias)
        self.o = Linear(queries, spec.width, say.out_bias)
        self.per_head = say.qk_norm is QKNorm.head
        self.q_norm = self.k_norm = None
        if say.qk_norm is not QKNorm.none:
            widths = (self.head_width,) * 2 if self.per_head else (queries, keys)
            self.q_norm, self.k_norm = (Norm(spec.query_norm, width, eps=say.qk_norm_eps) for width in widths)
        self.inner = Norm(spec.norm, queries) if inner.norm else None
        own_table = spec.positions.kind is PositionKind.relative and spec.positions.per_layer and not cross
        self.relative = nn.Embedding(spec.positions.buckets, self.heads) if own_table else None
        # A layer's own scale is a tensor, so that one compiled graph serves all layers.
        scale = spec.attention_scale(stack, layer)
        self.scale = None if say.scale_by_layer else scale
        self.constants = {"own_scale": scale} if say.scale_by_layer else {}
        self.own_scale: Tensor | None
        self.register_buffer("own_scale", torch.tensor(scale) if say.scale_by_layer else None, persistent=False)
        self.clip, self.softcap, self.relax, self.dropout = say.clip_qkv, say.softcap, say.relax, say.dropout
        self.interleaved = spec.positions.pairing is Pairing.interleaved
        self.axes = spec.positions.axes

    def forward(
        self,
        x: Float[Tensor, "b q width"],
        see: Visible,
        rotary: Rotary | None = None,
        *,
        memory: Tensor | None = None,
        cache: LayerCache | None = None,
        tap: Tap | None = None,
    ) -> Float[Tensor, "b q width"]:
        """What every position gathers from those it sees.

        Args:
            x: queries' side.
            see: who sees whom.
            rotary: cosine and sine of the queries' positions; None without RoPE.
            memory: keys' side in cross-attention, [B, K, width]; None: x itself.
            cache: earlier keys and values, extended by this call.
            tap: instruments.
        """
        projected = merged_linear(x, (self.q, self.k, self.v)) if memory is None else None
        q = self._split(self._project(self.q, x, projected, 0), self.heads, self.q_norm)
        if memory is not None and isinstance(kept := getattr(cache, "kept", None), tuple):
            k, v = kept
        else:
            source = x if memory is None else memory
            k = self._split(self._project(self.k, source, projected, 1), self.kv_heads, self.k_norm)
            v = self._split(self._project(self.v, source, projected, 2), self.kv_heads, None)
            if rotary is not None:
                q, k = rotate_both(q, k, rotary, interleaved=self.interleaved, axes=self.axes)
            if cache is not None:
                k, v = cache.extend(k, v)
        q, k, v = touch(tap, "q", q), touch(tap, "k", k), touch(tap, "v", v)
        scale = self.scale
        if scale is None:
            assert self.own_scale is not None
            q, scale = q * self.own_scale, 1.0
        dropout = self.dropout if self.training else 0.0
        if self.softcap or self.relax or (tap is not None and (tap.wants("scores") or tap.wants("pattern"))):
            mixed = attend_explicitly(q, k, v, see, scale, dropout, self.softcap, self.relax, tap)
        else:
            mixed = attend(q, k, v, see, scale, dropout)
        mixed = mixed.transpose(1, 2).flatten(2)
        if self.inner is not None:
            mixed = self.inner(mixed)
        return self.o(mixed)

    def _project(self, linear: nn.Linear, x: Tensor, merged: tuple[Tensor, ...] | None, place: int) -> Tensor:
        y = linear(x) if merged is None else merged[place]
        return y if self.clip is None else y.clamp(-self.clip, self.clip)

    def _split(self, y: Tensor, heads: int, norm: Norm | None) -> Float[Tensor, "b h s d"]:
        if norm is not None and not self.per_head:
            y = norm(y)
        y = y.unflatten(-1, (heads, self.head_width))
        if norm is not None and self.per_head:
            y = norm(y)
        return y.transpose(1, 2)


def attend(q: Tensor, k: Tensor, v: Tensor, see: Visible, scale: float, dropout: float) -> Float[Tensor, "b h q d"]:
    """softmax(q k^T scale + bias) v by torch's fused kernel, or ours where rows are short or the bias is learned."""
    if see.ranges is not None:
        assert see.bias is not None and not dropout
        return ranged_attention(q, k, v, see.bias, see.ranges, see.causal, scale)
    if not dropout and why_not(q, k, v, see.bias) is None:
        out = short_attention(q, k, v, see.bias, see.causal, scale)
        return out if see.empty is None else out.masked_fill(see.empty, 0.0)
    out = F.scaled_dot_product_attention(
        q, k, v, attn_mask=see.bias, dropout_p=dropout, is_causal=see.causal, scale=scale,
        enable_gqa=q.shape[1] != k.shape[1],
    )  # fmt: skip
    return out if see.empty is None else out.masked_fill(see.empty, 0.0)


def attend_explicitly(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    see: Visible,
    scale: float,
    dropout: float = 0.0,
    softcap: float | None = None,
    relax: float | None = None,
    tap: Tap | None = None,
) -> Float[Tensor, "b h q d"]:
    """The same sum step by step, for soft-caps, PB-relax and instruments that ask for scores or patterns.

    Soft-cap: cap * tanh(score / cap), before the mask (Gemma 2). PB-relax: softmax((s/a - max(s/a)) a) (CogView,
    section 2.4), which in exact arithmetic changes nothing and in float16 prevents overflow.
    """
    if k.shape[1] != q.shape[1]:
        repeats = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)
    shrink = scale / relax if relax else scale
    scores = (q * shrink) @ k.transpose(-1, -2)
    if softcap:
        cap = softcap / relax if relax else softcap
        scores = cap * torch.tanh(scores / cap)
    scores = touch(tap, "scores", scores)
    bias = see.bias
    if see.causal:
        hidden = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).triu(1)
        bias = torch.zeros_like(hidden, dtype=q.dtype).masked_fill_(hidden, float("-inf"))
    if bias is not None:
        scores = scores + (bias / relax if relax else bias)
    if relax:
        scores = (scores - scores.amax(-1, keepdim=True).detach()) * relax
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    pattern = torch.softmax(scores, -1, dtype=wide).to(q.dtype)
    if see.empty is not None:
        pattern = pattern.masked_fill(see.empty, 0.0)
    pattern = touch(tap, "pattern", pattern)
    return F.dropout(pattern, dropout, dropout > 0) @ v
