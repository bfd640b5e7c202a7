"""Compile by block: one graph serves every layer, so the time to compile does not grow with depth."""

from __future__ import annotations

import shutil

import torch

from assay.nn.loss import chunk_loss
from assay.nn.transformer import Transformer


def compile_blocks(model: Transformer) -> str | None:
    """Compile the model's blocks, its final norm and its loss for training, in place.

    Returns:
        None where blocks are compiled (at their first call), else the reason why the model stays eager.
    """
    reason = cannot_compile(str(next(model.parameters()).device))
    if reason is not None:
        return reason
    for stack in (model.encoder, model.decoder):
        for block in () if stack is None else stack.blocks:
            block.compile(dynamic=False)
        if stack is not None and stack.final_norm is not None:
            stack.final_norm.compile(dynamic=False)
    # The number of targets differs from batch to batch.
    model.head.chunk = torch.compile(chunk_loss, dynamic=True)
    return None


def cannot_compile(device: str = "cpu") -> str | None:
    """Why torch.compile cannot work here, or None where it can."""
    if device.startswith("cuda"):
        import importlib.util

        return None if importlib.util.find_spec("triton") else "triton is not installed; pip install triton"
    compiler = next((name for name in ("g++", "clang++", "c++") if shutil.which(name)), None)
    return None if compiler else "no C++ compiler found; install g++ (Debian, Ubuntu: apt-get install g++)"
