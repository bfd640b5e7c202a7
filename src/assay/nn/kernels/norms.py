"""y = norm(alpha x + f) and its gradients in one pass through memory each, with plain torch always there and equal.

On a CPU a C kernel (`norms.c`) serves contiguous float32; on a GPU Triton's (`triton_norms.py`); all else, second
derivatives and vmap included, is the formula in torch. `benchmarks/norms.py` compares them.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from assay.nn.kernels.native import Library

__all__ = ["NATIVE", "fused_norm", "plain_norm", "why_not"]

STREAM_FROM = 8 << 20
"""Bytes of a tensor from which results are written past the caches: nothing that large is still there when read."""
SHARE = 1 << 15
"""Elements that a thread must have before a second one is worth waking."""

WORTH = {"cpu": {True: 1 << 17, False: 1 << 12}, "cuda": {True: 1 << 26, False: 1 << 26}}
"""Elements from which a kernel of ours beats torch's own, by device and by whether the mean is subtracted. On a CPU
torch has a good LayerNorm for small tensors and no RMSNorm; on a GPU both are good where launching is what costs."""


def plain_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, *, centre: bool, add: Tensor | None,
    alpha: Tensor | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The formula in torch's own operators: (norm of the sum, the sum)."""
    total = x if alpha is None else x * alpha
    total = total if add is None else total + add
    if centre:
        return F.layer_norm(total, total.shape[-1:], weight, bias, eps), total
    y = F.rms_norm(total, total.shape[-1:], weight, eps)
    return (y if bias is None else y + bias), total


def fused_norm(
    x: Float[Tensor, "... width"],
    weight: Float[Tensor, " width"] | None,
    bias: Float[Tensor, " width"] | None,
    eps: float,
    *,
    centre: bool,
    add: Float[Tensor, "... width"] | None = None,
    alpha: Float[Tensor, ""] | None = None,
    keep: bool = False,
) -> tuple[Float[Tensor, "... width"], Float[Tensor, "... width"]]:
    """LayerNorm (`centre`) or RMSNorm of alpha x + add, by the fastest way there is.

    Args:
        x: the residual.
        weight, bias: gain and shift; None: 1 and 0.
        eps: added under the root.
        centre: subtract the mean (LayerNorm).
        add: what a sublayer adds, of the same shape; None: nothing.
        alpha: the residual's scale, a scalar tensor without gradient; None: 1.
        keep: whether the sum is wanted too.

    Returns:
        (the norm, alpha x + add where `keep`, else the norm again).
    """
    if x.numel() < WORTH.get(x.device.type, WORTH["cpu"])[centre] or why_not(x, weight, bias, add, alpha) is not None:
        y, total = plain_norm(x, weight, bias, eps, centre=centre, add=add, alpha=alpha)
        return y, total if keep else y
    if add is None and alpha is not None:
        x, alpha = x * alpha, None
    kept = keep and add is not None
    y, total = _Norm.apply(x, add, alpha, weight, bias, eps, centre, kept)
    return y, total if kept else (x if keep else y)


_KINDS = {"cpu": (torch.float32,), "cuda": (torch.float32, torch.bfloat16, torch.float16)}
"""Types that a kernel of ours takes."""


@lru_cache(maxsize=1)
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def _kernels(x: Tensor) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """(forward, backward) for the device."""
    if x.device.type == "cpu":
        return _forward, _backward
    from assay.nn.kernels import triton_norms

    return triton_norms.forward, triton_norms.backward


def why_not(*tensors: Tensor | None) -> str | None:
    """Why these tensors go through torch's own operators; None where a kernel of ours serves them."""
    x = tensors[0]
    assert x is not None
    kinds = _KINDS.get(x.device.type, ())
    for t in tensors:
        if t is not None and (t.dtype not in kinds or t.device != x.device):
            return f"{t.dtype} on {t.device}"
    if torch.compiler.is_compiling():
        return "inductor fuses it with its neighbours"
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return "under a functorch transform"
    if x.device.type == "cuda":
        return None if _has_triton() else "triton is not installed"
    if NATIVE.load() is None:
        return NATIVE.reason
    return None if NATIVE.threads or torch.get_num_threads() == 1 else "compiled without threads"


class _Norm(torch.autograd.Function):
    """(norm, sum) by the kernels; the second derivative is the formula's."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        x: Tensor,
        add: Tensor | None,
        alpha: Tensor | None,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
        centre: bool,
        keep: bool,
    ) -> tuple[Tensor, Tensor | None]:
        y, total, mean, rstd = _kernels(x)[0](x, add, alpha, weight, bias, eps, centre, keep)
        # A sum that lives on anyway is saved instead of its two parts.
        ctx.save_for_backward(total if keep else x, None if keep else add, alpha, weight, mean, rstd)
        ctx.eps, ctx.centre, ctx.kept = eps, centre, keep
        ctx.set_materialize_grads(False)
        return y, total if keep else None

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, dtotal: Tensor | None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, add, alpha, weight, mean, rstd = ctx.saved_tensors
        need = ctx.needs_input_grad
        wanted = (need[1], need[3], need[4])
        if dy is None:
            d = dtotal
            dx = d if d is None or alpha is None else d * alpha
            return dx, d if need[1] else None, None, None, None, None, None, None
        found: tuple[Tensor, Tensor, Tensor | None, Tensor | None]
        if torch.is_grad_enabled():  # create_graph
            found = _backward_formula(x, add, alpha, weight, dy, dtotal, ctx.eps, ctx.centre, ctx.kept)
        else:
            found = _kernels(x)[1](x, add, alpha, weight, dy, dtotal, mean, rstd, ctx.centre, *wanted)
        dx, df, dg, db = found
        return dx, df if need[1] else None, None, dg if need[3] else None, db if need[4] else None, None, None, None


def _backward_formula(
    x: Tensor,
    add: Tensor | None,
    alpha: Tensor | None,
    weight: Tensor | None,
    dy: Tensor,
    dtotal: Tensor | None,
    eps: float,
    centre: bool,
    kept: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients in torch's operators, from inputs alone, so that autograd can go through them again."""
    total = x
    if not kept:
        total = x if alpha is None else x * alpha
        total = total if add is None else total + add
    mean = total.mean(-1, keepdim=True) if centre else 0.0
    rstd = ((total - mean).square().mean(-1, keepdim=True) + eps).rsqrt()
    unit = (total - mean) * rstd
    slope = dy if weight is None else dy * weight
    d = slope - unit * (slope * unit).mean(-1, keepdim=True)
    d = rstd * (d - slope.mean(-1, keepdim=True) if centre else d)
    d = d if dtotal is None else d + dtotal
    rows = tuple(range(x.dim() - 1))
    dg, db = ((dy * unit).sum(rows), dy.sum(rows)) if rows else (dy * unit, dy)
    return d if alpha is None else d * alpha, d, dg, db


def _address(t: Tensor | None) -> int | None:
    return None if t is None else t.data_ptr()


def _how(x: Tensor, width: int) -> tuple[int, int]:
    """(whether to write past the caches, threads)."""
    n = x.numel()
    aligned = width % 16 == 0 and n * 4 >= STREAM_FROM
    return int(aligned), max(1, min(torch.get_num_threads(), n // SHARE))


def _forward(
    x: Tensor, add: Tensor | None, alpha: Tensor | None, weight: Tensor | None, bias: Tensor | None, eps: float,
    centre: bool, keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """(norm, sum or an empty tensor, means, 1 / deviations)."""
    library = NATIVE.handle
    assert library is not None
    x, add = x.contiguous(), None if add is None else add.contiguous()
    width = x.shape[-1]
    y, stats = torch.empty_like(x), x.new_empty(2, x.numel() // width)
    total = torch.empty_like(x) if keep else x.new_empty(0)
    stream, threads = _how(x, width)
    mean = stats.data_ptr()
    library.norm_forward(
        x.data_ptr(), _address(add), _address(alpha), _address(weight), _address(bias), y.data_ptr(),
        total.data_ptr() if keep else None, mean, mean + stats.shape[1] * 4, stats.shape[1], width, eps, centre,
        stream, threads,
    )  # fmt: skip
    return y, total, stats[0], stats[1]


def _backward(
    x: Tensor, add: Tensor | None, alpha: Tensor | None, weight: Tensor | None, dy: Tensor, dtotal: Tensor | None,
    mean: Tensor, rstd: Tensor, centre: bool, want_add: bool, want_weight: bool, want_bias: bool,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:  # fmt: skip
    """(d x, d add, d weight, d bias)."""
    library = NATIVE.handle
    assert library is not None
    x, add, dy = x.contiguous(), None if add is None else add.contiguous(), dy.contiguous()
    dtotal = None if dtotal is None else dtotal.contiguous()
    width = x.shape[-1]
    dx = torch.empty_like(x)
    df = torch.empty_like(x) if want_add and alpha is not None else dx
    dg, db = (x.new_empty(width) if wanted else None for wanted in (want_weight, want_bias))
    stream, threads = _how(x, width)
    failed = library.norm_backward(
        x.data_ptr(), _address(add), _address(alpha), _address(weight), dy.data_ptr(), _address(dtotal),
        mean.data_ptr(), rstd.data_ptr(), dx.data_ptr(), None if df is dx else df.data_ptr(), _address(dg),
        _address(db), x.numel() // width, width, centre, stream, threads,
    )  # fmt: skip
    if failed:
        raise MemoryError("no memory for the sums of a norm's gradient")
    return dx, df, dg, db


def _check(library: ctypes.CDLL) -> None:
    """Set signatures, and compare one small case of each kind with the formula."""
    address, long, number, flag = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float, ctypes.c_int
    library.norm_forward.argtypes = [*[address] * 9, long, long, number, flag, flag, flag]
    library.norm_forward.restype = None
    library.norm_backward.argtypes = [*[address] * 12, long, long, flag, flag, flag]
    library.norm_backward.restype = flag
    draw = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        x, f, dy, dt = (torch.randn(5, 19, generator=draw) for _ in range(4))
        g, b, alpha = torch.randn(19, generator=draw), torch.randn(19, generator=draw), torch.tensor(1.5)
        before, NATIVE.handle = NATIVE.handle, library
        try:
            for centre in (True, False):
                ours = _forward(x, f, alpha, g, b, 1e-5, centre, True)
                theirs = plain_norm(x, g, b, 1e-5, centre=centre, add=f, alpha=alpha)
                back = _backward(x, f, alpha, g, dy, dt, *ours[2:], centre, True, True, True)
                straight = _backward_formula(x, f, alpha, g, dy, dt, 1e-5, centre, False)
                for one, other in zip((*ours[:2], *back), (*theirs, *straight), strict=True):
                    if one is None or not torch.allclose(one, other, rtol=1e-4, atol=1e-4):
                        raise ValueError("norms.c computes something else than torch")
        finally:
            NATIVE.handle = before


NATIVE = Library("norms.c", _check)
"""The C kernels; compiled when first needed."""
