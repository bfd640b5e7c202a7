"""Normalization over the features of one token: LayerNorm, RMSNorm and DyT.

Formulas, with statistics over the last axis and biased variance:

    LayerNorm  y = (x - mean(x)) / sqrt(var(x) + eps) * g + b        Ba et al. 2016, section 3
    RMSNorm    y = x / sqrt(mean(x^2) + eps) * g                     Zhang & Sennrich 2019, equation 4
    pRMSNorm   the same, the mean taken over the first features only Zhang & Sennrich 2019, section 4.1
    DyT        y = g * tanh(a x) + b                                 Zhu et al. 2025, equation 1

Max-scaled (CogView: Ding et al. 2021, section 2.4): the norm of x / (max|x| / 8), the maximum a constant.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from assay.nn.kernels.norms import fused_norm
from assay.spec.axes import Cast, NormKind
from assay.spec.parts import NormSpec


class Norm(nn.Module):
    """One normalization of `width` features, as a `NormSpec` says.

    Statistics of low-precision inputs are taken in float32; `spec.cast` says whether the weight multiplies before
    or after the return to the input's type.
    """

    weight: Tensor | None
    bias: Tensor | None

    def __init__(self, spec: NormSpec, width: int, *, eps: float | None = None) -> None:
        """Args: spec: the make; width: features; eps: instead of the make's own."""
        super().__init__()
        self.kind = spec.kind
        self.width = width
        self.eps = spec.eps if eps is None else eps
        self.plus_one = spec.plus_one
        self.cast_first = spec.cast is Cast.before_weight
        self.counted = max(int(width * spec.fraction), 1)
        self.max_scale = spec.max_scale
        if spec.kind is NormKind.dyt:
            self.alpha = nn.Parameter(torch.full((), spec.alpha))
        for name, there in (("weight", spec.has_weight), ("bias", spec.has_bias)):
            value = nn.Parameter(torch.empty(width)) if there else None
            self.register_parameter(name, value)

    def forward(self, x: Float[Tensor, "... width"]) -> Float[Tensor, "... width"]:
        """The input, normalized; same shape and type."""
        if self.kind is NormKind.none:
            return x
        if self.max_scale is not None:
            x = x / (x.detach().abs().amax() / self.max_scale)
        weight = self._gain()
        if self.kind is NormKind.dyt:
            y = torch.tanh(self.alpha * x)
            y = y if weight is None else y * weight
            return (y if self.bias is None else y + self.bias).to(x.dtype)
        return self._normalize(x, weight)

    def of_sum(
        self,
        x: Float[Tensor, "... width"],
        add: Float[Tensor, "... width"],
        alpha: Float[Tensor, ""] | None = None,
        *,
        keep: bool = False,
    ) -> tuple[Float[Tensor, "... width"], Float[Tensor, "... width"]]:
        """(norm(alpha x + add), alpha x + add where `keep`), in one pass through memory where that can be."""
        centre = self.kind is NormKind.layernorm
        whole = centre or (self.kind is NormKind.rmsnorm and self.counted == self.width)
        if whole and self.max_scale is None and x.dtype == add.dtype == torch.float32:
            return fused_norm(x, self._gain(), self.bias, self.eps, centre=centre, add=add, alpha=alpha, keep=keep)
        total = (x if alpha is None else x * alpha) + add
        return self(total), total

    def _gain(self) -> Tensor | None:
        if self.weight is None or not self.plus_one:
            return self.weight
        return (self.weight if self.weight.dtype == torch.float64 else self.weight.float()) + 1.0

    def _normalize(self, x: Tensor, weight: Tensor | None) -> Tensor:
        wide = x if x.dtype in (torch.float32, torch.float64) else x.float()
        late = self.cast_first and wide is not x  # the two orders differ in low precision alone
        held = None if late or weight is None else weight.to(wide.dtype)
        if self.kind is NormKind.layernorm or self.counted == self.width:
            centre = self.kind is NormKind.layernorm
            bias = None if late or self.bias is None else self.bias.to(wide.dtype)
            y, _ = fused_norm(wide, held, bias, self.eps, centre=centre)
        else:
            square = wide[..., : self.counted].square().mean(-1, keepdim=True)
            y = wide * torch.rsqrt(square + self.eps)
            y = y if held is None else y * held
        y = y.to(x.dtype)
        if late and weight is not None:
            y = y * weight.to(x.dtype)
            y = y if self.bias is None else y + self.bias.to(x.dtype)
        return y

    def extra_repr(self) -> str:
        """What distinguishes it, for printing."""
        return f"{self.kind}, {self.width}, eps={self.eps:g}"
