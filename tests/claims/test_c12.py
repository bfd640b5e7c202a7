"""C12: the rule on made-up intervals."""

import pytest

from assay.claims.base import decide
from assay.claims.c12 import CLAIM, MARGIN
from assay.stats import Interval


@pytest.mark.parametrize(
    ("low", "high", "n", "verdict"),
    [
        (-0.9 * MARGIN, 0.9 * MARGIN, 3, "supported"), (1.1 * MARGIN, 3 * MARGIN, 3, "refuted"),
        (-3 * MARGIN, -1.1 * MARGIN, 3, "refuted"), (0.5 * MARGIN, 1.5 * MARGIN, 3, "undecided"),
        (-0.1 * MARGIN, 0.1 * MARGIN, 2, "undecided"),
    ],
)  # fmt: skip
def test_verdicts(low: float, high: float, n: int, verdict: str) -> None:
    found, _ = decide(CLAIM, {"loss": Interval((low + high) / 2, low, high, 0.95, n, "made up")})
    assert found == verdict
