"""Which of several functions is quicker: called in turns, compared round by round.

What else the machine does falls on all contenders alike, so the ratio within a round says more than two averages do. On
a CPU with one thread the clock is the process's own time, which other work does not stretch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from assay.nn.compiling import cannot_compile
from assay.nn.kernels.norms import fused_norm
from assay.stats import Interval, mean_interval

__all__ = ["BACKENDS", "PASSES", "interleaved", "norm_calls", "ratio"]

BACKENDS = ("eager", "compiled", "fused")
"""torch's own functions, the same compiled, and the fused kernels of assay."""
PASSES = ("forward", "both")
"""Forward without gradients; forward and backward."""

Norm = Callable[[Tensor, Tensor, Tensor], Tensor]


def interleaved(
    calls: Mapping[str, Callable[[], Any]], *, rounds: int, warm: int = 3, device: str = "cpu"
) -> dict[str, list[float]]:
    """Seconds of every call in every round; the order moves on by one from round to round.

    Args:
        calls: contender's name to what is timed.
        rounds: that are kept.
        warm: rounds before them that are thrown away.
        device: "cpu": process time on one thread (the number of threads comes back); else the wall clock, synchronised.
    """
    names = list(calls)
    times: dict[str, list[float]] = {name: [] for name in names}
    cpu = device == "cpu"
    clock = time.process_time if cpu else time.perf_counter
    with _one_thread(cpu):
        for turn in range(warm + rounds):
            shift = turn % len(names)
            for name in names[shift:] + names[:shift]:
                _wait(device)
                start = clock()
                calls[name]()
                _wait(device)
                if turn >= warm:
                    times[name].append(clock() - start)
    return times


def ratio(over: Sequence[float], under: Sequence[float], *, blocks: int = 5) -> Interval:
    """How many times longer `over` takes than `under`: rounds in blocks, each one's median ratio, their geometric mean.

    Blocks are the repeats: neighbouring rounds are not independent of each other. Student t in the logarithm, 95%.

    Args:
        over: seconds by round.
        under: seconds of the same rounds.
        blocks: into how many runs of neighbouring rounds they are cut.
    """
    logs = np.log(np.asarray(over)) - np.log(np.asarray(under))
    found = mean_interval([float(np.median(block)) for block in np.array_split(logs, blocks)])
    low, middle, high = (math.exp(v) for v in (found.low, found.estimate, found.high))
    return Interval(middle, low, high, found.confidence, found.n, f"medians of {blocks} blocks of rounds, Student t")


def norm_calls(
    backend: str, passes: str, *, rows: int, width: int, device: str = "cpu"
) -> dict[str, Callable[[], Any]] | str:
    """LayerNorm and RMSNorm of one back end, ready to be timed on the same float32 input [rows, width].

    LayerNorm has gain and shift, RMSNorm its gain, as both are used.

    Returns:
        {"layernorm": call, "rmsnorm": call}, or why this back end is not here.
    """
    if backend == "compiled":
        reason = cannot_compile(device)
        if reason is not None:
            return reason
    draw = torch.Generator(device).manual_seed(0)
    x, dy = (torch.randn(rows, width, generator=draw, device=device) for _ in range(2))
    gain, shift = torch.ones(width, device=device), torch.zeros(width, device=device)
    learned = passes == "both"
    for tensor in (x, gain, shift):
        tensor.requires_grad_(learned)
    return {
        name: _call(norm, (x, gain, shift), dy if learned else None) for name, norm in _norms(backend, width).items()
    }


def _norms(backend: str, width: int) -> dict[str, Norm]:
    if backend == "fused":
        return {
            "layernorm": lambda x, g, b: fused_norm(x, g, b, 1e-5, centre=True)[0],
            "rmsnorm": lambda x, g, b: fused_norm(x, g, None, 1e-5, centre=False)[0],
        }
    plain: dict[str, Norm] = {
        "layernorm": lambda x, g, b: F.layer_norm(x, (width,), g, b, 1e-5),
        "rmsnorm": lambda x, g, b: F.rms_norm(x, (width,), g, 1e-5),
    }
    if backend == "eager":
        return plain
    assert backend == "compiled", backend
    return {name: torch.compile(norm, dynamic=False) for name, norm in plain.items()}


def _call(norm: Norm, inputs: tuple[Tensor, ...], dy: Tensor | None) -> Callable[[], Any]:
    def forward() -> Tensor:
        with torch.no_grad():
            return norm(*inputs)

    def both() -> None:
        for tensor in inputs:
            tensor.grad = None
        norm(*inputs).backward(dy)

    return forward if dy is None else both


@contextmanager
def _one_thread(wanted: bool) -> Any:
    before = torch.get_num_threads()
    if wanted:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()
