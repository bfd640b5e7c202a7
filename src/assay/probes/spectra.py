"""Ranks of matrices from their singular values, for many matrices at once.

    exact       singular values above size x eps x the largest (the rule of numpy's matrix_rank)
    effective   exp(-sum p ln p), p the singular values over their sum        Roy & Vetterli 2007
    stable      sum of squares over the largest square                        Rudelson & Vershynin 2007
    condition   largest over smallest

Float32 matrices go through the eigenvalues of A A^T in float64, whose singular values are right to about 1e-8 of the
largest: finer than the entries of a float32 matrix themselves decide (6e-8 each), and half the work of an SVD. Float64
matrices go through their SVD. On a CPU a C kernel finds those eigenvalues (`gram.py`); where it cannot serve, LAPACK
does. Either way the matrices are shared out among threads, one thread each, since little is gained from several
threads on one small matrix.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch
from jaxtyping import Float
from torch import Tensor

from assay.probes.gram import gram_values

__all__ = [
    "condition_number", "effective_rank", "exact_rank", "mean_cosine", "singular_values", "stable_rank",
    "token_residual",
]  # fmt: skip

BLOCKS = 4
"""Row blocks of a triangular Gram matrix: products with what is all zeros are left out."""


def singular_values(matrices: Float[Tensor, "*many m n"], *, triangular: bool = False) -> Float[Tensor, "*many k"]:
    """Singular values in float64, large to small; k = min(m, n).

    Args:
        matrices: any number of them, float64 or of lower precision.
        triangular: they are lower triangular (causal attention), which saves two thirds of the products.
    """
    *many, rows, columns = matrices.shape
    if matrices.dtype == torch.float64:
        return _shared(torch.linalg.svdvals, matrices.reshape(-1, rows, columns)).reshape(*many, -1)
    flat = matrices.reshape(-1, rows, columns)
    if columns < rows:
        flat, triangular = flat.mT, False
    triangular = triangular and rows == columns
    squares = gram_values(flat, triangular=triangular)
    if squares is None:
        squares = _shared(_by_triangle if triangular else _by_gram, flat)
    return squares.flip(-1).clamp_min(0).sqrt().reshape(*many, -1)


def _by_gram(matrices: Tensor) -> Tensor:
    wide = matrices.double()
    return torch.linalg.eigvalsh(wide @ wide.mT)


def _by_triangle(matrices: Tensor) -> Tensor:
    """A A^T of lower triangular A, its lower blocks alone: rows of block j end at that block's last column."""
    wide, n = matrices.double(), matrices.shape[-1]
    edges = [n * i // BLOCKS for i in range(BLOCKS + 1)]
    gram = wide.new_zeros(wide.shape)
    for j in range(BLOCKS):
        start, end = edges[j], edges[j + 1]
        gram[..., start:, start:end] = wide[..., start:, :end] @ wide[..., start:end, :end].mT
    return torch.linalg.eigvalsh(gram)  # reads the lower triangle alone


def _shared(work: object, matrices: Tensor) -> Tensor:
    """`work` of every matrix; on a CPU a few at a time, in threads of one core each."""
    assert callable(work)
    threads = torch.get_num_threads()
    if matrices.device.type != "cpu" or threads == 1 or len(matrices) < 2:
        return work(matrices)
    parts = matrices.split(max(len(matrices) // (8 * threads), 1))
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            return torch.cat(list(pool.map(work, parts)))
    finally:
        torch.set_num_threads(threads)


def exact_rank(
    values: Float[Tensor, "*many k"], size: int, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "*many"]:
    """How many singular values rounding cannot have made: those above size x eps x the largest.

    Args:
        values: large to small.
        size: the larger side of the matrix.
        dtype: in which the matrix was computed.
    """
    floor = size * torch.finfo(dtype).eps * values[..., :1]
    return ((values > floor) & (values > 0)).sum(-1).double()


def effective_rank(values: Float[Tensor, "*many k"]) -> Float[Tensor, "*many"]:
    """The exponential of the shares' entropy: 1 (rank 1) to k (all equal); 0 of a zero matrix."""
    total = values.double().sum(-1, keepdim=True)
    shares = values.double() / total.clamp_min(torch.finfo(torch.float64).tiny)
    return torch.where(total[..., 0] > 0, torch.special.entr(shares).sum(-1).exp(), 0.0)


def stable_rank(values: Float[Tensor, "*many k"]) -> Float[Tensor, "*many"]:
    """|A|_F^2 / |A|_2^2: from 1 to k; 0 of a zero matrix."""
    squares = values.double().square()
    largest = squares[..., 0]
    return torch.where(largest > 0, squares.sum(-1) / largest.clamp_min(torch.finfo(torch.float64).tiny), 0.0)


def condition_number(
    values: Float[Tensor, "*many k"], size: int, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "*many"]:
    """Largest over smallest singular value; infinite where the smallest lies below what rounding decides."""
    floor = size * torch.finfo(dtype).eps * values[..., 0]
    smallest = values[..., -1].double()
    return torch.where(smallest > floor, values[..., 0].double() / smallest.clamp_min(1e-300), torch.inf)


def token_residual(x: Float[Tensor, "*many s d"]) -> Float[Tensor, "*many"]:
    """Least over v of |X - 1 v^T|_F / |X|_F: how far the tokens are from being all the same; v is their mean.

    Source: Dong et al. 2021, section 2 (there in another norm).
    """
    wide = x.double()
    away = torch.linalg.matrix_norm(wide - wide.mean(-2, keepdim=True))
    return away / torch.linalg.matrix_norm(wide).clamp_min(1e-300)


def mean_cosine(x: Float[Tensor, "*many s d"]) -> Float[Tensor, "*many"]:
    """Mean cosine between different tokens' vectors, as (|sum of units|^2 - s) / (s (s - 1)): no pairs are formed."""
    wide = x.double()
    units = wide / torch.linalg.vector_norm(wide, dim=-1, keepdim=True).clamp_min(1e-300)
    number = x.shape[-2]
    squares = units.square().sum((-1, -2))
    return (units.sum(-2).square().sum(-1) - squares) / max(number * (number - 1), 1)
