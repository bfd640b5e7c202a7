"""Attention by a C kernel (`attention.c`) up to the lengths where it beats torch's fused one: float32 on a CPU.

Registered as operators, so that compiled blocks can hold it too. Second derivatives are the formula's in torch.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from assay.nn.kernels.native import Library
from assay.runs import processor

__all__ = ["NATIVE", "short_attention", "why_not"]

LONGEST, WIDEST = (512, 64) if processor.is_intel() else (4096, 128)
"""Keys, and features of a head, up to which it is the faster one (`docs/log.md`). Beyond the smaller pair it has been
measured on AMD's processors only. By the maker and not by timing, so that a machine always sums in the same order."""
SHORT = 512
"""Keys up to which it serves though there be fewer heads than threads, over which alone it shares its work."""
WORTH = 1 << 28
"""Multiplications from which it serves without gradients too: a few milliseconds, as loading it takes."""

Long = ctypes.c_int64


class Shape(ctypes.Structure):
    """Sizes and strides, as `attention.c` reads them."""

    _fields_ = (
        *((name, Long) for name in ("batch", "heads", "kv_heads", "queries", "keys", "width")),
        *((name, Long * 3) for name in ("q", "k", "v", "out", "dout", "dq", "dk", "dv", "bias")),
        ("scale", ctypes.c_float),
        *((name, ctypes.c_int32) for name in ("causal", "has_bias", "threads")),
    )


def why_not(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> str | None:
    """Why torch's own kernel serves; None where this one does."""
    for t in (q, k, v, bias):
        if t is not None and (t.dtype != torch.float32 or t.device.type != "cpu"):
            return f"{t.dtype} on {t.device}"
    if k.shape[2] > LONGEST or q.shape[3] > WIDEST or q.shape[3] % 16 or v.shape[3] != q.shape[3]:
        return "rows too long, or heads too wide or odd"
    if q.numel() == 0 or k.numel() == 0:
        return "nothing to do"
    if bias is not None and bias.requires_grad:
        return "the bias is learned"
    if not torch.is_grad_enabled() and q.numel() * k.shape[2] < WORTH:
        return "too little work to load it for, and no training that repeats it"
    if torch.compiler.is_compiling():
        return None if NATIVE.handle is not None else "not loaded before compiling"
    if k.shape[2] > SHORT and k.shape[0] * k.shape[1] < torch.get_num_threads():
        return "fewer heads than threads"
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return "under a functorch transform"
    return None if NATIVE.load() is not None else NATIVE.reason


def short_attention(
    q: Float[Tensor, "b h q d"], k: Float[Tensor, "b g k d"], v: Float[Tensor, "b g k d"], bias: Tensor | None,
    causal: bool, scale: float,
) -> Float[Tensor, "b h q d"]:  # fmt: skip
    """softmax(scale q k^T + bias) v; ask `why_not` first.

    Args:
        q, k, v: with `h` a multiple of `g` (grouped queries).
        bias: additive, without gradient, [1 or b, 1 or h, q, k]; None: nothing.
        causal: a query sees the keys up to its own, counted from the end.
        scale: of the scores.
    """
    return _Attention.apply(q, k, v, bias, causal, scale)[0]


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, causal: bool, scale: float
    ) -> tuple[Tensor, Tensor]:
        out, lse = torch.ops.assay.attention(q, k, v, bias, causal, scale)
        ctx.save_for_backward(q, k, v, bias, out, lse)
        ctx.causal, ctx.scale = causal, scale
        ctx.mark_non_differentiable(lse)
        return out, lse

    @staticmethod
    def backward(ctx: Any, dout: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        q, k, v, bias, out, lse = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph
            dq, dk, dv = _backward_formula(q, k, v, bias, dout, ctx.causal, ctx.scale)
        else:
            dq, dk, dv = torch.ops.assay.attention_backward(dout, q, k, v, bias, out, lse, ctx.causal, ctx.scale)
        return dq, dk, dv, None, None, None


def _backward_formula(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dout: Tensor, causal: bool, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients in torch's operators, so that autograd can go through them again."""
    group = q.shape[1] // k.shape[1]
    wide_k, wide_v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    scores = q @ wide_k.transpose(-1, -2) * scale
    scores = scores if bias is None else scores + bias
    if causal:
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1 + k.shape[2] - q.shape[2])
        scores = scores.masked_fill(hidden, float("-inf"))
    p = torch.softmax(scores, -1)
    dp = dout @ wide_v.transpose(-1, -2)
    ds = p * (dp - (p * dp).sum(-1, keepdim=True)) * scale
    dk, dv = ds.transpose(-1, -2) @ q, p.transpose(-1, -2) @ dout
    return ds @ wide_k, *(t.unflatten(1, (-1, group)).sum(2) for t in (dk, dv))


def _rows(like: Tensor) -> Tensor:
    """[b, h, s, d] laid out as [b, s, h, d], as projections read and write it."""
    b, h, s, d = like.shape
    return like.new_empty(b, s, h, d).transpose(1, 2)


_SHAPES: dict[Any, Shape] = {}
"""Made once for every combination of sizes and strides: filling one takes longer than a small head's attention."""


def _shape(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, causal: bool, scale: float, dout: Tensor | None
) -> Shape:
    key = (
        q.shape, k.shape[1:3], q.stride(), k.stride(), v.stride(), None if dout is None else dout.stride(),
        None if bias is None else (bias.shape, bias.stride()), causal, scale, torch.get_num_threads(),
    )  # fmt: skip
    found = _SHAPES.get(key)
    if found is None:
        if len(_SHAPES) > 1000:  # lengths that differ from step to step
            _SHAPES.clear()
        found = _SHAPES[key] = _make_shape(q, k, v, bias, causal, scale, dout)
    return found


def _make_shape(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, causal: bool, scale: float, dout: Tensor | None
) -> Shape:
    b, h, queries, d = q.shape
    n = Shape(b, h, k.shape[1], queries, k.shape[2], d)
    wide, narrow = (queries * h * d, d, h * d), (k.shape[2] * k.shape[1] * d, d, k.shape[1] * d)
    strides = {"q": q.stride(), "k": k.stride(), "v": v.stride(), "dout": wide if dout is None else dout.stride()}
    strides |= {"out": wide, "dq": wide, "dk": narrow, "dv": narrow}  # as `_rows` lays them out
    if bias is not None:
        assert bias.shape[2] == queries, "a bias has a row for every query"
        strides["bias"] = tuple(0 if size == 1 else step for size, step in zip(bias.shape, bias.stride(), strict=True))
    for name, stride in strides.items():
        setattr(n, name, (Long * 3)(*stride[:3]))
    n.scale, n.causal, n.has_bias = scale, causal, bias is not None
    n.threads = min(torch.get_num_threads(), b * k.shape[1]) if NATIVE.threads else 1
    return n


def _rows_stride(t: Tensor) -> tuple[int, int, int, int]:
    _, h, s, d = t.shape
    return s * h * d, d, h * d, 1


def _flat(t: Tensor) -> Tensor:
    """The same with a last axis of stride 1."""
    return t if t.stride(-1) == 1 else t.contiguous()


def _forward(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, causal: bool, scale: float) -> tuple[Tensor, Tensor]:
    library = NATIVE.handle
    assert library is not None
    q, k, v = _flat(q), _flat(k), _flat(v)
    bias = None if bias is None else _flat(bias)
    out, lse = _rows(q), q.new_empty(q.shape[:3])
    n = _shape(q, k, v, bias, causal, scale, None)
    where = None if bias is None else bias.data_ptr()
    if library.attention_forward(
        n, q.data_ptr(), k.data_ptr(), v.data_ptr(), where, out.data_ptr(), lse.data_ptr()
    ):  # fmt: skip
        raise MemoryError("no memory for attention's scratch")
    return out, lse


def _backward(
    dout: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, out: Tensor, lse: Tensor, causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    library = NATIVE.handle
    assert library is not None
    q, k, v, dout = _flat(q), _flat(k), _flat(v), _flat(dout)
    out = out if out.stride() == _rows_stride(out) else _rows(out).copy_(out)
    bias = None if bias is None else _flat(bias)
    dq, dk, dv = _rows(q), _rows(k), _rows(v)
    n = _shape(q, k, v, bias, causal, scale, dout)
    where = None if bias is None else bias.data_ptr()
    if library.attention_backward(
        n, q.data_ptr(), k.data_ptr(), v.data_ptr(), where, out.data_ptr(), dout.data_ptr(), lse.data_ptr(),
        dq.data_ptr(), dk.data_ptr(), dv.data_ptr(),
    ):  # fmt: skip
        raise MemoryError("no memory for attention's scratch")
    return dq, dk, dv


_LIBRARY = torch.library.Library("assay", "FRAGMENT")
_LIBRARY.define("attention(Tensor q, Tensor k, Tensor v, Tensor? bias, bool causal, float scale) -> (Tensor, Tensor)")
_LIBRARY.define(
    "attention_backward(Tensor dout, Tensor q, Tensor k, Tensor v, Tensor? bias, Tensor out, Tensor lse, bool causal, "
    "float scale) -> (Tensor, Tensor, Tensor)"
)
_LIBRARY.impl("attention", _forward, "CPU")
_LIBRARY.impl("attention_backward", _backward, "CPU")
_LIBRARY.impl("attention", lambda q, k, v, bias, causal, scale: (_rows(q), q.new_empty(q.shape[:3])), "Meta")
_LIBRARY.impl(
    "attention_backward",
    lambda dout, q, k, v, bias, out, lse, causal, scale: (_rows(q), _rows(k), _rows(v)),
    "Meta",
)


def _check(library: ctypes.CDLL) -> None:
    """Set signatures, and compare a small case with torch."""
    address = ctypes.c_void_p
    if library.shape_bytes() != ctypes.sizeof(Shape):
        raise ValueError(f"a shape has {library.shape_bytes()} bytes there and {ctypes.sizeof(Shape)} here")
    library.attention_forward.argtypes = [ctypes.POINTER(Shape), *[address] * 6]
    library.attention_backward.argtypes = [ctypes.POINTER(Shape), *[address] * 10]
    draw = torch.Generator().manual_seed(0)
    q, dout = (torch.randn(2, 4, 21, 16, generator=draw) for _ in range(2))
    k, v = (torch.randn(2, 2, 21, 16, generator=draw) for _ in range(2))
    before, NATIVE.handle = NATIVE.handle, library
    try:
        with torch.no_grad():
            out, lse = _forward(q, k, v, None, True, 0.3)
            theirs = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3, enable_gqa=True)
            found = (out, *_backward(dout, q, k, v, None, out, lse, True, 0.3))
            straight = (theirs, *_backward_formula(q, k, v, None, dout, True, 0.3))
    finally:
        NATIVE.handle = before
    if not all(torch.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in zip(found, straight, strict=True)):
        raise ValueError("attention.c computes something else than torch")


NATIVE = Library("attention.c", _check)
"""The C kernel; compiled when first needed."""
