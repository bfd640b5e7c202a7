"""How it computes: norms, masks on tensors, positions, attention, feed-forward, block, transformer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from assay.nn.init import initialize
from assay.nn.transformer import Transformer
from assay.spec.model import ModelSpec
from assay.spec.parameters import layout

__all__ = ["Transformer", "assemble", "build"]


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
    _set_constants(model, device)
    parameters = dict(model.named_parameters())
    for info in layout(spec):
        initialize(parameters[info.name], info, spec, seed)
    return model


def assemble(spec: ModelSpec, weights: Mapping[str, Tensor]) -> Transformer:
    """A `Transformer` around tensors that exist: they become its parameters as they are, without a copy.

    Args:
        spec: the model.
        weights: every parameter by name, of the shapes that `spec.parameters.layout` says, on one device.
    """
    with torch.device("meta"), _NoDrawing():
        model = Transformer(spec)
    for info in layout(spec):
        tensor = weights[info.name]
        assert tuple(tensor.shape) == info.shape, f"{info.name}: {tuple(tensor.shape)}, not {info.shape}"
        owner, _, leaf = info.name.rpartition(".")
        setattr(model.get_submodule(owner), leaf, nn.Parameter(tensor))
    _set_constants(model, next(iter(weights.values())).device)
    return model


class _NoDrawing(TorchFunctionMode):
    """Modules made inside draw no first values, since others take their place at once."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return kwargs.get("tensor", args[0] if args else None)
        return func(*args, **kwargs)


def _set_constants(model: nn.Module, device: str | torch.device) -> None:
    for module in model.modules():
        # Constants stay float32 whatever the weights' type: a residual scale rounded to bfloat16 is off by 0.4%.
        for name, value in getattr(module, "constants", {}).items():
            setattr(module, name, torch.tensor(value, dtype=torch.float32, device=device))
