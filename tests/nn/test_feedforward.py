"""Feed-forwards and experts against loops; activations against their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from tests.nn.common import close, filled, small
from torch import Tensor

from assay.nn.feedforward import ACTIVATIONS, Experts, FeedForward, make_feedforward
from assay.spec.axes import Activation
from assay.spec.placement import NOTHING

FORMULAS = {
    "relu": lambda x: torch.where(x > 0, x, 0.0),
    "gelu": lambda x: x * (1 + torch.erf(x / math.sqrt(2))) / 2,
    "gelu_tanh": lambda x: x / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x / (1 + torch.exp(-x)),
    "relu2": lambda x: torch.where(x > 0, x * x, 0.0),
}


def stream() -> Tensor:
    return torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("name", [str(kind) for kind in Activation])
def test_activations(name: str) -> None:
    x = torch.linspace(-6, 6, 101, dtype=torch.float64)
    close(ACTIVATIONS[Activation(name)](x), FORMULAS[name](x), 1e-12)
    others = [other for other in FORMULAS if other != name]
    assert all(not torch.allclose(FORMULAS[name](x), FORMULAS[other](x), atol=1e-6) for other in others)


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_plain_and_gated(gated: bool, bias: bool) -> None:
    m, x = filled(make_feedforward(small(feedforward={"gated": gated, "bias": bias}), "decoder", NOTHING)), stream()
    assert isinstance(m, FeedForward)

    def line(layer: torch.nn.Linear, x: Tensor) -> Tensor:
        y = torch.einsum("...i,oi->...o", x, layer.weight)
        return y if layer.bias is None else y + layer.bias

    act = FORMULAS["silu"]
    wide = act(line(m.gate, x)) * line(m.up, x) if m.gate is not None else act(line(m.up, x))
    close(m(x), line(m.down, wide), 1e-10)
    assert (m.down.bias is not None) == bias and (m.gate is not None) == gated


@pytest.mark.parametrize("active", [1, 2, 4])
def test_experts_are_weighted_by_the_router(active: int) -> None:
    """Mixtral: softmax over all experts, the best `active` of them made to sum to 1."""
    spec = small(feedforward={"experts": {"count": 4, "active": active}})
    m, x = filled(make_feedforward(spec, "decoder", NOTHING)), stream()
    assert isinstance(m, Experts)
    expected = torch.zeros_like(x)
    for place in [(b, s) for b in range(2) for s in range(5)]:
        share = torch.softmax(m.router.weight @ x[place], 0)
        best = share.argsort(descending=True)[:active]
        for expert in best:
            expected[place] += share[expert] / share[best].sum() * m.experts[expert](x[place])
    close(m(x), expected, 1e-10)
    m(x).square().sum().backward()
    assert m.router.weight.grad is not None
    assert bool((m.router.weight.grad.abs() > 1e-9).any()) == (active > 1), "one expert's weight is always 1"


def test_dropout_in_training_alone() -> None:
    m, x = filled(make_feedforward(small(feedforward={"dropout": 0.5}), "decoder", NOTHING)), stream()
    assert not torch.equal(m(x), m(x))
    m.eval()
    assert torch.equal(m(x), m(x))
