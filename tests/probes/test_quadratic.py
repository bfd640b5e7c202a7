"""Thresholds of gradient descent and momentum, shown by iterating."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import UserError
from assay.probes.quadratic import converges, descend, radius, threshold

CURVATURES = st.lists(st.floats(0.05, 20), min_size=1, max_size=5)


@given(CURVATURES, st.floats(0, 0.9))
@settings(max_examples=50)
def test_the_threshold_is_exact(curvatures: list[float], momentum: float) -> None:
    edge = threshold(max(curvatures), momentum)
    assert converges(curvatures, 0.999 * edge, momentum=momentum, steps=6000)
    assert not converges(curvatures, 1.001 * edge, momentum=momentum, steps=6000)


@given(st.floats(0.05, 20), st.floats(0, 0.95))
def test_the_radius_is_one_at_the_threshold(curvature: float, momentum: float) -> None:
    edge = threshold(curvature, momentum)
    assert radius(curvature, edge, momentum) == pytest.approx(1.0, rel=1e-9)
    assert radius(curvature, 0.9 * edge, momentum) < 1 < radius(curvature, 1.1 * edge, momentum)


def test_momentum_moves_the_threshold_up() -> None:
    """The control: a rate between 2 / lambda and (2 + 2 beta) / lambda diverges without momentum alone."""
    assert threshold(4.0) == 0.5 and threshold(4.0, 0.9) == pytest.approx(0.95)
    assert not converges([4.0, 1.0], 0.7)
    assert converges([4.0, 1.0], 0.7, momentum=0.9)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_steps_are_those_of_torch(momentum: float) -> None:
    matrix = np.array([[2.0, 0.3], [0.3, 1.0]])
    x = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([x], lr=0.2, momentum=momentum)
    points = [x.detach().numpy().copy()]
    for _ in range(20):
        optimizer.zero_grad()
        (0.5 * x @ torch.tensor(matrix) @ x).backward()
        optimizer.step()
        points.append(x.detach().numpy().copy())
    np.testing.assert_allclose(descend(matrix, [1.0, -2.0], 0.2, 20, momentum=momentum), np.stack(points), rtol=1e-12)


@given(st.floats(0.05, 5), st.floats(0.01, 0.4))
def test_a_coordinate_decays_by_one_minus_rate_times_curvature(curvature: float, rate: float) -> None:
    points = descend([curvature], [1.0], rate, 10)
    np.testing.assert_allclose(points[:, 0], (1 - rate * curvature) ** np.arange(11), rtol=1e-9, atol=1e-12)


def test_small_rates_crawl_and_large_ones_overflow_to_infinity() -> None:
    assert descend([1.0], [1.0], 1e-4, 1000)[-1, 0] > 0.9
    assert not np.isfinite(descend([1.0], [1.0], 10.0, 2000)).all()


def test_impossible_values_are_refused() -> None:
    with pytest.raises(UserError, match="momentum = 1"):
        threshold(1.0, 1.0)
    with pytest.raises(UserError, match="largest = 0"):
        threshold(0.0)
