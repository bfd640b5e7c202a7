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

__all__ = ["NATIVE", "backward_into", "forward_into", "rows_like", "short_attention", "suits", "why_not"]

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
        *((name, Long) for name in ("batch", "heads", "kv_heads", "queries", "keys", "width", "shift")),
        *((name, Long * 3) for name in ("q", "k", "v", "out", "dout", "dq", "dk", "dv", "bias")),
        ("scale", ctypes.c_float),
        *((name, ctypes.c_int32) for name in ("causal", "has_bias", "threads")),
    )


def suits(keys: int, width: int) -> bool:
    """Whether it is the faster one for rows of so many keys and heads of so many features."""
    return keys <= LONGEST and width <= WIDEST and width % 16 == 0


def why_not(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> str | None:
    """Why torch's own kernel serves; None where this one does."""
    for t in (q, k, v, bias):
        if t is not None and (t.dtype != torch.float32 or t.device.type != "cpu"):
            return f"{t.dtype} on {t.device}"
    if not suits(k.shape[2], q.shape[3]) or v.shape[3] != q.shape[3]:
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


_SHAPES: dict[Any, Shape] = {}
"""Made once for every combination of sizes and strides: filling one takes longer than a small head's attention."""


def _shape(causal: bool, scale: float, shift: int, learned: bool, **tensors: Tensor | None) -> Shape:
    """Args: learned: the bias's gradient is asked for; tensors: by the names that `Shape` has for their strides."""
    sides = tuple(None if t is None else (t.shape, t.stride()) for t in tensors.values())
    key = causal, scale, shift, learned, torch.get_num_threads(), sides
    found = _SHAPES.get(key)
    if found is None:
        if len(_SHAPES) > 1000:  # lengths that differ from step to step
            _SHAPES.clear()
        found = _SHAPES[key] = _make_shape(causal, scale, shift, learned, tensors)
    return found


def _make_shape(causal: bool, scale: float, shift: int, learned: bool, tensors: dict[str, Tensor | None]) -> Shape:
    q, k, bias = tensors["q"], tensors["k"], tensors["bias"]
    assert q is not None and k is not None and (bias is None or bias.shape[2] == q.shape[2])
    b, h, queries, d = q.shape
    n = Shape(b, h, k.shape[1], queries, k.shape[2], d, shift)
    for name, t in tensors.items():
        if t is not None:
            assert t.stride(3) == 1
            steps = [0 if size == 1 else step for size, step in zip(t.shape[:3], t.stride()[:3], strict=True)]
            setattr(n, name, (Long * 3)(*steps))
    n.scale, n.causal, n.has_bias = scale, causal, bias is not None
    n.threads = min(torch.get_num_threads(), b * k.shape[1]) if NATIVE.threads else 1
    if learned:  # a head's batches add to one gradient
        n.threads = max(t for t in range(1, n.threads + 1) if k.shape[1] % t == 0)
    return n


def rows_like(t: Tensor) -> Tensor:
    """[b, h, s, d] laid out as [b, s, h, d], as projections read and write it."""
    b, h, s, d = t.shape
    return t.new_empty(b, s, h, d).transpose(1, 2)


def _flat(t: Tensor) -> Tensor:
    """The same with a last axis of stride 1."""
    return t if t.stride(-1) == 1 else t.contiguous()


def forward_into(
    out: Tensor, lse: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, causal: bool, scale: float,
    shift: int,
) -> None:  # fmt: skip
    """The kernel's forward pass, its results written into `out` and `lse` [b, h, q].

    Args:
        out, lse: results; lse: the logarithm of each row's sum of exponentials.
        q, k, v, bias, causal, scale: as `short_attention` has them.
        shift: where causal, query i sees keys up to i + shift.
    """
    library = NATIVE.handle
    assert library is not None and lse.is_contiguous()
    q, k, v = _flat(q), _flat(k), _flat(v)
    bias = None if bias is None else _flat(bias)
    n = _shape(causal, scale, shift, False, q=q, k=k, v=v, bias=bias, out=out)
    where = None if bias is None else bias.data_ptr()
    if library.attention_forward(
        n, q.data_ptr(), k.data_ptr(), v.data_ptr(), where, out.data_ptr(), lse.data_ptr()
    ):  # fmt: skip
        raise MemoryError("no memory for attention's scratch")


def backward_into(
    dq: Tensor, dk: Tensor, dv: Tensor, dbias: Tensor | None, dout: Tensor, q: Tensor, k: Tensor, v: Tensor,
    bias: Tensor | None, out: Tensor, lse: Tensor, causal: bool, scale: float, shift: int,
) -> None:  # fmt: skip
    """The kernel's backward pass, its results written into dq, dk and dv.

    Args:
        dq, dk, dv: results.
        dbias: added to; it lies as the bias does, which every head has its own of; None: not asked for.
        dout: the output's gradient.
        q, k, v, bias, out, lse, causal, scale, shift: as of `forward_into`.
    """
    library = NATIVE.handle
    assert library is not None and lse.is_contiguous()
    q, k, v, out, dout = _flat(q), _flat(k), _flat(v), _flat(out), _flat(dout)
    bias = None if bias is None else _flat(bias)
    if dbias is not None:
        assert bias is not None and dbias.shape == bias.shape and dbias.stride() == bias.stride()
        assert dbias.shape[1:] == (*q.shape[1:3], k.shape[2])
    n = _shape(
        causal, scale, shift, dbias is not None, q=q, k=k, v=v, bias=bias, out=out, dout=dout, dq=dq, dk=dk, dv=dv
    )
    where, there = (None if t is None else t.data_ptr() for t in (bias, dbias))
    if library.attention_backward(
        n, q.data_ptr(), k.data_ptr(), v.data_ptr(), where, out.data_ptr(), dout.data_ptr(), lse.data_ptr(),
        dq.data_ptr(), dk.data_ptr(), dv.data_ptr(), there,
    ):  # fmt: skip
        raise MemoryError("no memory for attention's scratch")


def _forward(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, causal: bool, scale: float) -> tuple[Tensor, Tensor]:
    out, lse = rows_like(q), q.new_empty(q.shape[:3])
    forward_into(out, lse, q, k, v, bias, causal, scale, k.shape[2] - q.shape[2])
    return out, lse


def _backward(
    dout: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, out: Tensor, lse: Tensor, causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    found = rows_like(q), rows_like(k), rows_like(v)
    backward_into(*found, None, dout, q, k, v, bias, out, lse, causal, scale, k.shape[2] - q.shape[2])
    return found


_LIBRARY = torch.library.Library("assay", "FRAGMENT")
_LIBRARY.define("attention(Tensor q, Tensor k, Tensor v, Tensor? bias, bool causal, float scale) -> (Tensor, Tensor)")
_LIBRARY.define(
    "attention_backward(Tensor dout, Tensor q, Tensor k, Tensor v, Tensor? bias, Tensor out, Tensor lse, bool causal, "
    "float scale) -> (Tensor, Tensor, Tensor)"
)
_LIBRARY.impl("attention", _forward, "CPU")
_LIBRARY.impl("attention_backward", _backward, "CPU")
_LIBRARY.impl("attention", lambda q, k, v, bias, causal, scale: (rows_like(q), q.new_empty(q.shape[:3])), "Meta")
_LIBRARY.impl(
    "attention_backward",
    lambda dout, q, k, v, bias, out, lse, causal, scale: (rows_like(q), rows_like(k), rows_like(v)),
    "Meta",
)


def _check(library: ctypes.CDLL) -> None:
    """Set signatures, and compare a small case with torch."""
    address = ctypes.c_void_p
    if library.shape_bytes() != ctypes.sizeof(Shape):
        raise ValueError(f"a shape has {library.shape_bytes()} bytes there and {ctypes.sizeof(Shape)} here")
    library.attention_forward.argtypes = [ctypes.POINTER(Shape), *[address] * 6]
    library.attention_backward.argtypes = [ctypes.POINTER(Shape), *[address] * 11]
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
