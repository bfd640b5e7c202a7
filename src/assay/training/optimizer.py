"""AdamW with the usual decay groups (Loshchilov & Hutter 2019)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from assay.spec.training import OptimizerSpec

__all__ = ["adamw", "clip", "decay_groups", "decays"]


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


def adamw(model: nn.Module, spec: OptimizerSpec) -> torch.optim.AdamW:
    """AdamW over a model's parameters, torch's fused kernel (it exists on CPUs too) where the types allow it."""
    groups = decay_groups(model, spec.weight_decay)
    types = {p.dtype for p in model.parameters()}
    return torch.optim.AdamW(
        groups,
        lr=spec.learning_rate,
        betas=(spec.beta1, spec.beta2),
        eps=spec.eps,
        fused=all(t.is_floating_point for t in types),
    )


def clip(parameters: Iterable[Tensor], most: float) -> Tensor:
    """Scale all gradients together so that their global norm is at most `most` (0: leave them).

    Returns:
        The norm before, a scalar tensor; not finite where a gradient is not.
    """
    parameters = [p for p in parameters if p.grad is not None]
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None], foreach=True)
    if most > 0:
        nn.utils.clip_grads_with_norm_(parameters, most, norm, foreach=True)
    return norm
