"""Tiny random checkpoints by transformers itself, and how ours is held to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from assay.generation.model import Model
from assay.published.load import load

TOLERANCE = 1e-4
BASE = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
"""Sizes of LLaMA-like configurations."""


@torch.no_grad()
def randomise(model: nn.Module, seed: int) -> None:
    """Every parameter at random, norms and biases included, so that no wrong mapping can pass."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        gain = parameter.dim() == 1 and name.endswith("weight")
        parameter.copy_(0.2 * noise + (1.0 if gain else 0.0))


def reference(config: str, fields: dict[str, Any], attention: str = "eager", seed: int = 0) -> nn.Module:
    """A transformers model of a configuration class, weights at random."""
    import transformers

    settings = getattr(transformers, config)(**fields)
    settings._attn_implementation = attention
    model = transformers.AutoModelForCausalLM.from_config(settings, attn_implementation=attention)
    randomise(model, seed)
    return model.float().eval()


def saved(model: Any, folder: Path) -> Path:
    """The folder that transformers writes."""
    model.save_pretrained(folder, safe_serialization=True)
    return folder


def ids(rows: int, length: int, vocabulary: int, seed: int = 0) -> Tensor:
    """Tokens at random, special ones left out."""
    return torch.randint(3, vocabulary, (rows, length), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def differences(ours: Model, theirs: Any, length: int = 20) -> dict[str, float]:
    """Largest differences by case: logits and hidden states, without padding and padded on either side."""
    tokens = ids(2, length, ours.spec.vocab_size)
    mine = ours(tokens, output_hidden_states=True)
    other = theirs(tokens, output_hidden_states=True, use_cache=False)
    assert len(mine.hidden_states) == len(other.hidden_states)
    found = {"plain": _gap(mine.logits, other.logits)}
    for layer, (a, b) in enumerate(zip(mine.hidden_states, other.hidden_states, strict=True)):
        found[f"hidden {layer}"] = _gap(a, b)
    pad = 6
    for side in ("left", "right"):
        mask = torch.ones_like(tokens)
        mask[1, :pad] = 0
        mask = mask if side == "left" else mask.flip(1)
        given: dict[str, Any] = {"attention_mask": mask}
        if side == "left" and "position_ids" in theirs.forward.__code__.co_varnames:
            given["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
        mine = ours(tokens, attention_mask=mask)
        other = theirs(tokens, use_cache=False, **given)
        found[side] = _gap(mine.logits[mask.bool()], other.logits[mask.bool()])
    return found


def _gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / max(1.0, float(b.abs().max())))


def hold(ours: Model, theirs: Any, length: int = 20) -> None:
    """Ours must equal theirs in every case."""
    found = differences(ours, theirs, length)
    wrong = {case: gap for case, gap in found.items() if not gap < TOLERANCE}
    assert not wrong, wrong


def loaded(folder: Path, **options: Any) -> Model:
    """`load`, short."""
    return load(folder, **options)
