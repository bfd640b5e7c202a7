"""LoRA (Hu et al. 2022) through `peft`: W + (alpha / rank) B A. A and B alone are tuned, then merged into W."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from assay.errors import UserError
from assay.nn.transformer import Transformer

__all__ = ["add_lora", "merge_lora"]


def add_lora(net: Transformer, rank: int, alpha: float, targets: Sequence[str], *, seed: int = 0) -> None:
    """Put adapters into a model, in place; its own weights are frozen. B begins at 0, so nothing changes yet.

    Args:
        net: the model.
        rank: of the adapters.
        alpha: what is learned is multiplied by alpha / rank.
        targets: modules by the end of their names: q, k, v, o, gate, up, down.
        seed: of A.

    Raises:
        UserError: peft is missing, or no module has such a name.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise UserError(
            f"rank = {rank}: LoRA needs the peft package.",
            'Install it: pip install "assay[peft]". Or tune all weights: rank = 0.',
        ) from None
    names = {name.rpartition(".")[2] for name, module in net.named_modules() if isinstance(module, nn.Linear)}
    unknown = [target for target in targets if target not in names]
    if unknown or not targets:
        raise UserError(
            f"targets: no module is called {unknown[0] if unknown else ''!r}.",
            f"Give some of {', '.join(sorted(names))}.",
        )
    # peft's annotation asks for a whole alpha; its arithmetic takes any.
    scale: dict[str, Any] = {"r": rank, "lora_alpha": alpha}
    config = LoraConfig(**scale, target_modules=list(targets), lora_dropout=0.0, bias="none")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, net)
    for name, parameter in net.named_parameters():
        parameter.requires_grad_("lora_" in name)


def merge_lora(net: Transformer) -> None:
    """Add what the adapters learned to the weights and take them out: the model is as it was made, but tuned."""
    from peft.tuners.lora import LoraLayer

    found: list[tuple[str, Any]] = [(n, m) for n, m in net.named_modules() if isinstance(m, LoraLayer)]
    for name, layer in found:
        layer.merge()
        owner, _, leaf = name.rpartition(".")
        setattr(net.get_submodule(owner), leaf, layer.get_base_layer())
