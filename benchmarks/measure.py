"""Interleaved timing of several contenders in one process, and the machine's own matrix-multiply limit.

Every round calls each contender once, so drift and noise of the machine hit all of them alike; what is
reported are medians of the ratios within a round, with their quartiles.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from assay.runs import processor
from benchmarks import peers

clock = time.perf_counter
Product = tuple[int, int, int, int]
Name = TypeVar("Name")


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles."""
    if len(values) < 2:
        return {"median": values[0], "low": values[0], "high": values[0]}
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": middle, "low": low, "high": high}


def interleave(
    contenders: dict[Name, Callable[[], Any]], seconds: float = 20.0, warmup: int = 3, least: int = 5
) -> dict[Name, list[float]]:
    """Seconds per call, round robin, for about `seconds` in all and at least `least` rounds."""
    for call in contenders.values():
        for _ in range(warmup):
            call()
    times: dict[Name, list[float]] = {name: [] for name in contenders}
    end = clock() + seconds
    rounds = 0
    names = list(contenders)
    while rounds < least or clock() < end:
        # Rotate who goes first: the one after a heavy neighbour finds its caches colder.
        for name in names[rounds % len(names) :] + names[: rounds % len(names)]:
            start = clock()
            contenders[name]()
            times[name].append(clock() - start)
        rounds += 1
    return times


def beside_products(
    contenders: dict[str, Callable[[], Any]], seconds: float = 20.0, warmup: int = 3, least: int = 5, n: int = 2048
) -> tuple[dict[str, list[float]], list[float]]:
    """`interleave`, and every round's limit: the FLOP/s of the best of three large square products, in their turn.

    A machine's rate moves by a tenth within minutes; measured before and after, it made one and the same step 0.92 and
    0.99 of the limit within an hour.
    """
    a, b, c = torch.randn(n, n), torch.randn(n, n), torch.empty(n, n)
    rates: list[float] = []

    def products() -> None:
        taken = []
        for _ in range(3):
            start = clock()
            torch.mm(a, b, out=c)
            taken.append(clock() - start)
        rates.append(2 * n**3 / min(taken))

    times = interleave({**contenders, "": products}, seconds, warmup, least)
    del times[""]
    return times, rates[warmup:]


def best_time(call: Callable[[], Any], seconds: float = 0.25, least: int = 5) -> float:
    """The best of many calls, in seconds."""
    call()
    call()
    best = float("inf")
    end = clock() + seconds
    calls = 0
    while calls < least or clock() < end:
        start = clock()
        call()
        best = min(best, clock() - start)
        calls += 1
    return best


def matmul_limit(products: Sequence[Product], seconds: float = 0.25) -> float:
    """Seconds that the products of one step take alone in torch, each at its own shape, best of many calls.

    Of each (rows, inputs, outputs, count): forward x w^T, the input's gradient dy w, the weight's gradient
    dy^T x, written into tensors that exist already.
    """
    total = 0.0
    for rows, inputs, outputs, count in products:
        x, w, dy = torch.randn(rows, inputs), torch.randn(outputs, inputs), torch.randn(rows, outputs)
        y, dx, dw = torch.empty_like(dy), torch.empty_like(x), torch.empty_like(w)
        total += count * best_time(lambda: torch.mm(x, w.t(), out=y), seconds)  # noqa: B023
        total += count * best_time(lambda: torch.mm(dy, w, out=dx), seconds)  # noqa: B023
        total += count * best_time(lambda: torch.mm(dy.t(), x, out=dw), seconds)  # noqa: B023
    return total


def attention_limit(size: peers.Size, seconds: float = 0.25) -> float:
    """Seconds of attention's own products (scores, mix, their four gradients) over all pairs."""
    n, s, d = size.batch * size.heads, size.length, size.width // size.heads
    q, k, p = torch.randn(n, s, d), torch.randn(n, s, d), torch.randn(n, s, s)
    scores, mixed = torch.empty_like(p), torch.empty_like(q)
    inner = best_time(lambda: torch.bmm(q, k.transpose(1, 2), out=scores), seconds)
    outer = best_time(lambda: torch.bmm(p, q, out=mixed), seconds)
    back = best_time(lambda: torch.bmm(p.transpose(1, 2), q, out=mixed), seconds)
    # scores, dP: inner; output, dQ: outer; dV, dK: transposed outer.
    return size.layers * 2 * (inner + outer + back)


def square_rate(n: int = 2048, seconds: float = 1.0) -> float:
    """FLOP/s of the best large square product."""
    a, b, c = torch.randn(n, n), torch.randn(n, n), torch.empty(n, n)
    return 2 * n**3 / best_time(lambda: torch.mm(a, b, out=c), seconds)


def flops(size: peers.Size, pairs: float = 0.5) -> float:
    """FLOPs of one step; `pairs` is the share of (query, key) pairs counted for attention (causal: 0.5)."""
    weights = sum(2 * m * k * n * count for m, k, n, count in size.linears())
    attention = pairs * 4 * size.batch * size.length**2 * size.width * size.layers
    return 3 * (weights + attention)


def limits(size: peers.Size, seconds: float = 0.25) -> dict[str, float]:
    """Several definitions of the limit, each as seconds of one step; every product is tried for `seconds`."""
    linear, attention = matmul_limit(size.linears(), seconds), attention_limit(size, seconds)
    rate = square_rate()
    return {
        "products": linear,
        "products_and_attention": linear + attention,
        "products_and_half_attention": linear + attention / 2,
        "square_rate": flops(size, 0.0) / rate,
        "square_rate_causal": flops(size) / rate,
        "square_flops_per_second": rate,
    }


def summary(
    times: dict[str, list[float]],
    limit: dict[str, float],
    reference: str,
    flops: float = 0.0,
    rates: Sequence[float] = (),
) -> dict[str, Any]:
    """Per contender: seconds, ratio to the reference within a round (above 1: faster), limits' shares.

    Args:
        times: of every round, as `interleave` gives them.
        limit: seconds at the least, by several definitions.
        reference: whom the others are compared with.
        flops, rates: of a step, and of every round: one more limit, "square_rate_full", within a round too.
    """
    out: dict[str, Any] = {}
    for name, values in times.items():
        seconds = quartiles(values)
        out[name] = {
            "seconds": seconds,
            "speed_ratio": quartiles([r / v for r, v in zip(times[reference], values, strict=True)]),
            "fraction": {k: v / seconds["median"] for k, v in limit.items() if k != "square_flops_per_second"},
            "rounds": len(values),
        }
        if rates:
            shares = [flops / rate / value for rate, value in zip(rates, values, strict=True)]
            out[name]["fraction"]["square_rate_full"] = statistics.median(shares)
    return out


def machine() -> dict[str, Any]:
    """What the numbers were taken on, and how busy it was."""
    return {
        "processor": processor.name(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": os.getloadavg(),
        "torch": torch.__version__,
    }
