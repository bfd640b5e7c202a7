"""Norms forward and backward, as multiples of copying the same tensor, side by side in one process.

    python -m benchmarks.norms --threads 1 --json norms.json

Contenders: assay's fused norm, torch eager, torch.compile, and a copy into a tensor that exists. On a GPU also
Liger-Kernel, where it is installed. Numbers are checked against float64 before anything is timed.

All contenders run in one process, so they share its allocator. `--keep` (the default) lets glibc keep freed memory, as
assay's training does; `--no-keep` leaves it as it is, where page faults decide more than kernels do.
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

from assay.nn.kernels import heap, native
from assay.nn.kernels.norms import fused_norm
from benchmarks import gpu
from benchmarks.measure import machine, quartiles
from benchmarks.result import Check, Result, Row, Spread
from benchmarks.rows import cannot

EPS, ALPHA = 1e-5, 2.5
TARGETS = {"layernorm": 3.3, "rmsnorm": 3.3, "deepnorm": 5.0}
"""Copies to reach, or fewer: 1.3 times what memory traffic alone costs."""
TRAFFIC = {"layernorm": 5, "rmsnorm": 5, "deepnorm": 8}
"""Tensors read or written once each, forward and backward; a copy is 2 (3 where a store reads its line first)."""

LIGER = "Liger-Kernel"
Case = Callable[..., Tensor]


def layer(x: Tensor, f: Tensor, g: Tensor, b: Tensor, alpha: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], g, b, EPS)


def rms(x: Tensor, f: Tensor, g: Tensor, b: Tensor, alpha: Tensor) -> Tensor:
    return F.rms_norm(x, x.shape[-1:], g, EPS)


def deep(x: Tensor, f: Tensor, g: Tensor, b: Tensor, alpha: Tensor) -> Tensor:
    return F.layer_norm(alpha * x + f, x.shape[-1:], g, b, EPS)


def our_layer(x: Tensor, f: Tensor, g: Tensor, b: Tensor, alpha: Tensor) -> Tensor:
    return fused_norm(x, g, b, EPS, centre=True)[0]


def our_rms(x: Tensor, f: Tensor, g: Tensor, b: Tensor, alpha: Tensor) -> Tensor:
    return fused_norm(x, g, None, EPS, centre=False)[0]


def our_deep(x: Tensor, f: Tensor, g: Tensor, b: Tensor, alpha: Tensor) -> Tensor:
    return fused_norm(x, g, b, EPS, centre=True, add=f, alpha=alpha)[0]


EAGER: dict[str, Case] = {"layernorm": layer, "rmsnorm": rms, "deepnorm": deep}
OURS: dict[str, Case] = {"layernorm": our_layer, "rmsnorm": our_rms, "deepnorm": our_deep}


def liger(kind: str) -> Case:
    """Liger-Kernel's norm of this kind. Raises ImportError where it is not installed."""
    from liger_kernel.transformers.functional import liger_layer_norm, liger_rms_norm

    table: dict[str, Case] = {
        "layernorm": lambda x, f, g, b, alpha: liger_layer_norm(x, g, b, EPS),
        # in_place would write the gradient over `dy`, which every contender of every round is given.
        "rmsnorm": lambda x, f, g, b, alpha: liger_rms_norm(x, g, EPS, in_place=False),
        "deepnorm": lambda x, f, g, b, alpha: liger_layer_norm(alpha * x + f, g, b, EPS),
    }
    return table[kind]


def both_ways(case: Case, inputs: list[Tensor], dy: Tensor) -> Callable[[], Tensor]:
    """Forward and backward once; gradients are dropped beforehand, so that none is added up."""

    def call() -> Tensor:
        for t in inputs:
            t.grad = None
        y = case(*inputs)
        y.backward(dy)
        return y

    return call


def check(kind: str, name: str, case: Case, inputs: list[Tensor], dy: Tensor, tolerance: float) -> float:
    """Largest error against float64 of output and gradients, over the largest magnitude. Raises where it is large."""
    both_ways(case, inputs, dy)()
    exact = [t.detach().double().requires_grad_(t.requires_grad) for t in inputs]
    y = EAGER[kind](*exact)
    y.backward(dy.double())
    grads = [(t.grad, e.grad) for t, e in zip(inputs, exact, strict=True) if e.grad is not None]
    pairs: list[Any] = [(case(*inputs), y), *grads]
    worst = max(float((a.detach().double() - b.detach()).abs().max() / b.detach().abs().max()) for a, b in pairs)
    if not worst <= tolerance:
        raise SystemExit(f"{name}: {kind} is off by {worst:.1e} of the largest value; nothing was timed")
    return worst


def measure(args: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(args.threads)
    kept = heap.keep_memory() if args.keep else False
    device = args.device
    dtype = getattr(torch, args.dtype)
    clock = time.process_time if args.threads == 1 and device == "cpu" else time.perf_counter
    draw = torch.Generator(device).manual_seed(0)
    shape = (args.rows, args.width)
    x, f, dy = (torch.randn(shape, generator=draw, device=device).to(dtype) for _ in range(3))
    g, b = (torch.randn(args.width, generator=draw, device=device).to(dtype) for _ in range(2))
    inputs = [*(t.requires_grad_() for t in (x, f, g, b)), torch.tensor(ALPHA, device=device)]
    target = torch.empty_like(x)
    calls: dict[str, Callable[[], Any]] = {"copy": lambda: target.copy_(x.detach())}
    errors, missing = {}, {}
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    for kind, eager in EAGER.items():
        cases: dict[str, Case] = {"assay": OURS[kind], "eager": eager, "compile": torch.compile(eager, dynamic=False)}
        if device == "cpu":
            missing[LIGER] = gpu.why_not()
        else:
            try:
                check(kind, LIGER, liger(kind), inputs, dy, tolerance)
                cases[LIGER] = liger(kind)
            except ImportError as error:
                missing[LIGER] = gpu.missing_liger(error)
            except (Exception, SystemExit) as error:  # a peer that fails or is wrong ends nothing
                missing[LIGER] = f"{kind}, {type(error).__name__}: {error}"
        for name, case in cases.items():
            errors[f"{kind}/{name}"] = check(kind, name, case, inputs, dy, tolerance)
            calls[f"{kind}/{name}"] = both_ways(case, inputs, dy)
    times: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for turn in range(args.rounds + 2):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            if device != "cpu":
                torch.cuda.synchronize()
            start = clock()
            calls[name]()
            if device != "cpu":
                torch.cuda.synchronize()
            if turn >= 2:
                times[name].append(clock() - start)
    copies = {
        name: quartiles([t / c for t, c in zip(values, times["copy"], strict=True)]) for name, values in times.items()
    }
    return {
        "shape": shape, "dtype": args.dtype, "device": device, "threads": args.threads, "torch": torch.__version__,
        "clock": clock.__name__, "rounds": args.rounds, "memory_kept": kept, "native": native.status(),
        "machine": machine(), "largest_error": errors, "missing": missing,
        "seconds": {name: quartiles(values) | {"best": min(values)} for name, values in times.items()},
        "copies": copies, "targets": TARGETS, "traffic": TRAFFIC, "times": times,
    }  # fmt: skip


def suite(seconds: float, long: bool, **changes: Any) -> list[Result]:
    """The rows of the suite, one a kind of norm; about four rounds a second. On a GPU where there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows, width = (65536, 4096) if device == "cuda" else (4096, 1024)  # smaller ones time a GPU's launches
    given = {
        "rows": rows, "width": width, "dtype": "float32", "device": device, "threads": 1, "keep": True,
        "rounds": max(5, round(4 * seconds)),
    }  # fmt: skip
    found = measure(argparse.Namespace(**(given | changes)))
    return [result(kind, found) for kind in EAGER]


def result(kind: str, found: dict[str, Any]) -> Result:
    """The suite's form of one norm: values are copies of the tensor, taken round by round."""
    out = Result(
        f"norm-{kind}", f"{kind}, forward and backward", "parts",
        f"{found['shape'][0]} x {found['shape'][1]}, {found['dtype']}, {found['device']}, {found['threads']} thread",
        "copies of the tensor", limit=f"memory traffic alone: {TRAFFIC[kind]} tensors read or written, a copy is 2",
        rounds=found["rounds"],
    )  # fmt: skip
    own, least = found["times"][f"{kind}/assay"], TRAFFIC[kind] / 2
    for name, values in found["times"].items():
        who = name.removeprefix(f"{kind}/")
        if name == "copy" or who == name:
            continue
        copies = Spread.read(found["copies"][name])
        ratio = None if who == "assay" else Spread.of([a / b for a, b in zip(values, own, strict=True)])
        out.rows.append(Row(who, "assay" if who == "assay" else "peer", copies, ratio, least / copies.median))
        out.checks.append(Check(f"{who}, output and gradients against float64", found["largest_error"][name], 1e-5))
    out.rows.append(Row("memory traffic", "limit", Spread(least, least, least), None, 1.0))
    out.rows += cannot(found["missing"])
    row = out.row("assay")
    out.aim("copies of the tensor, assay", TARGETS[kind], row.value if row else None, at_most=True)
    return out


def main() -> None:
    """Measure, print a table, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--keep", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found = measure(args)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1))
    best = found["seconds"]["copy"]["best"]
    for name, row in found["copies"].items():
        goal = TARGETS.get(name.split("/")[0]) if name.endswith("/assay") else None
        said = f"  target {goal}: {'reached' if row['median'] <= goal else 'missed'}" if goal else ""
        took = found["seconds"][name]
        print(
            f"{name:20s} {1e3 * took['median']:7.2f} ms  {row['median']:6.2f} [{row['low']:.2f} {row['high']:.2f}] "
            f"copies; best over best {took['best'] / best:.2f}{said}"
        )


if __name__ == "__main__":
    main()
