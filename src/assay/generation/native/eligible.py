"""Which generations the native step can run; every other one runs the modules themselves."""

from __future__ import annotations

import torch
from torch import nn

from assay.generation.cache import Cache
from assay.generation.native.library import MOST_ROWS, STEP
from assay.generation.native.spans import holes
from assay.generation.plan import Plan, last_row
from assay.nn.attention import Attention
from assay.nn.block import Block
from assay.nn.feedforward import FeedForward
from assay.nn.norms import Norm
from assay.nn.stack import Stack
from assay.nn.transformer import Head, Transformer
from assay.spec.masks import Bidirectional, Causal, Padding

KNOWN = (nn.Linear, nn.Embedding, nn.ModuleList, Attention, Block, FeedForward, Norm, Stack, Head)
WORTH = 8
"""Tokens from which setting it up pays."""


def why_not(net: Transformer, plan: Plan, cache: Cache | None, new: int) -> str | None:
    """Why the native step cannot, or need not, run this generation; None where it can."""
    if cache is None:
        return "without a cache the whole text is computed at every step"
    if len(plan.ids) > MOST_ROWS:
        return f"more than {MOST_ROWS} rows: the library's own products are as good"
    if new < WORTH:
        return f"fewer than {WORTH} tokens"
    if last_row(plan.mask.rule) not in (Causal(), Causal() & Padding()) or holes(plan.mask):
        return "the newest token does not see all keys"
    memory = plan.memory_mask
    if memory is not None and (memory.rule not in (Bidirectional(), Bidirectional() & Padding()) or holes(memory)):
        return "the encoder's input has padding within it"
    found = unknown(net)
    return found or (STEP.reason if STEP.load() is None else None)


def unknown(net: Transformer) -> str | None:
    """A part that the native step does not know: of another class, with a hook, or of another type; None: none."""
    assert net.decoder is not None
    for module in (net.embedding, net.head, *net.decoder.modules()):
        # A subclass from elsewhere (an adapter, a quantised layer) may compute something else.
        ours = type(module).__module__.startswith("assay.nn.") and isinstance(module, KNOWN)
        if not ours and type(module) not in KNOWN:
            return f"{type(module).__name__} is not known to it"
        if module._forward_hooks or module._forward_pre_hooks:
            return f"{type(module).__name__} has a hook"
    for p in (net.embedding.weight, *net.head.parameters(), *net.decoder.parameters()):
        if p.dtype != torch.float32 or p.device.type != "cpu" or not p.is_contiguous():
            return f"weights are {p.dtype} on {p.device}"
    return None
