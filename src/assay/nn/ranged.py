"""Attention with a learned bias where every query sees one unbroken range of keys: stretch by stretch, on a CPU.

Queries that follow each other and see the same keys (a document of a packed row, a row before its padding) are a
stretch. Its scores fit into the caches, pairs that see nothing of each other cost nothing, and the bias is read where
it lies; torch's fused kernel refuses a bias that needs a gradient, and makes tensors of [batch, heads, queries, keys]
several times over. A stretch is computed by the C kernel (`kernels/attention.py`), which keeps a number a row, and
without a compiler by torch's products, which keep the pattern. Registered as operators, so that compiled blocks can
hold them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from assay.nn.kernels import attention as kernel
from assay.spec.masks import And, Bidirectional, Causal, Mask, Padding, SameDocument

__all__ = ["key_ranges", "pays", "ranged_attention"]

LEAST_PAIRS = 12_000
"""Scores that the dense way makes in the time that a stretch's calls take."""


def key_ranges(mask: Mask, batch: int, queries: int, keys: int) -> tuple[Int[Tensor, "b q 2"], bool] | None:
    """The first key that each query sees and the one behind the last, and whether it sees none behind itself.

    None where the rule says something else, or documents lie in several parts.
    """
    rule, facts = mask.rule, mask.facts
    causal = rule == Causal() or rule in (And((SameDocument(), Causal())), And((Causal(), SameDocument())))
    if rule in (Bidirectional(), Causal()):
        found = torch.tensor([0, keys]).expand(batch, queries, 2)
    elif rule == Padding():
        real = torch.as_tensor(facts.key_mask).bool()
        counts = real.sum(-1)
        if not torch.equal(real, torch.arange(keys) < counts[:, None]):
            return None
        found = torch.stack((torch.zeros_like(counts), counts), -1)[:, None].expand(batch, queries, 2)
    elif rule == SameDocument() or causal:
        own = torch.as_tensor(facts.document_ids)
        asking = own if facts.query_document_ids is None else torch.as_tensor(facts.query_document_ids)
        if causal and asking is not own:
            return None
        number = torch.where(own > 0, own, int(own.max()) + 1)  # padding lies last, so that a row is in order
        if bool((number.diff(dim=-1) < 0).any()):
            return None
        first = torch.searchsorted(number, asking)
        last = torch.searchsorted(number, asking, right=True)
        found = torch.stack((first, last), -1) * (asking > 0)[..., None]
    else:
        return None
    return found.contiguous(), causal


def pays(ranges: Int[Tensor, "b q 2"], heads: int, keys: int) -> bool:
    """Whether stretches are long enough to be worth their calls."""
    b, queries, _ = ranges.shape
    return b * heads * queries * keys > LEAST_PAIRS * len(_stretches(ranges, keys))


def ranged_attention(
    q: Float[Tensor, "b h q d"], k: Float[Tensor, "b h k d"], v: Float[Tensor, "b h k d"],
    bias: Float[Tensor, "1 h q k"], ranges: Int[Tensor, "b q 2"], causal: bool, scale: float,
) -> Float[Tensor, "b h q d"]:  # fmt: skip
    """softmax(scale q k^T + bias) v over each query's range; 0 where the range is empty.

    Args:
        q, k, v: float32 on a CPU, with as many heads each.
        bias: additive; it may need a gradient.
        ranges: first key and the one behind the last, of every query.
        causal: besides, a query sees none behind itself (queries and keys count alike).
        scale: of the scores.
    """
    if not torch.compiler.is_compiling():
        kernel.NATIVE.load()
    return _Ranged.apply(q, k, v, bias, ranges, causal, scale)[0]


class _Ranged(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, ranges: Tensor, causal: bool, scale: float
    ) -> tuple[Tensor, Tensor]:
        out, kept = torch.ops.assay.ranged_attention(q, k, v, bias, ranges, causal, scale)
        ctx.save_for_backward(q, k, v, bias, ranges, out, kept)
        ctx.causal, ctx.scale = causal, scale
        ctx.mark_non_differentiable(kept)
        return out, kept

    @staticmethod
    def backward(ctx: Any, dout: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        q, k, v, bias, ranges, out, kept = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph
            found = _backward_formula(dout, q, k, v, bias, ranges, ctx.causal, ctx.scale)
        else:
            found = torch.ops.assay.ranged_attention_backward(
                dout, q, k, v, bias, ranges, out, kept, ctx.causal, ctx.scale
            )
        return *found, None, None, None


def _backward_formula(
    dout: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, ranges: Tensor, causal: bool, scale: float
) -> tuple[Tensor, ...]:
    """The gradients in torch's operators, so that autograd can go through them again."""
    places = torch.arange(k.shape[2])
    seen = (places >= ranges[..., :1]) & (places < ranges[..., 1:])
    if causal:
        seen = seen & (places <= torch.arange(q.shape[2])[:, None])
    seen = seen[:, None]
    scores = (q @ k.transpose(-1, -2) * scale + bias).masked_fill(~seen, -1e30)
    p = torch.softmax(scores, -1) * seen
    dp = dout @ v.transpose(-1, -2)
    ds = p * (dp - (p * dp).sum(-1, keepdim=True))
    return ds @ k * scale, ds.transpose(-1, -2) @ q * scale, p.transpose(-1, -2) @ dout, ds.sum(0, keepdim=True)


def _stretches(ranges: Tensor, keys: int) -> list[tuple[int, int, int, int, int]]:
    """(row, first query, the one behind the last, first key, the one behind the last) of all that see something."""
    b, queries, _ = ranges.shape
    code = (ranges[..., 0] * (keys + 1) + ranges[..., 1]).numpy()
    new = np.ones((b, queries), dtype=bool)
    new[:, 1:] = code[:, 1:] != code[:, :-1]
    row, begin = np.nonzero(new)
    stop = np.where(np.append(row[1:], -1) == row, np.append(begin[1:], 0), queries)
    first, last = np.divmod(code[row, begin], keys + 1)
    some = last > first
    return list(zip(*(x[some].tolist() for x in (row, begin, stop, first, last)), strict=True))


def _by_kernel(q: Tensor, k: Tensor) -> bool:
    """Whether the C kernel computes a stretch. Loaded by now or not at all: both passes must answer alike."""
    return kernel.NATIVE.handle is not None and kernel.suits(k.shape[2], q.shape[3])


def _kept(q: Tensor, k: Tensor) -> int:
    """Numbers that the backward pass needs: one a row, or the patterns, of which hidden pairs take no room."""
    b, h, queries, _ = q.shape
    return b * h * queries if _by_kernel(q, k) else b * h * queries * k.shape[2]


def _parts(
    ranges: Tensor, q: Tensor, k: Tensor, kept: Tensor
) -> Iterator[tuple[slice, slice, slice, Float[Tensor, "r h ..."]]]:
    """Stretches as rows, queries and keys, with their share of what is kept.

    By the kernel, rows that follow each other and have one and the same stretch are one part.
    """
    by_kernel, used = _by_kernel(q, k), 0
    found: list[tuple[int, int, int, int, int, int]] = []
    for row, a, b, c, d in _stretches(ranges, k.shape[2]):
        goes_on = by_kernel and found and found[-1][1:] == (row, a, b, c, d)
        found.append((found.pop()[0] if goes_on else row, row + 1, a, b, c, d))
    for first, last, a, b, c, d in found:
        shape = (last - first, q.shape[1], b - a, *([] if by_kernel else [d - c]))
        size = math.prod(shape)
        yield slice(first, last), slice(a, b), slice(c, d), kept[used : used + size].view(shape)
        used += size


def _rows(like: Tensor) -> Tensor:
    """[b, h, s, d] of zeros laid out as [b, s, h, d]: what sees nothing, or is seen by none, stays 0."""
    return kernel.rows_like(like).zero_()


def _forward(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor, ranges: Tensor, causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    out, kept, bias = _rows(q), q.new_empty(_kept(q, k)), bias.contiguous()
    for rows, asking, seen, kept_here in _parts(ranges, q, k, kept):
        shift = asking.start - seen.start
        q_here, k_here, v_here = q[rows, :, asking], k[rows, :, seen], v[rows, :, seen]
        bias_here, out_here = bias[:, :, asking, seen], out[rows, :, asking]
        if _by_kernel(q, k):
            kernel.forward_into(out_here, kept_here, q_here, k_here, v_here, bias_here, causal, scale, shift)
            continue
        scores = torch.baddbmm(bias_here[0], q_here[0], k_here[0].mT, alpha=scale)
        if causal:
            scores.masked_fill_(torch.ones(scores.shape[1:], dtype=torch.bool).triu(1 + shift), float("-inf"))
        torch.softmax(scores, -1, out=kept_here[0])
        out_here[0] = torch.bmm(kept_here[0], v_here[0])
    return out, kept


def _backward(
    dout: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, ranges: Tensor, out: Tensor, kept: Tensor,
    causal: bool, scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    dq, dk, dv, dbias, bias = _rows(q), _rows(k), _rows(v), bias.new_zeros(bias.shape), bias.contiguous()
    for rows, asking, seen, kept_here in _parts(ranges, q, k, kept):
        q_here, k_here, v_here = q[rows, :, asking], k[rows, :, seen], v[rows, :, seen]
        dout_here, out_here, dq_here = dout[rows, :, asking], out[rows, :, asking], dq[rows, :, asking]
        bias_here, dbias_here = bias[:, :, asking, seen], dbias[:, :, asking, seen]
        if _by_kernel(q, k):
            dk_here, dv_here = kernel.rows_like(k_here), kernel.rows_like(v_here)
            kernel.backward_into(
                dq_here, dk_here, dv_here, dbias_here, dout_here, q_here, k_here, v_here, bias_here, out_here,
                kept_here, causal, scale, asking.start - seen.start,
            )  # fmt: skip
        else:
            p, grad = kept_here[0], dout_here[0]
            ds = torch.baddbmm((grad * out_here[0]).sum(-1, keepdim=True), grad, v_here[0].mT, beta=-1).mul_(p)
            dbias_here[0] += ds
            dq_here[0] = torch.bmm(ds, k_here[0]).mul_(scale)
            dk_here, dv_here = torch.bmm(ds.mT, q_here[0]).mul_(scale), torch.bmm(p.mT, grad)
        # Two stretches of queries may see the same keys (causal ones do not, documents neither): sums, not copies.
        dk[rows, :, seen] += dk_here
        dv[rows, :, seen] += dv_here
    return dq, dk, dv, dbias


_LIBRARY = torch.library.Library("assay", "FRAGMENT")
_LIBRARY.define(
    "ranged_attention(Tensor q, Tensor k, Tensor v, Tensor bias, Tensor ranges, bool causal, float scale) -> "
    "(Tensor, Tensor)"
)
_LIBRARY.define(
    "ranged_attention_backward(Tensor dout, Tensor q, Tensor k, Tensor v, Tensor bias, Tensor ranges, Tensor out, "
    "Tensor kept, bool causal, float scale) -> (Tensor, Tensor, Tensor, Tensor)"
)
_LIBRARY.impl("ranged_attention", _forward, "CPU")
_LIBRARY.impl("ranged_attention_backward", _backward, "CPU")
_LIBRARY.impl(
    "ranged_attention",
    lambda q, k, *_: (_rows(q), q.new_empty(_kept(q, k))),
    "Meta",
)
_LIBRARY.impl(
    "ranged_attention_backward",
    lambda dout, q, k, v, bias, *_: (_rows(q), _rows(k), _rows(v), bias.new_zeros(bias.shape)),
    "Meta",
)
