"""Decay groups and clipping."""

import math

import pytest
import torch
from torch import nn

from assay.spec.training import OptimizerSpec
from assay.training.optimizer import adamw, clipped_step, decay_groups


class Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 4)
        self.linear = nn.Linear(4, 10)
        self.linear.weight = self.embedding.weight  # tied
        self.norm = nn.LayerNorm(4)
        self.alpha = nn.Parameter(torch.tensor(0.5))
        self.frozen = nn.Parameter(torch.ones(3, 3), requires_grad=False)


def test_matrices_decay_and_nothing_else() -> None:
    model = Parts()
    decayed, kept = decay_groups(model, 0.1)
    assert [id(p) for p in decayed["params"]] == [id(model.embedding.weight)], "the tied matrix is there once"
    assert decayed["weight_decay"] == 0.1
    wanted = {id(p) for p in (model.linear.bias, model.norm.weight, model.norm.bias, model.alpha)}
    assert {id(p) for p in kept["params"]} == wanted
    assert kept["weight_decay"] == 0.0


def test_a_step_without_gradient_shrinks_matrices_only() -> None:
    model = Parts()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = adamw(model, OptimizerSpec(learning_rate=0.1, weight_decay=0.5))
    for p in model.parameters():
        if p.requires_grad:
            p.grad = torch.zeros_like(p)
    optimizer.step()
    after = dict(model.named_parameters())
    torch.testing.assert_close(after["embedding.weight"], before["embedding.weight"] * (1 - 0.1 * 0.5))
    for name in ("linear.bias", "norm.weight", "norm.bias", "alpha", "frozen"):
        assert torch.equal(after[name], before[name]), name


def test_adamw_equals_the_formula() -> None:
    model = nn.Linear(3, 2, bias=False)
    spec = OptimizerSpec(learning_rate=0.01, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.1)
    optimizer = adamw(model, spec)
    weight = model.weight.detach().double().clone()
    m = v = torch.zeros_like(weight)
    generator = torch.Generator().manual_seed(0)
    for step in range(1, 4):
        gradient = torch.randn(2, 3, generator=generator)
        model.weight.grad = gradient.clone()
        optimizer.step()
        g = gradient.double()
        m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g**2
        weight = weight * (1 - 0.01 * 0.1)
        weight = weight - 0.01 * (m / (1 - 0.9**step)) / ((v / (1 - 0.95**step)).sqrt() + 1e-8)
    torch.testing.assert_close(model.weight.detach().double(), weight, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("most", "after"), [(1.0, 1.0), (10.0, 5.0), (0.0, 5.0)])
@pytest.mark.parametrize("kind", ["sgd", "adamw", "adamw in float64"])
def test_clip_by_the_global_norm(most: float, after: float, kind: str) -> None:
    a, b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(2, 2))
    if kind == "adamw in float64":
        a, b = nn.Parameter(a.detach().double()), nn.Parameter(b.detach().double())
    model = nn.ParameterList([a, b])
    # With eps = 1e6 AdamW's first step is the rate times the gradient over 1e6: it shows what reached it.
    say = OptimizerSpec(learning_rate=1e6, eps=1e6, weight_decay=0.0)
    optimizer = torch.optim.SGD([a, b], lr=1.0) if kind == "sgd" else adamw(model, say)
    for _ in range(2):  # torch makes AdamW's state in the first step, and the kernel may serve in the second
        for p in (a, b):
            p.data.zero_()
        for state in optimizer.state.values():
            for value in state.values():
                if isinstance(value, torch.Tensor):
                    value.zero_()
        a.grad, b.grad = a.new_tensor([3.0]), b.new_tensor([[4.0, 0], [0, 0]])
        assert clipped_step(optimizer, most) == pytest.approx(5.0)
        moved = torch.cat([a.detach(), b.detach().flatten()])
        assert moved.norm().item() == pytest.approx(after, rel=1e-4)
        assert moved[1] / moved[0] == pytest.approx(4 / 3, rel=1e-4)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nothing_is_applied_where_a_gradient_is_not_finite(bad: float) -> None:
    model = nn.Linear(3, 2)
    optimizer = adamw(model, OptimizerSpec())
    before = model.weight.detach().clone()
    model.weight.grad, model.bias.grad = torch.ones(2, 3), torch.tensor([0.0, bad])
    assert not math.isfinite(clipped_step(optimizer, 1.0))
    assert torch.equal(model.weight, before) and not optimizer.state
