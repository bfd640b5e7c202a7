"""Mediation on data whose effects are known, and refusals."""

from __future__ import annotations

import numpy as np
import pytest

from assay.errors import UserError
from assay.stats.mediation import mediation


def _data(a: float, b: float, direct: float, n: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    x = np.arange(n) % 2.0
    m = a * x + 0.3 * rng.standard_normal(n)
    return x, m, direct * x + b * m + 0.05 * rng.standard_normal(n)


def test_effects_are_found_and_add_up() -> None:
    found = mediation(*_data(2.0, 0.5, 0.25))
    assert found.indirect.estimate == pytest.approx(1.0, abs=0.1) and found.indirect.low > 0.8
    assert found.direct.estimate == pytest.approx(0.25, abs=0.15)
    assert found.total.estimate == pytest.approx(found.direct.estimate + found.indirect.estimate)


def test_a_mediator_that_does_nothing_mediates_nothing() -> None:
    found = mediation(*_data(2.0, 0.0, 0.5))
    assert found.indirect.low < 0 < found.indirect.high
    assert mediation(*_data(0.0, 1.0, 0.5)).indirect.estimate == pytest.approx(0, abs=0.2)


def test_blocks_take_out_what_their_runs_share() -> None:
    x, m, y = _data(2.0, 0.5, 0.25)
    block = (np.arange(len(x)) // 2) % 2
    found = mediation(x, m + 100 * block, y + 7 * block, list(block))
    assert found.indirect.estimate == pytest.approx(1.0, abs=0.15)


def test_refusals() -> None:
    with pytest.raises(UserError, match="fewer than 3"):
        mediation([0, 0, 0, 1, 1], [1, 2, 3, 4, 5.0], [1, 2, 3, 4, 5.0])
    with pytest.raises(UserError, match="not 0 and 1"):
        mediation([0, 2, 0, 2], [1, 2, 3, 4.0], [1, 2, 3, 4.0])
    with pytest.raises(UserError, match="no spread"):
        mediation([0, 0, 0, 1, 1, 1], [1, 1, 1, 2, 2, 2.0], [1, 2, 3, 4, 5, 6.0])
