"""Gradients scaled layer by layer: an experiment on what their growth from layer to layer does (claim C15)."""

from __future__ import annotations

import torch
from torch import nn

from assay.nn.transformer import Transformer

__all__ = ["equalise_layers", "layer_norms"]


def equalise_layers(model: Transformer) -> None:
    """Scale the gradients of every layer, in place, so that all layers have the same norm.

    That norm is the root mean square of the layers' own, so the gradient as a whole keeps its length: nothing but the
    distribution over layers changes. Parameters outside of layers (embedding, last norm, head) keep theirs; a layer
    whose gradient is 0 or not finite does too.

    Args:
        model: any family; both stacks of an encoder-decoder count as one row of layers.
    """
    layers = _layers(model)
    norms = layer_norms(model)
    common = norms.square().mean().sqrt()
    for gradients, norm in zip(layers, norms, strict=True):
        if norm > 0 and torch.isfinite(norm):
            torch._foreach_mul_(gradients, float(common / norm))


def layer_norms(model: Transformer) -> torch.Tensor:
    """[layers] norm of each layer's gradient, the encoder's layers first."""
    return torch.stack([nn.utils.get_total_norm(gradients, foreach=True) for gradients in _layers(model)])


def _layers(model: Transformer) -> list[list[torch.Tensor]]:
    stacks = [stack for stack in (model.encoder, model.decoder) if stack is not None]
    return [[p.grad for p in b.parameters() if p.grad is not None] for stack in stacks for b in stack.blocks]
