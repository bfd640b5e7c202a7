"""Ranks against exact values, numpy's SVD in float64, and every pair counted one by one."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.probes.spectra import (
    condition_number,
    effective_rank,
    exact_rank,
    mean_cosine,
    singular_values,
    stable_rank,
    token_residual,
)

DTYPES = (torch.float32, torch.float64)


def measures(matrix: torch.Tensor) -> tuple[float, float, float, float]:
    values, size = singular_values(matrix), max(matrix.shape[-2:])
    return (
        float(exact_rank(values, size, matrix.dtype)), float(effective_rank(values)), float(stable_rank(values)),
        float(condition_number(values, size, matrix.dtype)),
    )  # fmt: skip


def causal(
    n: int, scale: float = 1.0, heads: int = 3, seed: int = 0, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """Softmax of scores of rank 8 under the causal mask."""
    draw = torch.Generator().manual_seed(seed)
    q, k = (torch.randn(heads, n, 8, generator=draw, dtype=dtype) for _ in range(2))
    scores = scale * (q @ k.mT) / 8**0.5
    return torch.softmax(scores.masked_fill(torch.ones(n, n).triu(1).bool(), -math.inf), -1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_identity_has_every_rank_full_and_uniform_attention_rank_one(dtype: torch.dtype) -> None:
    assert measures(torch.eye(12, dtype=dtype)) == pytest.approx((12, 12, 12, 1))
    exact, effective, stable, condition = measures(torch.full((12, 12), 1 / 12, dtype=dtype))
    assert (
        exact == 1 and effective == pytest.approx(1, abs=1e-5) and stable == pytest.approx(1) and condition == math.inf
    )
    assert measures(torch.zeros(4, 4, dtype=dtype))[:3] == (0, 0, 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_known_singular_values(dtype: torch.dtype) -> None:
    left, _ = torch.linalg.qr(torch.randn(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    right, _ = torch.linalg.qr(torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    s = torch.tensor([4.0, 2.0, 1.0, 1.0], dtype=torch.float64)
    matrix = (left * s @ right.mT).to(dtype)
    assert singular_values(matrix)[:4].tolist() == pytest.approx(s.tolist(), rel=1e-6)
    assert singular_values(matrix.mT)[:4].tolist() == pytest.approx(s.tolist(), rel=1e-6)
    p = s / 8
    expected = (4, math.exp(-float((p * p.log()).sum())), 22 / 16, math.inf)
    assert measures(matrix) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("triangular", [False, True])
@pytest.mark.parametrize("n", [5, 33, 128])
def test_many_at_once_equal_an_svd_each_to_1e_4(n: int, triangular: bool) -> None:
    for scale in (0.3, 1.0, 4.0):
        patterns = causal(n, scale)
        values = singular_values(patterns, triangular=triangular)
        for pattern, got in zip(patterns, values, strict=True):
            reference = np.linalg.svd(pattern.double().numpy(), compute_uv=False)
            p = reference / reference.sum()
            entropy = -(p[p > 0] * np.log(p[p > 0])).sum()
            assert np.abs(got.numpy() - reference).max() < 1e-7 * n
            assert float(effective_rank(got)) == pytest.approx(math.exp(entropy), rel=1e-4)
            assert float(stable_rank(got)) == pytest.approx((reference**2).sum() / reference[0] ** 2, rel=1e-4)
            assert float(exact_rank(got, n)) == np.linalg.matrix_rank(pattern.numpy())


def test_a_causal_softmax_matrix_is_of_full_rank_where_rounding_allows() -> None:
    """Triangular with a positive diagonal; scores of rank 8 do not bound it, and conditioning is another matter."""
    patterns = causal(40, dtype=torch.float64)
    assert bool((patterns.diagonal(dim1=-2, dim2=-1) > 0).all())
    values = singular_values(patterns)
    assert exact_rank(values, 40, torch.float64).tolist() == [40.0] * 3
    # The control: the same scores without softmax have rank 8.
    draw = torch.Generator().manual_seed(0)
    q, k = (torch.randn(40, 8, generator=draw, dtype=torch.float64) for _ in range(2))
    assert measures(q @ k.mT)[0] == 8
    # Sharp scores leave the determinant (the diagonal's product) nothing: float32 sees less than full rank.
    sharp = causal(64, 30.0)
    assert bool((exact_rank(singular_values(sharp), 64) < 64).any())


def test_float64_resolves_condition_numbers_that_float32_hides() -> None:
    matrix = torch.diag(torch.tensor([1.0, 1e-3, 1e-9], dtype=torch.float64))
    assert measures(matrix)[3] == pytest.approx(1e9, rel=1e-4)
    assert measures(matrix.float())[3] == math.inf and measures(matrix.float())[0] == 2
    assert measures(matrix[:2, :2].float())[3] == pytest.approx(1e3, rel=1e-4)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 9), st.integers(1, 7), st.integers(0, 1000))
def test_cosine_and_residual_against_every_pair(s: int, d: int, seed: int) -> None:
    x = torch.randn(s, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    pairs = [float(torch.cosine_similarity(x[i], x[j], 0)) for i in range(s) for j in range(s) if i != j]
    assert float(mean_cosine(x)) == pytest.approx(sum(pairs) / len(pairs), abs=1e-9)
    best = float(torch.linalg.norm(x - x.mean(0)) / torch.linalg.norm(x))
    assert float(token_residual(x)) == pytest.approx(best)
    # No other vector comes nearer.
    for other in (x[0], x.mean(0) + 0.1, x.mean(0) * 0.9):
        assert float(torch.linalg.norm(x - other) / torch.linalg.norm(x)) >= best - 1e-12


def test_equal_tokens_have_residual_zero_and_cosine_one_orthogonal_ones_cosine_zero() -> None:
    same = torch.ones(5, 3).cumsum(1)
    assert float(token_residual(same)) == pytest.approx(0, abs=1e-12) and float(mean_cosine(same)) == pytest.approx(1)
    assert float(mean_cosine(torch.eye(4))) == pytest.approx(0, abs=1e-12)
    assert float(mean_cosine(torch.cat([torch.ones(1, 3), -torch.ones(1, 3)]))) == pytest.approx(-1)


def test_threads_come_back_as_they_were() -> None:
    before = torch.get_num_threads()
    singular_values(torch.rand(6, 8, 8))
    assert torch.get_num_threads() == before
    with pytest.raises(RuntimeError):
        singular_values(torch.full((6, 8, 8), math.nan))
    assert torch.get_num_threads() == before
