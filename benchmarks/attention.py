"""Attention of short rows alone, forward and backward: the C kernel and torch's fused one in turns, float32, CPU.

python -m benchmarks.attention [--threads 2] [--rounds 7]
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from assay.nn.kernels import attention
from benchmarks.measure import clock

SHAPES = ((8, 6, 256, 64), (16, 4, 128, 32), (16, 4, 64, 16), (8, 4, 512, 64))
"""Batch, heads, keys, features of a head."""


def times(ways: dict[str, Callable[[], Tensor]], given: tuple[Tensor, ...], slope: Tensor, rounds: int) -> list[str]:
    """Milliseconds forward + backward of every way, medians."""
    taken: dict[str, list[tuple[float, float]]] = {who: [] for who in ways}
    for _ in range(rounds):
        for who, way in ways.items():
            begin = clock()
            out = way()
            middle = clock()
            torch.autograd.grad(out, given, slope)
            taken[who].append((middle - begin, clock() - middle))
    halves = {who: [1e3 * statistics.median(half) for half in zip(*pairs, strict=True)] for who, pairs in taken.items()}
    return [f"{who} {ahead:.1f} + {back:.1f}" for who, (ahead, back) in halves.items()]


def main() -> None:
    """A line for every shape, causal and not."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if attention.NATIVE.load() is None:
        parser.exit(1, f"no C kernel: {attention.NATIVE.reason}\n")
    for batch, heads, keys, width in SHAPES:
        given = tuple(torch.randn(batch, keys, heads, width).transpose(1, 2).requires_grad_() for _ in range(3))
        slope = torch.randn(batch, heads, keys, width)
        for causal in (True, False):
            ways = {
                "assay": lambda g=given, c=causal, w=width: attention.short_attention(*g, None, c, w**-0.5),
                "torch": lambda g=given, c=causal: F.scaled_dot_product_attention(*g, is_causal=c),
            }
            torch.testing.assert_close(ways["assay"](), ways["torch"](), rtol=1e-4, atol=1e-4)
            said = ", ".join(times(ways, given, slope, args.rounds))
            print(f"{batch} x {heads} heads, {keys} keys of {width}, {'causal' if causal else 'all seen'}: {said} ms")


if __name__ == "__main__":
    main()
