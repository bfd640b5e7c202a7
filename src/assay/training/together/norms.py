"""LayerNorm and RMSNorm with each member's own gain and shift: the kernel of one, called for each in one node."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from assay.nn.kernels.norms import NATIVE, fused_norm, plain_norm, why_not

__all__ = ["fused_norms", "spread"]


def spread(y: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Each member's share of y [members x batch, ..., width] times its gain plus its shift, [members, width] both."""
    if weight is None and bias is None:
        return y
    held = weight if weight is not None else bias
    assert held is not None
    rows = y.reshape(len(held), -1, y.shape[-1])
    if weight is None:
        rows = rows + held[:, None]
    elif bias is None:
        rows = rows * weight[:, None]
    else:
        rows = torch.addcmul(bias[:, None], rows, weight[:, None])
    return rows.view(y.shape)


def fused_norms(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    *,
    centre: bool,
    add: Tensor | None = None,
    alpha: Tensor | None = None,
    keep: bool = False,
) -> tuple[Tensor, Tensor]:
    """`kernels.norms.fused_norm` of members' rows, [members x batch, ..., width].

    Args:
        x, eps, centre, add, alpha, keep: as there.
        weight, bias: [members, width]; None: 1 and 0.
    """
    if weight is None and bias is None:
        return fused_norm(x, None, None, eps, centre=centre, add=add, alpha=alpha, keep=keep)
    if not x.is_cpu or why_not(x, weight, bias, add, alpha) is not None:
        unit, total = plain_norm(x, None, None, eps, centre=centre, add=add, alpha=alpha)
        y = spread(unit, weight, bias)
        return y, total if keep else y
    if add is None and alpha is not None:
        x, alpha = x * alpha, None
    kept = keep and add is not None
    y, total = _Norms.apply(x, add, alpha, weight, bias, eps, centre, kept)
    return y, total if kept else (x if keep else y)


class _Norms(torch.autograd.Function):
    """(norm, sum), as `kernels.norms._Norm` of every member: on one thread, bit for bit that."""

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
        x, add = x.contiguous(), None if add is None else add.contiguous()
        members = len(weight if weight is not None else bias)  # type: ignore[arg-type]
        y, stats = torch.empty_like(x), x.new_empty(2, x.numel() // x.shape[-1])
        total = torch.empty_like(x) if keep else None
        rows, width = stats.shape[1] // members, x.shape[-1]
        call, scale = NATIVE.handle.norm_forward, _at(alpha)  # type: ignore[union-attr]
        parts = zip(
            _places(x, members), _places(add, members), _places(weight, members), _places(bias, members),
            _places(y, members), _places(total, members), _places(stats[0], members), _places(stats[1], members),
            strict=True,
        )  # fmt: skip
        for px, pf, pg, pb, py, pt, pm, pr in parts:
            call(px, pf, scale, pg, pb, py, pt, pm, pr, rows, width, eps, centre, False, 1)
        ctx.save_for_backward(total if keep else x, None if keep else add, alpha, weight, bias, stats)
        ctx.members, ctx.centre, ctx.kept = members, centre, keep
        ctx.set_materialize_grads(False)
        return y, total

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, dtotal: Tensor | None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        if torch.is_grad_enabled():
            raise RuntimeError("Members trained together have no second derivatives here; take them one by one.")
        x, add, alpha, weight, bias, stats = ctx.saved_tensors
        if dy is None:
            dx = dtotal if dtotal is None or alpha is None else dtotal * alpha
            return dx, dtotal if ctx.needs_input_grad[1] else None, *[None] * 6
        dy, dtotal = dy.contiguous(), None if dtotal is None else dtotal.contiguous()
        members, wants = ctx.members, ctx.needs_input_grad
        dx, apart = torch.empty_like(x), wants[1] and alpha is not None
        df = torch.empty_like(x) if apart else None
        dg, db = (torch.empty_like(t) if t is not None and wanted else None
                  for t, wanted in ((weight, wants[3]), (bias, wants[4])))  # fmt: skip
        rows, width = stats.shape[1] // members, x.shape[-1]
        call, scale = NATIVE.handle.norm_backward, _at(alpha)  # type: ignore[union-attr]
        given = (x, add, weight, dy, dtotal, stats[0], stats[1], dx, df, dg, db)
        for px, pf, pg, pd, pt, pm, pr, ox, of, og, ob in zip(*(_places(t, members) for t in given), strict=True):
            if call(px, pf, scale, pg, pd, pt, pm, pr, ox, of, og, ob, rows, width, ctx.centre, False, 1):
                raise MemoryError("no memory for the sums of a norm's gradient")
        return dx, (df if apart else dx) if wants[1] else None, None, dg, db, None, None, None


def _at(t: Tensor | None) -> int | None:
    return None if t is None else t.data_ptr()


def _places(t: Tensor | None, members: int) -> list[int] | list[None]:
    """Where each member's share of a contiguous tensor begins."""
    if t is None:
        return [None] * members
    first, step = t.data_ptr(), t.numel() // members * t.element_size()
    return [first + step * member for member in range(members)]
