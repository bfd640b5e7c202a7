"""How it computes: norms, masks on tensors, positions, attention, feed-forward, block, transformer."""

from __future__ import annotations

import torch

from assay.nn.init import initialize
from assay.nn.transformer import Transformer
from assay.spec.model import ModelSpec
from assay.spec.parameters import layout

__all__ = ["Transformer", "build"]


def build(
    spec: ModelSpec,
    *,
    seed: int = 0,
    dtype: str | torch.dtype = "float32",
    device: str | torch.device = "cpu",
) -> Transformer:
    """A `Transformer` with weights drawn as `spec.init` says.

    Args:
        spec: the model.
        seed: of the weights; equal seeds give equal weights on any device and in any type (up to rounding).
        dtype: of the weights.
        device: where they live; "meta" makes shapes without memory.
    """
    kind = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    with torch.device("meta"):
        model = Transformer(spec)
    model = model.to(kind)
    if torch.device(device).type == "meta":
        return model
    model = model.to_empty(device=device)
    for module in model.modules():
        # Constants stay float32 whatever the weights' type: a residual scale rounded to bfloat16 is off by 0.4%.
        for name, value in getattr(module, "constants", {}).items():
            setattr(module, name, torch.tensor(value, dtype=torch.float32, device=device))
    parameters = dict(model.named_parameters())
    for info in layout(spec):
        initialize(parameters[info.name], info, spec, seed)
    return model
