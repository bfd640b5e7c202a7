"""The product by either library: equal to float64, twice differentiable, and settled by the processor's maker."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import gradcheck

from assay.nn.kernels import linear

needs_onednn = pytest.mark.skipif(not linear._available(), reason="this torch has no oneDNN product")
EITHER = pytest.mark.parametrize("preferred", [pytest.param(True, marks=needs_onednn), False])


def _both(module: nn.Module, x: Tensor, slope: Tensor) -> list[Tensor]:
    """Output and the gradients of input, weight and bias."""
    module.zero_grad()
    x = x.detach().requires_grad_()
    y = module(x)
    y.backward(slope)
    return [y.detach(), *(grad for grad in (x.grad, *(p.grad for p in module.parameters())) if grad is not None)]


def _compare(ours: nn.Linear, x: Tensor) -> None:
    exact = nn.Linear(ours.in_features, ours.out_features, bias=ours.bias is not None).double()
    exact.load_state_dict(ours.state_dict())
    slope = torch.randn(*x.shape[:-1], ours.out_features)
    for got, true in zip(_both(ours, x, slope), _both(exact, x.double(), slope.double()), strict=True):
        torch.testing.assert_close(got.double(), true, rtol=1e-5, atol=1e-4)


@EITHER
@given(
    rows=st.tuples(st.integers(1, 3), st.integers(11, 40)),
    inputs=st.integers(1, 70),
    outputs=st.integers(1, 70),
    bias=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_outputs_and_gradients_equal_float64(preferred, rows, inputs, outputs, bias, seed) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear, "PREFERRED", preferred)
        patch.setattr(linear, "LEAST_WORK", 0)
        torch.manual_seed(seed)
        _compare(linear.Linear(inputs, outputs, bias=bias), torch.randn(*rows, inputs))


class _Unturned(linear._Product):
    """The classic mistake: the weight taken as it lies, which for square weights has the right shape."""

    @staticmethod
    def backward(ctx, grad):
        a, b = ctx.saved_tensors
        return grad @ b.t(), grad.flatten(0, -2).t() @ a.flatten(0, -2)


@needs_onednn
def test_a_forgotten_transpose_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "PREFERRED", True)
    monkeypatch.setattr(linear, "LEAST_WORK", 0)
    _compare(linear.Linear(16, 16), torch.randn(2, 32, 16))
    monkeypatch.setattr(linear, "_Product", _Unturned)
    with pytest.raises(AssertionError):
        _compare(linear.Linear(16, 16), torch.randn(2, 32, 16))


@needs_onednn
def test_the_product_can_be_derived_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """By differences in float32 of what is quadratic: exact but for rounding."""
    a = torch.randn(33, 4, requires_grad=True)
    b = torch.randn(5, 4, requires_grad=True)
    y = (linear._Product.apply(a, b) ** 2).sum()
    (d_a,) = torch.autograd.grad(y, a, create_graph=True)
    (dd_b,) = torch.autograd.grad((d_a**2).sum(), b)
    a64, b64 = a.detach().double().requires_grad_(), b.detach().double().requires_grad_()
    (e_a,) = torch.autograd.grad(((a64 @ b64.t()) ** 2).sum(), a64, create_graph=True)
    (ee_b,) = torch.autograd.grad((e_a**2).sum(), b64)
    torch.testing.assert_close(dd_b.double(), ee_b, rtol=1e-4, atol=1e-2)
    assert gradcheck(lambda p, q: (p @ q.t()) ** 2, (a64[:3], b64))  # what it is held against


@needs_onednn
@pytest.mark.parametrize(("preferred", "asked"), [(True, 1), (False, 0)])
def test_the_preference_decides(monkeypatch: pytest.MonkeyPatch, preferred: bool, asked: int) -> None:
    monkeypatch.setattr(linear, "PREFERRED", preferred)
    seen = []
    monkeypatch.setattr(linear._Product, "apply", lambda a, b: seen.append(1) or a @ b.t())
    linear.Linear(256, 1024, bias=False)(torch.randn(128, 256))
    assert len(seen) == asked


@pytest.mark.parametrize(("maker", "preferred"), [("GenuineIntel", False), ("AuthenticAMD", True), ("", True)])
def test_the_maker_settles_it(maker: str, preferred: bool) -> None:
    code = (
        f"from assay.runs import processor; processor.maker = lambda: {maker!r}\n"
        "from assay.nn.kernels import linear; print(linear.PREFERRED, linear._available())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    chosen, available = done.stdout.split()
    assert chosen == str(preferred and available == "True")
