"""Head and loss at vocabulary 50,000 and 8,192 tokens: assay's chunked cross-entropy against full logits.

    python -m benchmarks.head --json head.json

Each takes hidden states [tokens, width], the output matrix and targets to the loss and both gradients. Full logits:
`F.cross_entropy(hidden @ matrix.T, targets)`, eager and compiled. Values and gradients are compared before anything is
timed. Memory is what live tensors add at their peak, in bytes, counted by torch's profiler; it does not depend on the
machine. Half of the targets in prefix LM and a sixth in span corruption are the rule: here every position is one.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from assay.nn.kernels.heap import keep_memory
from assay.nn.loss import chunk_loss, cross_entropy_sum
from assay.training.memory import peak_bytes
from benchmarks import gpu, measure
from benchmarks.result import Check, Result
from benchmarks.rows import cannot, of_summary

ON_GPU = "head and loss on the GPU"
"""Where peers are that need one."""


def contenders(
    tokens: int,
    vocabulary: int,
    width: int,
    *,
    device: str = "cpu",
    also: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
) -> dict[str, Callable[[], tuple[Tensor, Tensor, Tensor]]]:
    """Each makes (loss, hidden's gradient, matrix's gradient).

    Args:
        tokens, vocabulary, width: sizes.
        device: where.
        also: one more, from (hidden, matrix, targets) to the loss, under the name "also".
    """
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(tokens, width, generator=draw).to(device).requires_grad_()
    matrix = (torch.randn(vocabulary, width, generator=draw) * 0.05).to(device).requires_grad_()
    targets = torch.randint(0, vocabulary, (tokens,), generator=draw).to(device)
    weights = torch.ones(tokens, device=device)

    def full(h: Tensor, w: Tensor) -> Tensor:
        return F.cross_entropy(h @ w.t(), targets)

    def ours(chunk: Any) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda h, w: cross_entropy_sum(h, w, targets, weights, chunk=chunk) / tokens

    def step(loss_of: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], tuple[Tensor, Tensor, Tensor]]:
        def run() -> tuple[Tensor, Tensor, Tensor]:
            loss = loss_of(hidden, matrix)
            return loss.detach(), *torch.autograd.grad(loss, (hidden, matrix))

        return run

    forms = {"full logits/eager": step(full), "assay/eager": step(ours(chunk_loss))}
    if hidden.device.type != "cpu":  # as `compile_blocks` does: on a CPU a C kernel serves
        forms["assay/compiled"] = step(ours(torch.compile(chunk_loss, dynamic=True)))
    extra = {} if also is None else {"also": step(lambda h, w: also(h, w, targets))}
    return forms | extra | {"full logits/compiled": step(torch.compile(full))}


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Check, count bytes, time."""
    if args.busy:
        args.threads, measure.clock = 1, time.process_time
    torch.set_num_threads(args.threads)
    keep_memory()
    given = contenders(args.tokens, args.vocabulary, args.width)
    errors, memory, found = {}, {}, {}
    for name, step in given.items():
        if name.endswith("compiled"):
            step()  # what compiling allocates is not the step's

        def once(name: str = name, step: Callable[[], Any] = step) -> None:
            found[name] = step()

        memory[name] = peak_bytes(once, held=0) or 0
        for part, mine, its in zip(
            ("loss", "d hidden", "d matrix"), found[name], found["full logits/eager"], strict=True
        ):
            errors[f"{name}: {part}"] = error = float((mine - its).norm() / its.norm())
            if error > 1e-4:
                raise SystemExit(f"{name}: {part} differs by {error:.1e} from full logits', so nothing is timed")
    logits = args.tokens * args.vocabulary * 4
    found.clear()
    times, rates = measure.beside_products(given, args.seconds, warmup=0, least=3)  # each has run above
    flops = 3 * 2 * args.tokens * args.vocabulary * args.width
    return {
        "benchmark": "head and loss",
        "tokens": args.tokens,
        "vocabulary": args.vocabulary,
        "width": args.width,
        "threads": args.threads,
        "machine": measure.machine(),
        "errors": errors,
        "full_logits_bytes": logits,
        "peak_extra_bytes": memory,
        # Both gradients are asked for: they are no less in any method.
        "gradients_bytes": 4 * args.width * (args.tokens + args.vocabulary),
        "contenders": measure.summary(times, {}, "assay/eager", flops, rates),
    }


def suite(seconds: float, long: bool, **changes: Any) -> list[Result]:
    """The row of the suite; 4,096 tokens, long: 8,192."""
    given = {"tokens": 8192 if long else 4096, "vocabulary": 50_000, "width": 256, "threads": 2, "busy": False}
    found = run(argparse.Namespace(**(given | {"seconds": seconds} | changes)))
    out = Result(
        "head", "Head and loss, vocabulary 50,000, with both gradients", "parts",
        f"{found['tokens']} tokens, {found['width']} wide, vocabulary {found['vocabulary']}, float32, "
        f"{found['threads']} threads",
        "ms", limit="three products at the rate of 2048 x 2048 products in the same round",
        rounds=found["contenders"]["assay/eager"]["rounds"],
    )  # fmt: skip
    out.rows = of_summary(found["contenders"], "assay/eager", "square_rate_full")
    out.rows += cannot({"Liger-Kernel's fused linear cross-entropy": gpu.why_not(ON_GPU)})
    out.checks = [Check(f"{what} against full logits", error, 1e-4) for what, error in found["errors"].items()]
    peaks, logits = found["peak_extra_bytes"], found["full_logits_bytes"]
    out.notes = [
        f"{who}: {peak / 1e6:.0f} MB at the peak, {peak / logits:.3f} of the logits." for who, peak in peaks.items()
    ]
    least = min(peak for who, peak in peaks.items() if who.startswith("full logits"))
    out.aim("of full logits' memory at the peak", 0.25, peaks["assay/eager"] / least, at_most=True)
    out.aim_at_best(1.0)
    out.facts["raw"] = found
    sizes = found["tokens"], found["vocabulary"], found["width"]
    return [out, *gpu.guarded("head-gpu", ON_GPU, lambda: gpu.head(*sizes, seconds))]


def main() -> None:
    """Command line; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--vocabulary", type=int, default=50_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--busy", action="store_true", help="one thread and its own time, beside other work")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    result = run(args)
    logits = result["full_logits_bytes"]
    print(
        f"full logits {logits / 1e6:.0f} MB; gradients {result['gradients_bytes'] / 1e6:.0f} MB; times: as many as"
        " assay takes"
    )
    for name, row in result["contenders"].items():
        ratio, peak = row["speed_ratio"], result["peak_extra_bytes"][name]
        print(
            f"{name:24s} peak {peak / 1e6:7.0f} MB, {peak / logits:.3f} of the logits  "
            f"{1e3 * row['seconds']['median']:8.0f} ms  x{1 / ratio['median']:.3f} "
            f"[{1 / ratio['high']:.3f} {1 / ratio['low']:.3f}]  limit {row['fraction']['square_rate_full']:.3f}"
        )
    if args.json:
        args.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
