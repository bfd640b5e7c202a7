"""Sharpness: exact on quadratics, and against dense Hessians got another way."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.probes.common import assert_untouched, batch_of, made, spec_of, state
from torch import Tensor, nn

from assay.nn.batch import to_tensors
from assay.nn.loss import loss_sum
from assay.nn.transformer import Transformer
from assay.probes import sharpness
from assay.probes.curvature import hessian, lanczos, mean_loss, power_iteration

WIDE = {"dtype": torch.float64}


def symmetric(values: list[float], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    turn, _ = torch.linalg.qr(torch.randn(len(values), len(values), generator=generator, dtype=torch.float64))
    return turn @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ turn.T


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=12), st.integers(0, 1000))
@settings(max_examples=60)
def test_lanczos_finds_both_ends_of_any_spectrum(values: list[float], seed: int) -> None:
    matrix = symmetric(values, seed)
    found = lanczos(lambda v: matrix @ v, len(values), tolerance=1e-10, seed=seed, **WIDE)
    assert found.largest == pytest.approx(max(values), abs=1e-6 + found.residual)
    assert found.products <= len(values)


def test_a_quadratic_loss_has_its_own_matrix() -> None:
    matrix = symmetric([3.0, 1.0, 0.5, -0.25], 0)
    x = torch.randn(4, dtype=torch.float64, requires_grad=True)
    product, size = hessian(lambda: 0.5 * x @ matrix @ x, [x])
    assert size == 4
    for v in torch.eye(4, dtype=torch.float64):
        torch.testing.assert_close(product(v), matrix @ v)
    assert lanczos(product, size, tolerance=1e-10, **WIDE).largest == pytest.approx(3.0, rel=1e-9)
    found = power_iteration(product, size, iterations=2000, tolerance=1e-8, **WIDE)
    assert found.largest == pytest.approx(3.0, rel=1e-8) and found.converged


@pytest.mark.parametrize("values", [[2.0, 1.0, -7.0], [-1.0, -2.0, -3.0]])
def test_power_iteration_is_not_fooled_by_a_larger_negative_end(values: list[float]) -> None:
    matrix = symmetric(values, 1)
    found = power_iteration(lambda v: matrix @ v, 3, iterations=5000, tolerance=1e-6, **WIDE)
    assert found.largest == pytest.approx(max(values), rel=1e-4)
    assert found.smallest == pytest.approx(min(values), rel=1e-4)


def test_an_unfinished_search_says_so() -> None:
    matrix = torch.diag(torch.linspace(0, 1, 400, dtype=torch.float64))
    found = lanczos(lambda v: matrix @ v, 400, iterations=3, tolerance=1e-6, **WIDE)
    assert not found.converged and found.products == 3
    assert abs(1 - found.largest) > 1e-4, "the control: three products are too few"


def test_a_small_network_against_its_dense_hessian() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    x, y = torch.randn(7, 3, dtype=torch.float64), torch.randint(0, 2, (7,))
    names, values = zip(*net.named_parameters(), strict=True)
    sizes = [p.numel() for p in values]

    def loss(flat: Tensor) -> Tensor:
        parts = {n: f.view_as(p) for n, f, p in zip(names, flat.split(sizes), values, strict=True)}
        return F.cross_entropy(torch.func.functional_call(net, parts, (x,)), y)

    dense = torch.autograd.functional.hessian(loss, torch.cat([p.detach().flatten() for p in values]))
    product, size = hessian(lambda: F.cross_entropy(net(x), y), values)
    for v in torch.randn(3, size, dtype=torch.float64):
        torch.testing.assert_close(product(v), dense @ v)
    assert lanczos(product, size, tolerance=1e-9, **WIDE).largest == pytest.approx(
        float(torch.linalg.eigvalsh(dense)[-1]), rel=1e-7
    )


def dense_hessian(model: Transformer, batch) -> Tensor:
    """By central differences of the training loss's gradients: another loss, another attention, no second graph."""
    rows, parameters = to_tensors(batch), list(model.parameters())

    def gradient() -> Tensor:
        found = loss_sum(model, rows)
        grads = torch.autograd.grad(found.total / found.weight, parameters, allow_unused=True)
        return torch.cat(
            [
                torch.zeros_like(p).flatten() if g is None else g.flatten()
                for g, p in zip(grads, parameters, strict=True)
            ]
        )

    columns, h = [], 1e-5
    for p in parameters:
        flat = p.data.view(-1)
        for i in range(p.numel()):
            kept = float(flat[i])
            flat[i] = kept + h
            ahead = gradient()
            flat[i] = kept - h
            columns.append((ahead - gradient()) / (2 * h))
            flat[i] = kept
    return torch.stack(columns)


@pytest.mark.parametrize(
    "fields",
    [
        {"placement": "post", "norm": "layernorm"},
        {"placement": "pre", "positions": "alibi"},
        {"family": "encoder_decoder", "layers": 1},
    ],
)
def test_a_transformer_against_its_dense_hessian(fields: dict) -> None:
    spec = spec_of(width=4, attention={"heads": 2}, **{"layers": 1, **fields}, feedforward={"width": 4})
    model, batch = made(spec).eval(), batch_of(fields.get("family", "causal"), rows=2, length=4, room=5)
    dense = dense_hessian(model, batch)
    torch.testing.assert_close(dense, dense.T, rtol=1e-4, atol=1e-6)
    expected = torch.linalg.eigvalsh((dense + dense.T) / 2)
    before = state(model)
    model.train()
    found = sharpness(model, batch, iterations=200, tolerance=1e-8)
    assert_untouched(model, before)
    assert model.training
    assert found.largest == pytest.approx(float(expected[-1]), rel=1e-5)
    assert found.smallest >= float(expected[0]) * (1 + 1e-4)
    power = sharpness(model, batch, method="power", iterations=5000, tolerance=1e-4)
    assert power.largest == pytest.approx(float(expected[-1]), rel=1e-3)


def test_the_loss_is_the_training_loss() -> None:
    model, batch = made(spec_of()), batch_of(room=8)
    found = loss_sum(model, to_tensors(batch))
    assert float(mean_loss(model, batch).detach()) == pytest.approx(
        float(found.total.detach()) / found.weight, rel=1e-12
    )


def test_the_training_loss_itself_has_no_second_derivative() -> None:
    model, rows = made(spec_of()), to_tensors(batch_of())
    with pytest.raises(RuntimeError, match="second derivative"):
        torch.autograd.grad(loss_sum(model, rows).total, list(model.parameters()), create_graph=True)


def test_float32_agrees_with_float64() -> None:
    batch = batch_of(rows=4, length=8)
    both = [
        sharpness(made(spec_of(placement="pre"), dtype=d), batch, tolerance=1e-4).largest
        for d in ("float32", "float64")
    ]
    assert both[0] == pytest.approx(both[1], rel=1e-3)
