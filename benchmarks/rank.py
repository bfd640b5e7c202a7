"""The rank probe against an SVD head by head, on causal softmax attention of 12 layers x 12 heads x 512 tokens.

    python -m benchmarks.rank --json rank.json

Contenders, interleaved, each on the same float32 patterns: `svdvals` a head (what a user writes), `svdvals` of all
heads at once, and assay's `singular_values` (eigenvalues of A A^T in float64, a thread a head, by a C kernel; under
ASSAY_NATIVE=0 by LAPACK). Before timing, the effective, stable and exact rank of some are compared with a float64
SVD: they must agree to 1e-4. `--grow` measures 4 lengths and the exponent of time against length (theory: 3 for large
ones).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))

import torch

from assay.probes.spectra import effective_rank, exact_rank, singular_values, stable_rank
from benchmarks.measure import best_time, interleave, machine, quartiles
from benchmarks.result import Check, Result
from benchmarks.rows import of_times


def patterns(matrices: int, length: int, width: int = 64, *, causal: bool = True) -> torch.Tensor:
    """Softmax attention of random queries and keys [matrices, length, length]."""
    draw = torch.Generator().manual_seed(0)
    q, k = (torch.randn(matrices, length, width, generator=draw) for _ in range(2))
    scores = q @ k.mT / math.sqrt(width)
    if causal:
        scores = scores.masked_fill(torch.ones(length, length).triu(1).bool(), -math.inf)
    return torch.softmax(scores, -1)


def differences(given: torch.Tensor, sample: int = 12) -> dict[str, float]:
    """Largest relative difference of each rank from a float64 SVD, over some of the matrices."""
    chosen = given[:sample]
    triangular = not bool(chosen.triu(1).any())
    reference = torch.linalg.svdvals(chosen.double())
    ours = singular_values(chosen, triangular=triangular)
    size = given.shape[-1]
    found = {}
    for name, measure in (("effective", effective_rank), ("stable", stable_rank)):
        found[name] = float(((measure(ours) - measure(reference)) / measure(reference)).abs().max())
    found["exact"] = float((exact_rank(ours, size) - exact_rank(reference, size)).abs().max())
    return found


def compare(layers: int, heads: int, length: int, seconds: float, *, causal: bool) -> dict[str, Any]:
    """Times and ratios of one size."""
    given = patterns(layers * heads, length, causal=causal)
    equal = differences(given)
    assert max(equal["effective"], equal["stable"]) < 1e-4 and equal["exact"] == 0, equal
    contenders = {
        "svd head by head": lambda: [torch.linalg.svdvals(matrix) for matrix in given],
        "svd batched": lambda: torch.linalg.svdvals(given),
        "assay": lambda: singular_values(given, triangular=causal),
    }
    times = interleave(contenders, seconds, warmup=0, least=3)
    ratios = {
        name: quartiles([base / own for base, own in zip(times["svd head by head"], values, strict=True)])
        for name, values in times.items()
    }
    return {
        "size": [layers, heads, length], "causal": causal, "differences": equal,
        "seconds": {name: quartiles(values) for name, values in times.items()}, "times_faster": ratios, "times": times,
    }  # fmt: skip


def suite(seconds: float, long: bool, *, size: tuple[int, int, int] = (12, 12, 512)) -> list[Result]:
    """The row of the suite: causal patterns; long: also patterns of both directions."""
    return [result(compare(*size, seconds, causal=causal)) for causal in ((True, False) if long else (True,))]


def result(found: dict[str, Any]) -> Result:
    """The suite's form of one size."""
    layers, heads, length = found["size"]
    kind = "causal" if found["causal"] else "bidirectional"
    out = Result(
        f"rank-{kind}", f"The rank probe, {layers} x {heads} x {length}, {kind}", "parts",
        f"softmax attention of {layers * heads} heads, float32 in, {torch.get_num_threads()} threads", "ms",
        rounds=len(found["times"]["assay"]),
    )  # fmt: skip
    times = {name if name == "assay" else f"torch, {name}": values for name, values in found["times"].items()}
    out.rows = of_times(times, "assay")
    out.checks = [
        Check(f"{name} rank against a float64 SVD", error, 0.0 if name == "exact" else 1e-4)
        for name, error in found["differences"].items()
    ]
    out.aim_at_best(2.0)
    return out


def growth(lengths: tuple[int, ...] = (128, 256, 512, 1024)) -> dict[str, Any]:
    """Seconds of 8 matrices by length, and the exponent between neighbours."""
    seconds = [best_time(lambda n=n: singular_values(patterns(8, n), triangular=True), 0.5, 3) for n in lengths]  # type: ignore[misc]
    steps = zip(zip(lengths, seconds, strict=True), zip(lengths[1:], seconds[1:], strict=False), strict=False)
    exponents = [math.log(t / s) / math.log(m / n) for (n, s), (m, t) in steps]
    return {"lengths": list(lengths), "seconds": seconds, "exponents": exponents}


def main() -> None:
    """Command line; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--grow", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found: dict[str, Any] = {"machine": machine(), "sizes": []}
    for causal in (True, False):
        row = compare(args.layers, args.heads, args.length, args.seconds, causal=causal)
        found["sizes"].append(row)
        print(f"{args.layers} x {args.heads} x {args.length}, {'causal' if causal else 'bidirectional'}")
        for name, taken in row["seconds"].items():
            ratio = row["times_faster"][name]
            spread = f"[{ratio['low']:.2f}, {ratio['high']:.2f}]"
            print(f"  {name:18s} {taken['median']:7.3f} s   {ratio['median']:.2f} times {spread}", flush=True)
        print(f"  largest differences from float64: {row['differences']}")
    if args.grow:
        found["growth"] = growth()
        print(found["growth"])
    if args.json:
        args.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
