"""AdamW with the usual decay groups (Loshchilov & Hutter 2019), and clipping."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from assay.nn.kernels.adamw import adamw_step, norm_of, why_not
from assay.spec.training import OptimizerSpec

__all__ = ["AdamW", "adamw", "clipped_step", "decay_groups", "decays", "global_norm", "trained"]


def decays(parameter: Tensor) -> bool:
    """Whether weight decay acts on a parameter: on matrices, not on vectors and scalars.

    So norms, biases, DyT's scalars do not decay. Embeddings and tables of positions are matrices, and decay as in
    GPT-2's and nanoGPT's training: a tied embedding is the output matrix too.
    """
    return parameter.ndim >= 2


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Two groups for an optimizer: parameters that decay, and those that do not; each parameter once."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        ([p for p in trained if decays(p)], weight_decay),
        ([p for p in trained if not decays(p)], 0.0),
    ]
    return [{"params": params, "weight_decay": decay} for params, decay in groups if params]


def adamw(model: nn.Module, spec: OptimizerSpec) -> AdamW:
    """AdamW over a model's parameters, by the fastest way there is: one call of C, or torch's fused kernel."""
    groups = decay_groups(model, spec.weight_decay)
    types = {p.dtype for p in model.parameters()}
    return AdamW(
        groups,
        lr=spec.learning_rate,
        betas=(spec.beta1, spec.beta2),
        eps=spec.eps,
        fused=all(t.is_floating_point for t in types),
    )


class AdamW(torch.optim.AdamW):
    """torch's AdamW, its state and groups, with one C call over all tensors of a group where that can serve.

    A call a tensor takes a tenth of the step of a model of thousands of small tensors (`docs/log.md`).
    """

    factor = 1.0
    """What gradients are multiplied by as the next step reads them: clipping without a pass of its own."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """As torch's."""
        work = [self._native(group) for group in self.param_groups] if closure is None else [None]
        if any(lists is None for lists in work):
            if self.factor != 1.0:
                torch._foreach_mul_([p.grad for p in trained(self) if p.grad is not None], self.factor)
            return super().step(closure)
        for group, lists in zip(self.param_groups, work, strict=True):
            if lists is not None and lists[0]:
                adamw_step(
                    *lists, learning_rate=float(group["lr"]), betas=group["betas"], eps=group["eps"],
                    decay=group["weight_decay"], factor=self.factor,
                )  # fmt: skip
        return None

    def _native(self, group: dict[str, Any]) -> tuple[list[Tensor], ...] | None:
        """Weights, gradients, moments, steps of those that have gradients; None where torch must do the group.

        Torch does a parameter's first step too, and so makes its state.
        """
        if group["amsgrad"] or group["maximize"] or group["differentiable"] or group["capturable"]:
            return None
        parameters = [p for p in group["params"] if p.grad is not None]
        states = [self.state[p] for p in parameters]
        if not all(states):
            return None
        gradients = [p.grad for p in parameters]
        rest = ([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq", "step"))
        lists = (parameters, gradients, *rest)
        return None if why_not(*lists) else lists


def trained(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Every parameter of every group."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def global_norm(gradients: Sequence[Tensor]) -> float:
    """The Euclidean norm of all of them together."""
    native = bool(gradients) and why_not(gradients) is None
    return norm_of(gradients) if native else float(nn.utils.get_total_norm(gradients, foreach=True))


def clipped_step(
    optimizer: torch.optim.Optimizer,
    most: float,
    allowed: Callable[[float], bool] = math.isfinite,
    *,
    norm_by: Callable[[Sequence[Tensor]], float] = global_norm,
) -> float:
    """An optimizer's step with all gradients scaled together so that their global norm is at most `most` (0: as is).

    Args:
        optimizer: whose parameters have gradients.
        most: the largest norm.
        allowed: whether a step with a norm may be applied.
        norm_by: from the gradients here to the norm of all, where other ranks hold the rest.

    Returns:
        The norm before. Where it is not finite, or not `allowed`, nothing is applied.
    """
    gradients = [p.grad for p in trained(optimizer) if p.grad is not None]
    norm = norm_by(gradients)
    if not (math.isfinite(norm) and allowed(norm)):
        return norm
    factor = min(most / (norm + 1e-6), 1.0) if most > 0 else 1.0
    if isinstance(optimizer, AdamW):
        optimizer.factor = factor
        try:
            optimizer.step()
        finally:
            optimizer.factor = 1.0
    else:
        if factor != 1.0:
            torch._foreach_mul_(gradients, factor)
        optimizer.step()
    return norm
