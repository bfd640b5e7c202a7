"""`assay.build`: a model from its description."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from assay.generation.model import Model
from assay.nn import build as build_transformer
from assay.spec.model import ModelSpec

if TYPE_CHECKING:
    import torch


def build(
    spec: ModelSpec,
    *,
    seed: int = 0,
    dtype: str | torch.dtype = "float32",
    device: str | torch.device = "cpu",
    tokenizer: Any = None,
) -> Model:
    """A `Model` with fresh weights, in evaluation mode.

    Args:
        spec: what it is.
        seed: of its weights.
        dtype: of its weights.
        device: where they live.
        tokenizer: what turns text into its tokens; None: it takes ids alone.
    """
    return Model(build_transformer(spec, seed=seed, dtype=dtype, device=device), tokenizer).eval()
