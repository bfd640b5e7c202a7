"""Small models with weights that hide nothing: every gain, shift and bias is random."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from assay.nn import Transformer, build
from assay.spec.model import ModelSpec

SMALL: dict[str, Any] = {
    "vocab_size": 37,
    "width": 32,
    "layers": 2,
    "context": 64,
    "attention": {"heads": 4},
    "feedforward": {"width": 48},
}


def small(**fields: Any) -> ModelSpec:
    """A small model's description; parts given as dicts are merged into the small ones."""
    merged = dict(SMALL)
    for name, value in fields.items():
        old = merged.get(name)
        merged[name] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
    return ModelSpec.from_dict(merged)


def scramble(module: nn.Module, seed: int = 0) -> nn.Module:
    """Every parameter random: matrices by fan-in, vectors of either sign around where they begin."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in module.named_parameters():
            draw = torch.randn(p.shape, generator=generator, dtype=torch.float64)
            if p.dim() == 2:
                p.copy_(draw / (1.0 if "embedding" in name or "relative" in name else p.shape[1] ** 0.5))
            else:
                p.copy_(draw * 0.3 + (1.0 if name.endswith("weight") else 0.5 if name.endswith("alpha") else 0.0))
    return module


def made(spec: ModelSpec, *, seed: int = 0, dtype: str = "float32") -> Transformer:
    """The built model with scrambled weights, in evaluation mode."""
    model = build(spec, dtype=dtype)
    scramble(model, seed)
    return model.eval()


def filled(module: nn.Module, seed: int = 0) -> nn.Module:
    """A bare module in float64, scrambled, its constants kept."""
    return scramble(module.double(), seed)


def tokens(*shape: int, vocab: int = 37, seed: int = 0) -> Tensor:
    """Random token ids."""
    return torch.randint(0, vocab, shape, generator=torch.Generator().manual_seed(seed))


def close(a: Tensor, b: Tensor, tolerance: float = 1e-9) -> None:
    """Equal up to `tolerance`, absolute and relative; NaN equals nothing."""
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance, check_dtype=False)
