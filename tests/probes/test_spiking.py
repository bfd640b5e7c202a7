"""Spikes by the stated rule: planted ones are found, falling and noisy curves have none."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.probes import SpikeRule, spikes


def curve(steps: int = 300, noise: float = 0.03, seed: int = 0) -> list[float]:
    draw = np.random.default_rng(seed)
    return list(2 + 5 * np.exp(-np.arange(steps) / 60) + noise * draw.standard_normal(steps))


@given(st.integers(0, 500), st.floats(0, 0.05))
def test_a_falling_noisy_curve_has_none(seed: int, noise: float) -> None:
    assert spikes(curve(noise=noise, seed=seed)) == []


@given(st.integers(100, 280), st.floats(1.5, 5))
def test_a_planted_spike_is_found_where_it_is(at: int, height: float) -> None:
    losses = curve()
    for offset, share in enumerate((1.0, 0.9, 0.8)):
        losses[at + offset] += height * share
    (found,) = spikes(losses)
    assert found.start == at and found.end == at + 2
    assert found.height == pytest.approx(height, abs=0.6)


def test_spikes_near_one_another_are_one_and_apart_are_two() -> None:
    losses = curve()
    losses[100] += 2
    losses[103] += 2
    assert len(spikes(losses)) == 1
    losses[150] += 2
    assert [s.start for s in spikes(losses)] == [100, 150]
    assert len(spikes(losses, SpikeRule(apart=1))) == 3


def test_not_finite_is_a_spike_from_the_first_step_on() -> None:
    assert spikes([math.nan]) == spikes([math.inf])
    losses = curve()
    losses[200] = math.nan
    (found,) = spikes(losses)
    assert (found.start, found.height) == (200, math.inf)


def test_a_loss_that_never_returns_is_one_spike() -> None:
    losses = curve()
    losses[200:] = [9.0] * 100
    (found,) = spikes(losses)
    assert (found.start, found.end) == (200, 299)


@given(st.floats(-10, 10), st.integers(100, 280))
def test_a_constant_added_changes_nothing(shift: float, at: int) -> None:
    losses = curve()
    losses[at] += 3
    moved = spikes([loss + shift for loss in losses])
    assert [(s.start, s.end) for s in moved] == [(s.start, s.end) for s in spikes(losses)]


def test_the_rule_is_what_it_says() -> None:
    """The control: under a laxer rule the same noise is full of spikes; the words hold the numbers."""
    losses = curve(noise=0.2)
    assert len(spikes(losses, SpikeRule(k=1, least=0))) > 5
    assert "6 x 1.4826" in str(SpikeRule()) and "0.1 nats" in str(SpikeRule())
