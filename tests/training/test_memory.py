"""The peak of live tensor bytes, against sums that can be done by hand."""

import torch
from torch import nn

from assay.training.memory import optimizer_bytes, peak_bytes, tensor_bytes


def test_what_is_alive_together_counts_together() -> None:
    def together() -> None:
        a = torch.empty(1000, dtype=torch.float32)
        b = torch.empty(500, dtype=torch.float64)
        del a, b

    def in_turn() -> None:
        a = torch.empty(1000, dtype=torch.float32)
        del a
        b = torch.empty(500, dtype=torch.float64)
        del b

    assert peak_bytes(together, held=0) == 8000
    assert peak_bytes(in_turn, held=0) == 4000
    assert peak_bytes(in_turn, held=7) == 4007


def test_saved_activations_and_gradients_count() -> None:
    layers = nn.Sequential(*[nn.Sequential(nn.Linear(64, 64, bias=False), nn.Tanh()) for _ in range(4)])
    x = torch.randn(1024, 64)

    def step() -> None:
        layers(x).sum().backward()

    activation, weight = 1024 * 64 * 4, 64 * 64 * 4
    peak = peak_bytes(step, held=0)
    assert peak is not None
    # Each tanh keeps its output; the product before it is alive while the last tanh runs; backward adds two.
    assert 5 * activation <= peak <= 7 * activation + 4 * weight


def test_shared_storages_count_once() -> None:
    a = torch.empty(10)
    assert tensor_bytes([a, a[:5], a.view(2, 5), torch.empty(3)]) == 52


def test_optimizer_bytes_are_those_of_adamw() -> None:
    model = nn.Linear(8, 4)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    model(torch.ones(1, 8)).sum().backward()
    optimizer.step()
    moments = [s[name] for s in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    assert optimizer_bytes(model.parameters()) == tensor_bytes(moments)
