"""The Triton norms against float64, in Triton's interpreter where there is no GPU (set before Triton is imported)."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from assay.nn.kernels.norms import _backward_formula, plain_norm

pytest.importorskip("triton")
GPU = torch.cuda.is_available()
CASES = list(itertools.product((False, True), (False, True), (False, True), (False, True), ("", "g", "gb")))


def draw(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to("cuda" if GPU else "cpu")


def check(shape: tuple[int, ...], dtype: torch.dtype, tolerance: float) -> None:
    """Every combination of options, forward and backward."""
    from assay.nn.kernels import triton_norms as kernels

    for centre, added, scaled, keep, learned in CASES:
        x, f, dy, dt = (draw(*shape, seed=seed).to(dtype) for seed in range(4))
        add, alpha = f if added else None, torch.tensor(1.7, device=x.device) if scaled and added else None
        g = draw(shape[-1], seed=5).to(dtype) if "g" in learned else None
        b = draw(shape[-1], seed=6).to(dtype) if "b" in learned else None
        wide = [None if t is None else t.double() for t in (x, add, alpha, g, b)]
        y, total, mean, rstd = kernels.forward(x, add, alpha, g, b, 1e-5, centre, keep)
        exact, exact_sum = plain_norm(wide[0], *wide[3:], 1e-5, centre=centre, add=wide[1], alpha=wide[2])
        found = kernels.backward(
            total if keep else x, None if keep else add, alpha, g, dy, dt if keep else None, mean, rstd, centre, added,
            g is not None, b is not None,
        )  # fmt: skip
        straight = _backward_formula(
            *wide[:4], dy.double(), dt.double() if keep else None, 1e-5, centre, False
        )  # fmt: skip
        pairs = [(y, exact), *([(total, exact_sum)] if keep else []), *zip(found, straight, strict=True)]
        for number, (one, other) in enumerate(pairs):
            if one is not None:
                torch.testing.assert_close(
                    one.double(), other, rtol=tolerance, atol=tolerance * (1 + 3 * (one.dim() == 1)),
                    msg=lambda m, at=(number, centre, added, scaled, keep, learned): f"{at}: {m}",
                )  # fmt: skip


RUN = """
import torch
from tests.nn.test_kernels_triton import check
check(({shape}), torch.{dtype}, {tolerance})
print("equal")
"""


@pytest.mark.parametrize(
    "shape, dtype, tolerance", [("7, 24", "float32", 1e-4), ("2, 3, 16", "float32", 1e-4), ("5, 40", "bfloat16", 0.06)]
)
def test_combinations_equal_float64(shape: str, dtype: str, tolerance: float) -> None:
    """In a process of its own: Triton settles at import whether it interprets."""
    if GPU:
        check(tuple(map(int, shape.split(","))), getattr(torch, dtype), tolerance)
        return
    code = RUN.format(shape=shape, dtype=dtype, tolerance=tolerance)
    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0 and "equal" in done.stdout, done.stderr[-2000:]
