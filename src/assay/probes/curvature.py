"""Sharpness: the largest eigenvalue of the loss's Hessian, by products of the Hessian with vectors alone.

Lanczos builds a basis whose projected Hessian is a small tridiagonal matrix; its extreme eigenvalues are the Hessian's
(Golub & Van Loan, chapter 10), and every estimate theta comes with a bound: an eigenvalue lies within |H v - theta v|.
Power iteration is slower, needs three vectors instead of a basis, and finds the eigenvalue of largest magnitude.

The training loss (`nn/loss.py`) refuses second derivatives, and fused attention has none: here all logits are made,
and attention computes step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from assay.data.batch import Batch
from assay.nn.transformer import Transformer
from assay.probes.looking import forward, held_still, tensors

__all__ = ["Spectrum", "hessian", "lanczos", "mean_loss", "power_iteration", "sharpness"]

Product = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Spectrum:
    """The ends of a symmetric matrix's spectrum."""

    largest: float
    """The sharpness: gradient descent is stable below the rate 2 / largest."""
    smallest: float
    """The most negative curvature found (not bounded by `residual`)."""
    residual: float
    """|H v - largest v| for the unit vector found: an eigenvalue lies this near."""
    products: int
    """Hessian-vector products taken."""
    converged: bool
    """Whether the residual fell to `tolerance` x |largest|."""


class _Explicit:
    """A tap that makes attention compute step by step and keeps nothing."""

    def wants(self, name: str) -> bool:
        return name.endswith(".scores")

    def __call__(self, name: str, value: Tensor) -> Tensor:
        return value


def mean_loss(model: Transformer, batch: Batch) -> Tensor:
    """The batch's mean loss in nats per target, differentiable as often as one likes; all logits are made."""
    rows = tensors(model, batch)
    nats = F.cross_entropy(forward(model, rows, _Explicit()), rows.targets, reduction="none")
    return (nats * rows.weights.to(nats.dtype)).sum() / rows.weights.sum()


def hessian(loss: Callable[[], Tensor], parameters: Iterable[Tensor]) -> tuple[Product, int]:
    """V -> H v for a loss of some parameters, flattened and joined in their order; and their number.

    The gradient's graph is made once and kept, so a product costs one backward pass.
    """
    chosen = list(parameters)
    grads: tuple[Any, ...] = torch.autograd.grad(loss(), chosen, create_graph=True, allow_unused=True)
    pairs = [(g, p) for g, p in zip(grads, chosen, strict=True) if g is not None and g.requires_grad]

    def product(vector: Tensor) -> Tensor:
        parts = dict(zip(map(id, chosen), vector.split([p.numel() for p in chosen]), strict=True))
        if not pairs:
            return torch.zeros_like(vector)
        found: tuple[Any, ...] = torch.autograd.grad(
            [g for g, _ in pairs], chosen, [parts[id(p)].view_as(p) for _, p in pairs],
            retain_graph=True, allow_unused=True,
        )  # fmt: skip
        return torch.cat(
            [torch.zeros_like(p).flatten() if f is None else f.flatten() for f, p in zip(found, chosen, strict=True)]
        )

    return product, sum(p.numel() for p in chosen)


def lanczos(
    product: Product,
    size: int,
    *,
    iterations: int = 60,
    tolerance: float = 1e-3,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Spectrum:
    """Extreme eigenvalues of a symmetric operator, with full reorthogonalisation (the basis is held whole).

    Args:
        product: v [size] -> H v.
        size: of the operator.
        iterations: products at most.
        tolerance: stop once the residual of the largest is below this share of it.
        seed: of the first vector.
        dtype, device: of the vectors.
    """
    basis = [_start(size, seed, dtype, device)]
    diagonal: list[float] = []
    beside: list[float] = []
    largest = smallest = residual = float("nan")
    for step in range(min(iterations, size)):
        image = product(basis[-1])
        diagonal.append(float(basis[-1] @ image))
        stacked = torch.stack(basis)
        for _ in range(2):  # twice is enough (Parlett): once leaves rounding that breeds false copies
            image = image - stacked.t() @ (stacked @ image)
        norm = float(image.norm())
        small = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
        if beside:
            off = torch.tensor(beside, dtype=torch.float64)
            small += torch.diag(off, 1) + torch.diag(off, -1)
        values, vectors = torch.linalg.eigh(small)
        residual = norm * abs(float(vectors[-1, -1]))
        largest, smallest = float(values[-1]), float(values[0])
        exhausted = norm <= 1e-7 * max(abs(largest), abs(smallest), 1e-30)  # the whole reachable space is spanned
        if exhausted or residual <= tolerance * abs(largest):
            return Spectrum(largest, smallest, residual, step + 1, True)
        beside.append(norm)
        basis.append(image / norm)
    return Spectrum(largest, smallest, residual, min(iterations, size), residual <= tolerance * abs(largest))


def power_iteration(
    product: Product,
    size: int,
    *,
    iterations: int = 500,
    tolerance: float = 1e-3,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Spectrum:
    """The largest eigenvalue by power iteration, for models whose Lanczos basis would not fit.

    A first run finds the eigenvalue of largest magnitude. Where that is negative, a second one on H shifted up by it
    finds the largest.
    """
    first, spent = _power(product, size, iterations, tolerance, seed, dtype, device)
    value, residual = first
    if value >= 0:
        return Spectrum(value, float("nan"), residual, spent, residual <= tolerance * abs(value))
    shift = -value
    (shifted, residual), more = _power(
        lambda v: product(v) + shift * v, size, iterations, tolerance * 0.1, seed, dtype, device
    )
    largest = shifted - shift
    return Spectrum(largest, value, residual, spent + more, residual <= tolerance * abs(largest))


def sharpness(
    model: Transformer,
    batch: Batch,
    *,
    iterations: int = 60,
    tolerance: float = 1e-2,
    method: str = "lanczos",
    seed: int = 0,
) -> Spectrum:
    """The largest eigenvalue of the Hessian of the batch's mean loss, over all weights.

    Args:
        model: any family; stays as it is.
        batch: what the loss is of.
        iterations: Hessian-vector products at most.
        tolerance: of the residual, as a share of the eigenvalue.
        method: "lanczos" (holds `iterations` vectors of all weights) or "power" (holds three).
        seed: of the first vector.
    """
    chosen = [p for p in model.parameters()]
    wanted = [p.requires_grad for p in chosen]
    solve = {"lanczos": lanczos, "power": power_iteration}[method]
    try:
        for p in chosen:
            p.requires_grad_(True)
        with held_still(model), torch.enable_grad():
            product, size = hessian(lambda: mean_loss(model, batch), chosen)
            return solve(
                product, size, iterations=iterations, tolerance=tolerance, seed=seed,
                dtype=chosen[0].dtype, device=chosen[0].device,
            )  # fmt: skip
    finally:
        for p, before in zip(chosen, wanted, strict=True):
            p.requires_grad_(before)


def _start(size: int, seed: int, dtype: torch.dtype, device: torch.device | str) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    vector = torch.randn(size, generator=generator, dtype=torch.float64)
    return (vector / vector.norm()).to(dtype).to(device)


def _power(
    product: Product,
    size: int,
    iterations: int,
    tolerance: float,
    seed: int,
    dtype: torch.dtype,
    device: torch.device | str,
) -> tuple[tuple[float, float], int]:
    vector, value, residual = _start(size, seed, dtype, device), 0.0, float("inf")
    for step in range(iterations):
        image = product(vector)
        value = float(vector @ image)
        residual = float((image - value * vector).norm())
        norm = float(image.norm())
        if residual <= tolerance * abs(value) or norm == 0:
            return (value, residual), step + 1
        vector = image / norm
    return (value, residual), iterations
