"""Counted work: operators, copies, allocations and bytes. None of it depends on the speed of the machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from assay.training.memory import _allocations

COPIES = ("aten::copy_", "aten::clone", "aten::_to_copy")
PRODUCTS = (
    "aten::mm",
    "aten::addmm",
    "aten::bmm",
    "aten::baddbmm",
    "mkldnn::_linear_pointwise",
    "aten::mv",
    "aten::addmv",
)


def operators(work: Callable[[], Any]) -> Counter[str]:
    """How often each of torch's operators ran, those inside others too, by torch's profiler."""
    for _ in range(3):  # what is done once (kernels compiled, tables filled, ways tried out) is not counted
        work()
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        work()
    return Counter({event.key: event.count for event in seen.key_averages() if "::" in event.key})


def work_of(work: Callable[[], Any]) -> dict[str, int]:
    """Operators, products, copies, allocations and allocated bytes of some work."""
    counts = operators(work)
    changes = _allocations(work)
    assert changes is not None, "this torch's profiler tells no allocations"
    grown = [change for change in changes if change > 0]
    return {
        "operators": sum(counts.values()),
        "products": sum(counts[name] for name in PRODUCTS),
        "copies": sum(counts[name] for name in COPIES),
        "allocations": len(grown),
        "bytes": sum(grown),
    }


def per_unit(few: Mapping[str, int], many: Mapping[str, int], units: int) -> dict[str, float]:
    """What each of `units` more (layers, tokens) costs: what is done once a step cancels."""
    return {name: (many[name] - few[name]) / units for name in few}


def above(found: Mapping[str, float], stated: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """What there is more of than was stated: name to (found, stated). Empty where the guard holds."""
    return {name: (found[name], most) for name, most in stated.items() if found[name] > most}


def extra_copy(module: torch.nn.Module, inputs: Any, output: Any) -> Any:
    """A forward hook: one copy too many."""
    return output.clone()
