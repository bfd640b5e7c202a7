"""The product of a weight's gradient against float64, at sizes that end anywhere in a tile and a block."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from assay.nn.kernels import linear, outer

NEEDS_C = pytest.mark.skipif(outer.NATIVE.load() is None, reason=f"no C kernel here: {outer.NATIVE.reason}")


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def as_exact(a: Tensor, b: Tensor, product: Callable[[Tensor, Tensor], Tensor]) -> bool:
    """Within what float32 sums of so many terms allow, of float64."""
    exact, size = a.double().t() @ b.double(), a.abs().double().t() @ b.abs().double()
    return bool(((product(a, b).double() - exact).abs() <= 1e-6 * size + 1e-12).all())


@NEEDS_C
@settings(deadline=None, max_examples=100)
@given(
    seed=st.integers(0, 2**31), tokens=st.one_of(st.integers(1, 70), st.sampled_from([511, 512, 513, 1030])),
    rows=st.one_of(st.integers(1, 70), st.just(400)),
    columns=st.one_of(st.integers(1, 70), st.sampled_from([384, 450])),
    spare=st.sampled_from([0, 5]), threads=st.sampled_from([1, 2, 3]),
)  # fmt: skip
def test_any_sizes_equal_float64(seed: int, tokens: int, rows: int, columns: int, spare: int, threads: int) -> None:
    """`spare`: the matrices are columns of wider ones."""
    a, b = draw(seed, tokens, rows + spare)[:, :rows], draw(seed + 1, tokens, columns + spare)[:, :columns]
    torch.set_num_threads(threads)
    assert as_exact(a, b, outer._outer)


@NEEDS_C
@pytest.mark.parametrize("wrong", ["a block's sum written over the last one's", "a token less"])
def test_the_measure_sees_the_classic_mistakes(wrong: str) -> None:
    a, b = draw(0, 700, 20), draw(1, 700, 33)
    assert as_exact(a, b, outer._outer)
    less = slice(512, None) if wrong.startswith("a block") else slice(1, None)
    assert not as_exact(a, b, lambda a, b: outer._outer(a[less], b[less]))


@NEEDS_C
def test_threads_change_no_bit() -> None:
    a, b = draw(0, 1100, 100), draw(1, 1100, 50)
    found: list[Tensor] = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        found += [outer._outer(a, b), outer._outer(b, a).t()]
    assert all(torch.equal(found[0], other) for other in found[2::2])
    assert all(torch.equal(found[1], other) for other in found[3::2])


@pytest.mark.parametrize("case", ["float64", "empty", "derived again", "not preferred", "turned"])
def test_what_it_declines_goes_to_torch(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = draw(0, 40, 24), draw(1, 40, 16)
    monkeypatch.setattr(outer, "PREFERRED", case != "not preferred")
    monkeypatch.setattr(torch.ops.assay, "outer", lambda a, b: 1 / 0)
    if case == "float64":
        a, b = a.double(), b.double()
    if case == "empty":
        a, b = a[:0], b[:0]
    if case == "turned":
        a = draw(0, 24, 40).t()
    with torch.set_grad_enabled(case == "derived again"):
        torch.testing.assert_close(outer.outer(a, b), a.t() @ b)


@NEEDS_C
@pytest.mark.skipif(not linear._available(), reason="this torch has no oneDNN product")
def test_a_linear_maps_gradient_is_its_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "PREFERRED", True)
    monkeypatch.setattr(linear, "LEAST_WORK", 0)
    monkeypatch.setattr(outer, "PREFERRED", True)
    seen: list[int] = []
    real = torch.ops.assay.outer
    monkeypatch.setattr(torch.ops.assay, "outer", lambda a, b: (seen.append(1), real(a, b))[1])
    module, x = linear.Linear(40, 24, bias=False), draw(0, 2, 40, 40)
    module(x).square().sum().backward()
    assert seen == [1] and module.weight.grad is not None
    exact = module.weight.detach().double().requires_grad_()
    (x.double() @ exact.t()).square().sum().backward()
    torch.testing.assert_close(module.weight.grad.double(), exact.grad, rtol=1e-5, atol=1e-3)
