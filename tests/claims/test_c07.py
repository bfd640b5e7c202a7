"""C7: verdicts, and how sharp a curve is."""

import numpy as np
import pytest

from assay.claims.base import decide
from assay.claims.c07 import CLAIM, answers, over_seeds, sharpness
from assay.evaluation.outcomes import Outcomes, together
from assay.stats import Interval, Verdict
from assay.stats.emergence import Emergence, analyse


def interval(value: float, half: float = 0.02) -> Interval:
    return Interval(value, value - half, value + half, 0.95, 3, "made up")


def given(metric: float, smooth: float, sharper: float, half: float = 0.02) -> Verdict:
    values = {"metric": metric, "smooth": smooth, "sharper": sharper, "edits": 0.0}
    return decide(CLAIM, {name: interval(value, half) for name, value in values.items()})[0]


def test_every_verdict() -> None:
    assert given(0.95, 0.97, 0.3) is Verdict.SUPPORTED
    assert given(0.3, 0.5, 0.0) is Verdict.REFUTED
    assert given(0.95, 0.5, 0.3) is Verdict.DEPENDS
    assert given(0.95, 0.9, 0.3, half=0.2) is Verdict.UNDECIDED


def test_sharpness_is_the_steepest_steps_share() -> None:
    assert sharpness([0, 0, 1]) == 1 and sharpness([0, 1, 2, 3]) == pytest.approx(1 / 3)
    assert sharpness([1, 1, 1]) is None
    assert np.isnan(over_seeds([0.5, None, 0.5]).low), "a seed without a value decides nothing"


def family(shares: tuple[float, ...], seed: int, jump: bool = False) -> Emergence:
    """Models whose ten tokens are right with probability p; with `jump` answers are right or wrong as a whole."""
    rng = np.random.default_rng(seed)
    models = []
    for i, p in enumerate(shares):
        right = (rng.random((300, 10)) < p).astype(float)
        if jump:
            right = np.repeat((rng.random((300, 1)) < p).astype(float), 10, axis=1)
        length = np.full(300, 10.0)
        models.append((f"m{i}", 4.0**i, Outcomes(-np.log(p) * length, length, right.min(1), 10 - right.sum(1), right)))
    return analyse(together("made up", models), resamples=100)


def test_a_smooth_family_is_told_from_one_that_jumps_itself() -> None:
    smooth = tuple(np.exp(-np.exp(0.9 - 0.75 * np.arange(5))))
    verdict = decide(CLAIM, answers([family(smooth, seed) for seed in range(3)]))[0]
    assert verdict is Verdict.SUPPORTED
    whole = answers([family((0.1, 0.11, 0.12, 0.97, 0.98), seed, jump=True) for seed in range(3)])
    assert decide(CLAIM, whole)[0] is not Verdict.SUPPORTED
    assert decide(CLAIM, whole)[1]["smooth"] is Verdict.REFUTED
