"""The C kernel's eigenvalues of A A^T: against float64 SVDs, block ends, hard spectra, and what it must refuse."""

import math
import platform
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.nn.kernels import native
from assay.probes import gram, spectra
from assay.probes.gram import NATIVE, gram_values
from assay.probes.spectra import effective_rank, exact_rank, singular_values, stable_rank

NEEDS_C = pytest.mark.skipif(NATIVE.load() is None, reason=f"no C kernel here: {NATIVE.reason}")
RATIOS = (effective_rank, stable_rank)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def patterns(count: int, n: int, scale: float = 1.0, seed: int = 0) -> torch.Tensor:
    """Causal softmax of scores of rank 16."""
    scores = scale * normal(count, n, 16, seed=seed) @ normal(count, n, 16, seed=seed + 1).mT / 4
    return torch.softmax(scores.masked_fill(torch.ones(n, n).triu(1).bool(), -math.inf), -1)


def by_svd(matrices: torch.Tensor) -> torch.Tensor:
    """Squared singular values in float64, small to large, rows of them (0 beyond the smaller side)."""
    found = np.linalg.svd(matrices.double().numpy(), compute_uv=False) ** 2
    count, rows, columns = matrices.shape
    return torch.from_numpy(np.concatenate([found, np.zeros((count, max(rows - columns, 0)))], -1)).sort(-1).values


def worst(matrices: torch.Tensor, *, triangular: bool = False) -> float:
    """Largest difference from `by_svd`, as a share of the largest eigenvalue."""
    found, wanted = gram_values(matrices, triangular=triangular), by_svd(matrices)
    assert found is not None and found.dtype == torch.float64 and found.shape == wanted.shape
    return float(((found - wanted).abs().amax(-1) / wanted[:, -1].clamp_min(1e-300)).max())


@NEEDS_C
@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 80), st.integers(1, 40), st.integers(0, 2**20))
def test_any_shape_and_rank_equals_a_float64_svd(rows: int, columns: int, inner: int, seed: int) -> None:
    given_ = normal(2, rows, inner, seed=seed) @ normal(2, inner, columns, seed=seed + 1)
    assert worst(given_) < 1e-14 * (rows + columns)


@NEEDS_C
@pytest.mark.parametrize("triangular", [False, True])
@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 9, 15, 16, 17, 23, 24, 25, 63, 64, 65, 129])
def test_sizes_at_every_blocks_end(n: int, triangular: bool) -> None:
    matrices = normal(3, n, n)
    assert worst(matrices.tril() if triangular else matrices, triangular=triangular) < 1e-14 * (10 + n)


@NEEDS_C
def test_the_upper_triangle_is_read_only_where_it_counts() -> None:
    """The control of the two above: a full matrix called triangular has other values."""
    assert worst(normal(1, 65, 65), triangular=True) > 1e-3


@NEEDS_C
@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 1e15])
def test_spectra_that_are_degenerate_graded_or_nothing(scale: float) -> None:
    n = 43
    left, right = (torch.linalg.qr(normal(1, n, n, seed=seed))[0] for seed in (0, 1))
    spectra_ = {
        "graded": torch.logspace(0, -9, n), "one large": torch.ones(n).index_fill(0, torch.tensor(0), 1e4),
        "repeated": torch.ones(n), "rank one": torch.eye(n)[0], "two clusters": torch.arange(n).remainder(2) + 1.0,
    }  # fmt: skip
    for values in spectra_.values():
        assert worst(scale * (left * values @ right.mT)) < 1e-13
        assert worst(scale * torch.diag(values)[None]) < 1e-15
        assert worst(scale * torch.diag(values.flip(0))[None], triangular=True) < 1e-15
    assert gram_values(torch.zeros(2, n, n)).eq(0).all()  # type: ignore[union-attr]


@NEEDS_C
@pytest.mark.parametrize("scale", [0.3, 1.0, 8.0])
def test_ranks_of_causal_patterns_are_those_of_a_float64_svd(scale: float) -> None:
    n = 160
    given_ = patterns(3, n, scale)
    wanted = torch.linalg.svdvals(given_.double())
    found = singular_values(given_, triangular=True)
    assert torch.equal(exact_rank(found, n), exact_rank(wanted, n))
    for measure in RATIOS:
        torch.testing.assert_close(measure(found), measure(wanted), rtol=1e-6, atol=0)


@NEEDS_C
def test_products_in_float32_would_miss_the_effective_rank() -> None:
    """The control: squaring in float32 lifts the many small singular values by 1e-4 of the largest."""
    given_ = patterns(3, 160, 8.0)
    wanted = torch.linalg.svdvals(given_.double())
    rounded = torch.linalg.eigvalsh(given_ @ given_.mT).flip(-1).clamp_min(0).sqrt()
    assert float((effective_rank(rounded) / effective_rank(wanted) - 1).abs().max()) > 1e-4
    assert not torch.equal(exact_rank(rounded, 160), exact_rank(wanted, 160))


@NEEDS_C
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_lower_precisions_and_strided_views_are_taken_as_they_are(dtype: torch.dtype) -> None:
    given_ = normal(3, 30, 20).to(dtype)
    assert worst(given_) < 1e-13 and worst(given_.mT) < 1e-13 and worst(given_[:, ::2, 3:]) < 1e-13


@NEEDS_C
def test_results_do_not_depend_on_threads_or_neighbours() -> None:
    given_, before = patterns(5, 70), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(gram_values(given_, triangular=True))
    finally:
        torch.set_num_threads(before)
    alone = torch.cat([gram_values(one[None], triangular=True) for one in given_])  # type: ignore[misc]
    for values in found:
        if values is not None:  # without OpenMP several threads are LAPACK's
            assert torch.equal(values, alone)


def test_lapack_serves_without_a_compiler_with_the_same_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    given_ = patterns(4, 50)
    wanted = torch.linalg.svdvals(given_.double())
    monkeypatch.setattr(spectra, "gram_values", lambda *_, **__: None)
    for triangular in (False, True):
        found = singular_values(given_, triangular=triangular)
        for measure in RATIOS:
            torch.testing.assert_close(measure(found), measure(wanted), rtol=1e-6, atol=0)


def test_switched_off_it_gives_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_NATIVE", "0")
    monkeypatch.setattr(gram, "NATIVE", native.Library("gram.c", gram._check, package="assay.probes"))
    assert gram_values(normal(2, 4, 4)) is None
    native._LIBRARIES["gram.c"] = NATIVE


@NEEDS_C
@pytest.mark.skipif(platform.machine() != "x86_64", reason="flags of x86-64")
def test_a_processor_without_wide_registers_leaves_it_to_lapack() -> None:
    narrow = native.Library("gram.c", gram._check, package="assay.probes", flags=(*NATIVE.flags, "-mno-avx"))
    native._LIBRARIES["gram.c"] = NATIVE
    assert narrow.load() is None and "AVX2" in narrow.reason


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("n", [1, 5, 30])
def test_what_is_not_finite_goes_to_lapack_which_says_so(bad: float, n: int) -> None:
    given_ = normal(3, n, n)
    given_[1, n // 2, 0] = bad
    assert gram_values(given_) is None
    if math.isnan(bad) and n > 1:
        with pytest.raises(RuntimeError):
            singular_values(given_)


def test_large_matrices_gradients_float64_and_transforms_go_elsewhere() -> None:
    assert gram_values(normal(1, gram.MOST_ROWS + 1, 2)) is None
    x = normal(2, 4, 4)
    assert gram_values(x.double()) is None and gram_values(x.int()) is None and gram_values(x[:0]) is None
    assert gram_values(x.requires_grad_()) is None
    singular_values(x).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None and bool(x.grad.isfinite().all())
    assert torch.func.vmap(singular_values)(x.detach()[:, None]).shape == (2, 1, 4)


@pytest.mark.parametrize("wrong", [lambda *_: 0, lambda *_: 1])
def test_a_library_with_other_results_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"gram\.c"):
        gram._check(SimpleNamespace(gram_values=wrong))  # type: ignore[arg-type]
