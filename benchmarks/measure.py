"""Interleaved timing of several contenders in one process, and the machine's own matrix-multiply limit.

    python benchmarks/measure.py --size 11M --out 11M.json

Every round calls each contender once, so drift and noise of the machine hit all of them alike; what is
reported are medians of the ratios within a round, with their quartiles.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
import peers

clock = time.perf_counter  # main() takes process time instead for one thread: it does not see other processes
Product = tuple[int, int, int, int]


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles."""
    if len(values) < 2:
        return {"median": values[0], "low": values[0], "high": values[0]}
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": middle, "low": low, "high": high}


def interleave(
    contenders: dict[str, Callable[[], Any]], seconds: float = 20.0, warmup: int = 3, least: int = 5
) -> dict[str, list[float]]:
    """Seconds per call, round robin, for about `seconds` in all and at least `least` rounds."""
    for call in contenders.values():
        for _ in range(warmup):
            call()
    times: dict[str, list[float]] = {name: [] for name in contenders}
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


def limits(size: peers.Size) -> dict[str, float]:
    """Several definitions of the limit, each as seconds of one step."""
    linear = matmul_limit(size.linears())
    rate = square_rate()
    return {
        "products": linear,
        "products_and_attention": linear + attention_limit(size),
        "products_and_half_attention": linear + attention_limit(size) / 2,
        "square_rate": flops(size, 0.0) / rate,
        "square_rate_causal": flops(size) / rate,
        "square_rate_full": flops(size, 1.0) / rate,
        "square_flops_per_second": rate,
    }


def summary(times: dict[str, list[float]], limit: dict[str, float], reference: str) -> dict[str, Any]:
    """Per contender: seconds, ratio to the reference within a round (above 1: faster), limits' shares."""
    out: dict[str, Any] = {}
    for name, values in times.items():
        seconds = quartiles(values)
        out[name] = {
            "seconds": seconds,
            "speed_ratio": quartiles([r / v for r, v in zip(times[reference], values, strict=True)]),
            "fraction": {
                k: v / seconds["median"] for k, v in limit.items() if k != "square_flops_per_second"
            },
            "rounds": len(values),
        }
    return out


def main() -> None:
    """Time the peers at one size and print, or write, the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=sorted(peers.SIZES), default="11M")
    parser.add_argument("--modes", default="no,whole,blocks")
    parser.add_argument("--peers", default=",".join(peers.BUILDERS))
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    size = peers.SIZES[args.size]
    torch.set_num_threads(size.threads)
    if size.threads == 1:
        global clock
        clock = time.process_time
    contenders: dict[str, Callable[[], Any]] = {}
    sizes: dict[str, int] = {}
    compile_seconds: dict[str, float] = {}
    for peer in args.peers.split(","):
        for mode in args.modes.split(","):
            torch.manual_seed(0)
            model = peers.BUILDERS[peer](size)
            if mode == "blocks" and peers.blocks_of(model) is None:
                continue
            name = f"{peer}/{'eager' if mode == 'no' else mode}"
            sizes[name] = peers.parameters(model)
            step = peers.training_step(model, size, mode)
            start = time.perf_counter()  # process time would miss the compiler's own processes
            loss = step().item()
            compile_seconds[name] = time.perf_counter() - start
            took = compile_seconds[name]
            print(f"{name}: {sizes[name]:,} parameters, loss {loss:.3f}, first {took:.1f} s", file=sys.stderr)
            contenders[name] = step
    before = limits(size)
    times = interleave(contenders, args.seconds)
    after = limits(size)
    best = {k: (max if k == "square_flops_per_second" else min)(before[k], after[k]) for k in before}
    result = {
        "size": asdict(size),
        "torch": torch.__version__,
        "clock": clock.__name__,
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cpus": len(os.sched_getaffinity(0)),
        },
        "parameters": sizes,
        "first_step_seconds": compile_seconds,
        "limit": best,
        "contenders": summary(times, best, next(iter(contenders))),
    }
    text = json.dumps(result, indent=1)
    if args.out:
        args.out.write_text(text)
    for name, row in result["contenders"].items():  # type: ignore[attr-defined]
        f = row["fraction"]
        print(
            f"{name:26s} {1e3 * row['seconds']['median']:8.1f} ms  x{row['speed_ratio']['median']:.3f}"
            f" [{row['speed_ratio']['low']:.3f} {row['speed_ratio']['high']:.3f}]  "
            + " ".join(f"{k}={v:.3f}" for k, v in f.items())
        )


if __name__ == "__main__":
    main()
