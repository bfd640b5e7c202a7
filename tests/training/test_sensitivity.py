"""Learning-rate sensitivity by its definition."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import UserError
from assay.training.sensitivity import sensitivity

SWEEP = st.lists(
    st.tuples(st.floats(-9, 0), st.floats(0, 6)), min_size=2, max_size=9, unique_by=lambda p: round(p[0], 3)
)


def test_an_even_sweep_by_hand() -> None:
    rates = [1e-3, 1e-2, 1e-1]
    assert sensitivity(rates, [3.0, 2.0, 5.0], 4.0) == pytest.approx((0.5 * 1 + 0 + 0.5 * 2) / 2)
    assert sensitivity(rates, [2.0, 2.0, 2.0], 4.0) == 0
    assert sensitivity(rates, [math.nan, 2.0, math.inf], 4.0) == pytest.approx(1.0), (
        "a divergence counts as nothing learned"
    )


def test_wide_gaps_weigh_more() -> None:
    """The control: a plain mean over the rates would give them equal weight."""
    uneven = sensitivity([1e-4, 1e-2, 2e-2], [4.0, 2.0, 2.0], 5.0)
    assert uneven == pytest.approx(np.log(100) / np.log(200) * 1.0)
    assert uneven != pytest.approx(2 / 3)


@given(SWEEP, st.floats(6, 9), st.randoms())
def test_properties(points: list[tuple[float, float]], start: float, random) -> None:
    rates, losses = [math.exp(r) for r, _ in points], [loss for _, loss in points]
    value = sensitivity(rates, losses, start)
    assert 0 <= value <= start - min(losses) + 1e-12
    order = list(range(len(points)))
    random.shuffle(order)
    assert sensitivity([rates[i] for i in order], [losses[i] for i in order], start) == pytest.approx(value)
    assert sensitivity([7 * r for r in rates], losses, start) == pytest.approx(value), "the unit of the rate is nothing"
    assert sensitivity(rates, [loss + 1 for loss in losses], start + 1) == pytest.approx(value, abs=1e-9)
    finer = [*rates, math.sqrt(sorted(rates)[0] * sorted(rates)[1])]
    ranked = sorted(zip(rates, losses, strict=True))
    assert sensitivity(finer, [*losses, (ranked[0][1] + ranked[1][1]) / 2], start) == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize(
    ("rates", "losses"), [([1e-3], [1.0]), ([1e-3, 1e-3], [1.0, 2.0]), ([0.0, 1.0], [1.0, 2.0]), ([1e-3, 1e-2], [1.0])]
)
def test_what_is_no_sweep_is_refused(rates: list[float], losses: list[float]) -> None:
    with pytest.raises(UserError):
        sensitivity(rates, losses, 3.0)
    with pytest.raises(UserError, match="finite"):
        sensitivity([1e-3, 1e-2], [1.0, 2.0], math.nan)
