"""C3: verdicts, and FLOPs to a loss read off known curves."""

import math

import pytest

from assay.claims.base import decide
from assay.claims.c03 import CLAIM, doublings, needed
from assay.stats import Interval, Verdict


def t(low: float, high: float, n: int = 3) -> Interval:
    return Interval((low + high) / 2, low, high, 0.95, n, "made")


@pytest.mark.parametrize(
    ("flops", "loss", "verdict"),
    [
        (t(0.2, 0.9), t(0.02, 0.09), Verdict.SUPPORTED),
        (t(-0.9, -0.2), t(-0.09, -0.02), Verdict.REFUTED),
        (t(0.2, 0.9), t(-0.09, -0.02), Verdict.DEPENDS),
        (t(-0.2, 0.9), t(0.02, 0.09), Verdict.UNDECIDED),
        (t(0.2, 0.9, n=2), t(0.02, 0.09, n=2), Verdict.UNDECIDED),
    ],
)
def test_verdicts(flops: Interval, loss: Interval, verdict: Verdict) -> None:
    assert decide(CLAIM, {"flops": flops, "loss": loss, "tokens": t(0.9, 1.1)})[0] is verdict


def test_flops_to_a_loss() -> None:
    falling = [(10.0, 4.0), (20.0, 3.0), (40.0, 2.0)]
    assert needed(falling, 3.0) == pytest.approx(20) and needed(falling, 2.5) == pytest.approx(20 * 2**0.5)
    assert needed(falling, 4.5) == 10 and needed(falling, 1.0) == math.inf


def test_twice_the_flops_is_one_doubling() -> None:
    fast = [(10.0, 4.0), (20.0, 3.0), (40.0, 2.0)]
    slow = [(20.0, 4.0), (40.0, 3.0)]
    assert doublings(slow, fast) == pytest.approx(1) and doublings(fast, slow) == pytest.approx(-1)
