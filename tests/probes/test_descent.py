"""Bare steps with scaled gradients, on a tiny decoder; two wells."""

import numpy as np
import pytest
from tests.probes.common import assert_untouched, batch_of, made, spec_of, state

from assay.errors import UserError
from assay.probes.descent import descend
from assay.probes.double_well import descend as slide
from assay.probes.double_well import ends, minima
from assay.probes.quadratic import threshold


def test_a_scaled_gradient_shrinks_gradient_descents_step_and_not_adams() -> None:
    model, batches = made(spec_of()), [batch_of(seed=1), batch_of(seed=2)]
    before = state(model)
    plain, small = (descend(model, batches, rule="gd", rate=0.1, steps=4, scale=c) for c in (1.0, 1e-4))
    assert small.first_step == pytest.approx(1e-4 * plain.first_step, rel=1e-6)
    assert plain.first_step == pytest.approx(0.1 * plain.gradient, rel=1e-6)
    # A factor on the gradient is a factor on the rate.
    slow = descend(model, batches, rule="gd", rate=0.1e-4, steps=4)
    assert slow.losses == pytest.approx(small.losses, rel=1e-12)
    steady, same = (descend(model, batches, rule="adam", rate=1e-2, steps=4, scale=c, eps=1e-30) for c in (1.0, 1e-4))
    assert same.first_step == pytest.approx(steady.first_step, rel=1e-6)
    assert same.losses == pytest.approx(steady.losses, rel=1e-6) and len(same.losses) == 3
    stuck = descend(model, batches, rule="adam", rate=1e-2, steps=1, scale=1e-12, eps=1e-8)
    assert stuck.first_step < 0.01 * steady.first_step, "far under eps Adam does not cancel the scale"
    assert_untouched(model, before)


def test_too_large_a_rate_loses_the_loss() -> None:
    model = made(spec_of())
    assert descend(model, [batch_of()], rule="gd", rate=1e6, steps=2).fall < -1e3
    assert descend(model, [batch_of()], rule="gd", rate=1e-2, steps=20).fall > 0


def test_bad_settings_are_told() -> None:
    with pytest.raises(UserError, match="rule"):
        descend(made(spec_of()), [batch_of()], rule="newton", rate=1, steps=1)
    with pytest.raises(UserError, match="above 0"):
        descend(made(spec_of()), [], rule="gd", rate=1, steps=1)


def test_small_rates_stay_in_the_shallow_well_and_large_ones_leave_it() -> None:
    tilt = 0.3
    deep, shallow = minima(tilt)
    assert deep < 0 < shallow and 4 * deep**3 - 4 * deep + tilt == pytest.approx(0, abs=1e-9)
    starts = list(np.linspace(0.6, 1.4, 21))
    assert ends(starts, 1e-2, 1000, tilt) == {"deep": 0, "shallow": 1, "lost": 0}
    assert ends(starts, 0.35, 1000, tilt)["deep"] > 0
    assert ends(starts, 1.0, 1000, tilt)["lost"] == 1
    limit = threshold(12 * shallow**2 - 4)  # the second derivative at the shallow minimum
    near = shallow + 1e-3
    assert abs(slide(near, 0.95 * limit, 500, tilt)[-1] - shallow) < 1e-6
    assert abs(slide(near, 1.05 * limit, 500, tilt)[-1] - shallow) > 1e-2
    with pytest.raises(UserError, match="two wells"):
        minima(2.0)
