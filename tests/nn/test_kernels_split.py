"""Products by tiles of bfloat16 parts: as good as float32's own, in every layout; and chosen only where they can be."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from assay.nn.kernels import linear, split

TILES = split._has_tiles() and split.NATIVE.load() is not None
needs_tiles = pytest.mark.skipif(not TILES, reason="this processor has no tiles of bfloat16 (AMX)")


def matrix(rows: int, depth: int, turned: bool, seed: int, scale: float = 1.0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return scale * (
        torch.randn(depth, rows, generator=draw).t() if turned else torch.randn(rows, depth, generator=draw)
    )


def error(found: Tensor, a: Tensor, b: Tensor) -> float:
    """Largest error, in roundings of float32, of the sum of magnitudes that each element is made of."""
    exact, size = a.double() @ b.double().t(), a.double().abs() @ b.double().abs().t()
    return float(((found.double() - exact).abs() / size.clamp_min(1e-300)).max()) * 2**24


def bound(depth: int) -> float:
    """Roundings allowed: what is left out (three products of parts, each under one), and a sum in float32 whose partial
    sums, of numbers of both signs, grow as the root of what has been added."""
    return 4 + math.sqrt(depth) / 4


@needs_tiles
@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 300), st.integers(1, 100), st.integers(1, 700), st.booleans(), st.booleans(),
    st.integers(-60, 60), st.integers(0, 2**32),
)  # fmt: skip
def test_every_shape_layout_and_size_of_numbers_is_as_good_as_float32(
    m: int, n: int, k: int, turn_a: bool, turn_b: bool, power: int, seed: int
) -> None:
    a, b = matrix(m, k, turn_a, seed, 2.0**power), matrix(n, k, turn_b, seed + 1)
    assert error(split.product(a, b), a, b) < bound(k)


@needs_tiles
def test_the_bound_tells_two_parts_from_three() -> None:
    a, b = matrix(64, 32, False, 0), matrix(64, 32, False, 1)

    def parts(x: Tensor) -> list[Tensor]:
        high = x.bfloat16().float()
        return [high, (x - high).bfloat16().float()]

    (ah, am), (bh, bm) = parts(a), parts(b)
    two = ah.double() @ bh.double().t() + ah.double() @ bm.double().t() + am.double() @ bh.double().t()
    assert error(two, a, b) > 4 * bound(32)  # the classic saving: bf16x2
    assert error(split.product(a, b), a, b) < bound(32)


@needs_tiles
@pytest.mark.parametrize("rows", [40, 700])  # one block of rows, and several
def test_a_product_is_added_to_what_is_there(rows: int) -> None:
    a, b = matrix(rows, 600, True, 0), matrix(70, 600, True, 1)
    total = torch.randn(rows, 70, generator=torch.Generator().manual_seed(2))
    wanted = total.double() + a.double() @ b.double().t()
    split._multiply(a, b, total, add=True)
    torch.testing.assert_close(total.double(), wanted, rtol=1e-5, atol=1e-4)


@needs_tiles
def test_threads_do_not_change_a_bit() -> None:
    a, b = matrix(600, 520, False, 0), matrix(300, 520, True, 1)
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(split.product(a, b))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@needs_tiles
def test_what_is_not_finite_stays_so_and_stays_in_its_row() -> None:
    a, b = matrix(64, 64, False, 0), matrix(64, 64, False, 1)
    a[3, 5], a[7, 9] = math.nan, math.inf
    found = split.product(a, b)
    assert not found[[3, 7]].isfinite().any()
    keep = [row for row in range(64) if row not in (3, 7)]
    assert found[keep].isfinite().all()


@needs_tiles
def test_gradients_of_a_linear_map_by_parts() -> None:
    x, w = matrix(4 * 128, 96, False, 0).view(4, 128, 96).requires_grad_(), matrix(512, 96, False, 1).requires_grad_()
    assert split.suits(x.detach(), w.detach())
    assert split.suits(x.detach().flatten(0, 1).t(), w.detach().t()) is False  # 96 x 96 by 512: other depths
    linear.fast_linear(x, w, None).square().sum().backward()
    wide = [t.detach().double().requires_grad_() for t in (x, w)]
    (wide[0] @ wide[1].t()).square().sum().backward()
    for mine, exact in zip((x, w), wide, strict=True):
        assert mine.grad is not None and exact.grad is not None
        assert float((mine.grad - exact.grad).norm() / exact.grad.norm()) < 1e-6


@needs_tiles
def test_a_linear_map_by_parts_can_be_differentiated_twice() -> None:
    x, w = matrix(256, 256, False, 0).requires_grad_(), matrix(256, 256, False, 1).requires_grad_()
    (first,) = torch.autograd.grad(linear.fast_linear(x, w, None).pow(3).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), w)
    wide = [t.detach().double().requires_grad_() for t in (x, w)]
    (one,) = torch.autograd.grad((wide[0] @ wide[1].t()).pow(3).sum(), wide[0], create_graph=True)
    (two,) = torch.autograd.grad(one.sum(), wide[1])
    assert float((second - two).norm() / two.norm()) < 1e-5


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (torch.ones(8, 512), torch.ones(4096, 512)),  # few rows
        (torch.ones(512, 8), torch.ones(512, 8)),  # short sums
        (torch.ones(64, 64), torch.ones(64, 64)),  # little work
        (torch.ones(512, 512, dtype=torch.float64), torch.ones(512, 512, dtype=torch.float64)),
        (torch.ones(512, 0), torch.ones(512, 0)),
    ],
)
def test_small_or_other_products_are_left_to_torch(a: Tensor, b: Tensor) -> None:
    assert not split.suits(a, b)


def test_without_tiles_the_same_comes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = matrix(256, 256, False, 0), matrix(256, 256, True, 1)
    found = torch.ops.assay.product(a, b)
    monkeypatch.setattr(split, "_has_tiles", lambda: False)
    assert not split.suits(a, b)
    torch.testing.assert_close(found, torch.ops.assay.product(a, b), rtol=1e-4, atol=1e-4)
    total = torch.zeros(256, 256)
    split.add_product(total, a, b)
    torch.testing.assert_close(total, found, rtol=1e-4, atol=1e-4)
