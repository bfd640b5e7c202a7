"""SwiGLU's C kernel against float64, and where torch serves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from assay.nn.kernels import gated
from assay.nn.kernels.gated import silu_times

NEEDS_C = pytest.mark.skipif(gated.NATIVE.load() is None, reason=f"no C kernel here: {gated.NATIVE.reason}")


def exact(gate: Tensor, up: Tensor, dy: Tensor) -> list[Tensor]:
    """By torch's operators and autograd, in float64."""
    g, u = gate.detach().double().requires_grad_(), up.detach().double().requires_grad_()
    y = F.silu(g) * u
    return [y.detach(), *torch.autograd.grad(y, (g, u), dy.double())]


def ours(gate: Tensor, up: Tensor, dy: Tensor) -> list[Tensor]:
    g, u = gate.detach().requires_grad_(), up.detach().requires_grad_()
    y = silu_times(g, u)
    assert type(y.grad_fn).__name__ == "_GatedBackward", "the kernel is what ran"
    return [y.detach(), *torch.autograd.grad(y, (g, u), dy)]


@NEEDS_C
@given(
    seed=st.integers(0, 2**20), size=st.sampled_from([(1,), (15,), (3, 16), (2, 5, 33), (0, 4)]),
    spread=st.sampled_from([0.1, 3.0, 40.0, 1000.0]), threads=st.sampled_from([1, 2]), turned=st.booleans(),
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_values_and_gradients_equal_float64(
    seed: int, size: tuple[int, ...], spread: float, threads: int, turned: bool
) -> None:
    """`spread` 1000 goes far past where e^x overflows."""
    draw = torch.Generator().manual_seed(seed)
    gate, up, dy = (torch.randn(size, generator=draw) * by for by in (spread, 1.0, 1.0))
    gate = gate.flip(0).t().contiguous().t() if turned and gate.dim() == 2 else gate
    torch.set_num_threads(threads)
    before, gated.native.SHARE = gated.native.SHARE, 16
    try:
        found = ours(gate, up, dy)
    finally:
        gated.native.SHARE = before
    for one, other in zip(found, exact(gate, up, dy), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=2e-6, atol=2e-6 * max(spread, 1.0))


@NEEDS_C
def test_it_is_as_exact_as_torchs_own() -> None:
    gate, up, dy = (torch.randn(10_000, generator=torch.Generator().manual_seed(n)) * 3 for n in range(3))
    g, u = gate.clone().requires_grad_(), up.clone().requires_grad_()
    y = F.silu(g) * u
    theirs = [y.detach(), *torch.autograd.grad(y, (g, u), dy)]
    for one, other, right in zip(ours(gate, up, dy), theirs, exact(gate, up, dy), strict=True):
        assert (one - right).norm() <= 1.5 * (other - right).norm()


@NEEDS_C
def test_classic_mistakes_are_caught() -> None:
    """Controls: the slope without its second term, and the two gradients exchanged."""
    gate, up, dy = (torch.randn(64, generator=torch.Generator().manual_seed(n)) for n in range(3))
    _, d_gate, d_up = ours(gate, up, dy)
    s = torch.sigmoid(gate)
    assert not torch.allclose(d_gate, dy * up * s, rtol=1e-2)
    assert not torch.allclose(d_gate, d_up, rtol=1e-2)


@NEEDS_C
def test_what_is_not_a_number_is_seen() -> None:
    gate, up = torch.randn(3, 32), torch.randn(3, 32)
    gate[0, 3], up[1, 5], gate[2, 7], gate[2, 8] = torch.nan, torch.nan, torch.inf, -torch.inf
    y = silu_times(gate, up)
    assert y[0, 3].isnan() and y[1, 5].isnan() and y[2, 7].isinf() and y[2, 8].isnan()
    assert torch.equal(y.isfinite(), (F.silu(gate) * up).isfinite())


@NEEDS_C
def test_second_derivatives() -> None:
    def second(dtype: torch.dtype) -> tuple[Tensor, ...]:
        g, u = (torch.randn(24, generator=torch.Generator().manual_seed(n)).to(dtype).requires_grad_() for n in (1, 2))
        first = torch.autograd.grad(silu_times(g, u).sin().sum(), (g, u), create_graph=True)
        return torch.autograd.grad(sum(d.square().sum() for d in first), (g, u))

    for one, other in zip(second(torch.float32), second(torch.float64), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-4)


def test_where_torch_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    g, u = torch.randn(3, 8), torch.randn(3, 8)
    wanted = F.silu(g) * u

    def refuse(*a: Any) -> Tensor:
        raise AssertionError("the kernel ran")

    monkeypatch.setattr(gated, "_forward", refuse)
    assert torch.equal(torch.vmap(silu_times)(g, u), wanted)
    assert torch.equal(silu_times(g, u[:1]), F.silu(g) * u[:1])
    assert silu_times(g.bfloat16(), u.bfloat16()).dtype == torch.bfloat16
    assert silu_times(g.to("meta"), u.to("meta")).device.type == "meta"
    monkeypatch.setattr(gated.NATIVE, "handle", None)
    assert torch.equal(silu_times(g, u), wanted)
