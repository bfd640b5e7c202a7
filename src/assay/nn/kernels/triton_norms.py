"""LayerNorm and RMSNorm of alpha x + f as Triton kernels: one program a row forward, a band of rows backward.

The formula and what is saved are those of `norms.c`. Statistics and sums are float32 whatever the inputs' type. The
sums for gain and shift are kept by each program for its band of rows and added up afterwards, so they do not depend on
the order in which programs run.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["backward", "forward"]


@triton.jit
def _forward_kernel(  # type: ignore[no-untyped-def]
    x, add, alpha, gain, shift, y, total, mean, rstd, n, eps,
    CENTRE: tl.constexpr, ADD: tl.constexpr, ALPHA: tl.constexpr, GAIN: tl.constexpr, SHIFT: tl.constexpr,
    KEEP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < n
    t = tl.load(x + row * n + at, mask=inside, other=0.0).to(tl.float32)
    if ALPHA:
        t = t * tl.load(alpha).to(tl.float32)
    if ADD:
        t += tl.load(add + row * n + at, mask=inside, other=0.0).to(tl.float32)
    if KEEP:
        tl.store(total + row * n + at, t, mask=inside)
    middle = 0.0
    if CENTRE:
        middle = tl.sum(t, 0) / n
        tl.store(mean + row, middle)
    d = tl.where(inside, t - middle, 0.0)
    scale = 1.0 / tl.sqrt(tl.sum(d * d, 0) / n + eps)
    tl.store(rstd + row, scale)
    u = d * scale
    if GAIN:
        u *= tl.load(gain + at, mask=inside, other=0.0).to(tl.float32)
    if SHIFT:
        u += tl.load(shift + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(y + row * n + at, u, mask=inside)


@triton.jit
def _backward_kernel(  # type: ignore[no-untyped-def]
    x, add, alpha, gain, dy, dtotal, mean, rstd, dx, dadd, dgain, dshift, rows, n, band,
    CENTRE: tl.constexpr, ADD: tl.constexpr, ALPHA: tl.constexpr, GAIN: tl.constexpr, TOTAL: tl.constexpr,
    DADD: tl.constexpr, DGAIN: tl.constexpr, DSHIFT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < n
    sum_gain = tl.zeros((BLOCK,), tl.float32)
    sum_shift = tl.zeros((BLOCK,), tl.float32)
    factor = 1.0
    if ALPHA:
        factor = tl.load(alpha).to(tl.float32)
    for row in range(program * band, tl.minimum(program * band + band, rows)):
        t = tl.load(x + row * n + at, mask=inside, other=0.0).to(tl.float32)
        if ADD:
            t = t * factor + tl.load(add + row * n + at, mask=inside, other=0.0).to(tl.float32)
        scale = tl.load(rstd + row)
        if CENTRE:
            t -= tl.load(mean + row)
        u = tl.where(inside, t * scale, 0.0)
        slope = tl.load(dy + row * n + at, mask=inside, other=0.0).to(tl.float32)
        sum_gain += slope * u
        sum_shift += slope
        if GAIN:
            slope *= tl.load(gain + at, mask=inside, other=0.0).to(tl.float32)
        d = slope - u * (tl.sum(slope * u, 0) / n)
        if CENTRE:
            d -= tl.sum(slope, 0) / n
        d *= scale
        if TOTAL:
            d += tl.load(dtotal + row * n + at, mask=inside, other=0.0).to(tl.float32)
        if DADD:
            tl.store(dadd + row * n + at, d, mask=inside)
        tl.store(dx + row * n + at, d * factor, mask=inside)
    if DGAIN:
        tl.store(dgain + program * n + at, sum_gain, mask=inside)
    if DSHIFT:
        tl.store(dshift + program * n + at, sum_shift, mask=inside)


def forward(
    x: Tensor, add: Tensor | None, alpha: Tensor | None, weight: Tensor | None, bias: Tensor | None, eps: float,
    centre: bool, keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """(norm, sum or an empty tensor, means, 1 / deviations); shapes and meaning as in `kernels/norms.py`."""
    x, add = x.contiguous(), None if add is None else add.contiguous()
    n = x.shape[-1]
    rows = x.numel() // n
    y, total = torch.empty_like(x), torch.empty_like(x) if keep else x.new_empty(0)
    stats = torch.zeros(2, rows, dtype=torch.float32, device=x.device)
    block = triton.next_power_of_2(n)
    _forward_kernel[(rows,)](
        x, _or(add, x), _or(alpha, x), _or(weight, x), _or(bias, x), y, total, stats[0], stats[1], n, eps,
        CENTRE=centre, ADD=add is not None, ALPHA=alpha is not None, GAIN=weight is not None, SHIFT=bias is not None,
        KEEP=keep, BLOCK=block, num_warps=_warps(block),
    )  # fmt: skip
    return y, total, stats[0], stats[1]


def backward(
    x: Tensor, add: Tensor | None, alpha: Tensor | None, weight: Tensor | None, dy: Tensor, dtotal: Tensor | None,
    mean: Tensor, rstd: Tensor, centre: bool, want_add: bool, want_weight: bool, want_bias: bool,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:  # fmt: skip
    """(d x, d add, d weight, d bias)."""
    x, add, dy = x.contiguous(), None if add is None else add.contiguous(), dy.contiguous()
    dtotal = None if dtotal is None else dtotal.contiguous()
    n = x.shape[-1]
    rows = x.numel() // n
    dx = torch.empty_like(x)
    dadd = torch.empty_like(x) if want_add and alpha is not None else dx
    band = triton.cdiv(rows, min(_programs(x.device), rows))
    programs = triton.cdiv(rows, band)
    dgain, dshift = (
        torch.empty(programs, n, dtype=torch.float32, device=x.device) if wanted else None
        for wanted in (want_weight, want_bias)
    )
    block = triton.next_power_of_2(n)
    _backward_kernel[(programs,)](
        x, _or(add, x), _or(alpha, x), _or(weight, x), dy, _or(dtotal, x), mean, rstd, dx, dadd, _or(dgain, x),
        _or(dshift, x), rows, n, band, CENTRE=centre, ADD=add is not None, ALPHA=alpha is not None,
        GAIN=weight is not None, TOTAL=dtotal is not None, DADD=dadd is not dx, DGAIN=dgain is not None,
        DSHIFT=dshift is not None, BLOCK=block, num_warps=_warps(block),
    )  # fmt: skip
    kind = x.dtype if weight is None else weight.dtype
    dg, db = (None if part is None else part.sum(0).to(kind) for part in (dgain, dshift))
    return dx, dadd, dg, db


def _or(t: Tensor | None, other: Tensor) -> Tensor:
    """A pointer is needed even where nothing is read from it."""
    return other if t is None else t


def _warps(block: int) -> int:
    return min(max(block // 256, 1), 16)


def _programs(device: torch.device) -> int:
    """Bands of rows: a few for every multiprocessor; with Triton's interpreter on a CPU, three."""
    if device.type != "cuda":
        return 3
    return 4 * torch.cuda.get_device_properties(device).multi_processor_count
