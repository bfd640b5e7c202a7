"""Compile by block: one graph serves every layer, so the time to compile does not grow with depth.

Where blocks are many and small, calling a compiled graph costs as much as a block's work: then one graph holds a few
blocks, still the same for all such groups.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable

import torch
from torch import Tensor

from assay.nn.kernels import attention, cross_entropy, norms, outer
from assay.nn.loss import chunk_loss
from assay.nn.stack import Group
from assay.nn.transformer import Transformer

DEEP, NARROW, MOST = 64, 256, 10
"""From this depth and up to this width, up to so many blocks share a graph: tracing ten takes as long as ten times
one, and from 250 layers of 64 on the step gains a tenth (`docs/log.md`)."""


def compile_blocks(model: Transformer) -> str | None:
    """Compile the model's blocks, its final norm and its loss for training, in place.

    The last two stand alone, with nothing to be fused with: on a CPU with a C kernel for them they stay as they are,
    which is quicker (`docs/log.md`) and saves compiling.

    Returns:
        None where blocks are compiled (at their first call), else the reason why the model stays eager.
    """
    device = next(model.parameters()).device
    if reason := cannot_compile(str(device)):
        return reason
    for kernel in (attention, outer):  # so that blocks are traced with them
        kernel.NATIVE.load()
    for stack in (model.encoder, model.decoder):
        if stack is None:
            continue
        for block in stack.blocks:
            block.compile(dynamic=False)
        size = group_size(len(stack.blocks), model.spec.width)
        stack.groups = tuple(Group(stack.blocks[i : i + size]) for i in range(0, len(stack.blocks), size))
        for group in stack.groups if size > 1 else ():
            group.compile(dynamic=False)
        if stack.final_norm is not None and not _serves(norms.why_not, device):
            stack.final_norm.compile(dynamic=False)
    if model.head.say.softcap is not None or not _serves(cross_entropy.why_not, device):
        # The number of targets differs from batch to batch.
        model.head.chunk = torch.compile(chunk_loss, dynamic=True)
    return None


def _serves(why_not: Callable[[Tensor], str | None], device: torch.device) -> bool:
    """Whether a C kernel does float32 work on this device."""
    return device.type == "cpu" and why_not(torch.empty(1, 1)) is None


def group_size(depth: int, width: int) -> int:
    """Blocks in one graph: 1 but for deep and narrow stacks, where it is a divisor of the depth up to `MOST`."""
    if depth < DEEP or width > NARROW:
        return 1
    return max(size for size in range(1, MOST + 1) if depth % size == 0)


def cannot_compile(device: str = "cpu") -> str | None:
    """Why torch.compile cannot work here, or None where it can."""
    if device.startswith("cuda"):
        import importlib.util

        return None if importlib.util.find_spec("triton") else "triton is not installed; pip install triton"
    compiler = next((name for name in ("g++", "clang++", "c++") if shutil.which(name)), None)
    return None if compiler else "no C++ compiler found; install g++ (Debian, Ubuntu: apt-get install g++)"
