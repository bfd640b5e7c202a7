"""Peak of live tensor bytes in a training step (API.md, rules of measure): not the process's memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

__all__ = ["optimizer_bytes", "peak_bytes", "tensor_bytes"]


def tensor_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the storages behind tensors, each storage once."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def optimizer_bytes(parameters: Iterable[Tensor]) -> int:
    """Bytes of AdamW's two moments."""
    return sum(2 * p.numel() * p.element_size() for p in parameters if p.requires_grad)


def peak_bytes(work: Callable[[], Any], *, held: int, device: str = "cpu") -> int | None:
    """The most tensor bytes alive at any moment of `work`.

    On a CPU torch's profiler reports every allocation and release of tensor memory, those inside compiled code
    too; on an accelerator its allocator counts them. Scratch memory inside a library's kernel is no tensor.

    Args:
        work: what is measured; it runs once.
        held: bytes alive beforehand and throughout, which are added (weights, optimizer state). On an
            accelerator the allocator knows of those that exist already, and `held` are the others.
        device: where the tensors are.

    Returns:
        Bytes, or None where this torch cannot say.
    """
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return held + int(torch.cuda.max_memory_allocated(device))
    changes = _allocations(work)
    if changes is None:
        return None
    live = peak = 0
    for change in changes:
        live += change
        peak = max(peak, live)
    return held + peak


def _allocations(work: Callable[[], Any]) -> list[int] | None:
    """Bytes allocated (+) and released (-) in `work`, in order.

    The older of torch's two profilers starts at once and silently, where the newer takes a second on first use;
    without either, `work` runs unmeasured.
    """
    try:
        from torch.autograd import (
            ProfilerConfig,
            ProfilerState,
            _disable_profiler_legacy,
            _enable_profiler_legacy,
        )

        experimental = torch._C._profiler._ExperimentalConfig()
        config = ProfilerConfig(ProfilerState.CPU, False, True, False, False, False, experimental)
        _enable_profiler_legacy(config)
    except (ImportError, AttributeError, RuntimeError, TypeError):
        work()
        return None
    try:
        work()
    finally:
        threads = _disable_profiler_legacy()
    events: list[Any] = [event for thread in threads for event in thread]
    return [event.cpu_memory_usage() for event in events if event.kind() == "memory_alloc"]
