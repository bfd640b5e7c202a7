"""C22: counts against names."""

import pytest

from assay.claims.base import decide
from assay.claims.c22 import CLAIM, NAMED, _switch, deviations
from assay.stats import Interval, Verdict


def given(named: float, trillion: float, built: float) -> Verdict:
    values = {"named": named, "trillion": trillion, "built": built, "above": 0.9}
    return decide(CLAIM, {name: Interval.exact(value) for name, value in values.items()})[0]


def test_every_verdict() -> None:
    assert given(0.02, 1.5e12, 0) is Verdict.SUPPORTED
    assert given(-0.2, 1.5e12, 0) is Verdict.DEPENDS, "one name is far from its count"
    assert given(0.2, 5e11, 3) is Verdict.REFUTED


def test_a_head_width_of_384_would_not_pass_for_palm() -> None:
    """Control: the count of a wrong configuration (567.6e9) is told from the right one's."""
    right = deviations({**NAMED, "palm-540b": 540.36e9})["palm-540b"]
    assert abs(right) < 0.001 and deviations({**NAMED, "palm-540b": 567.6e9})["palm-540b"] > 0.03


def test_switch_c_is_the_published_count() -> None:
    assert _switch() == pytest.approx(1.571e12, rel=2e-3)
