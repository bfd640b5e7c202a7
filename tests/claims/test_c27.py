"""C27: each verdict from made intervals."""

import pytest

from assay.claims.base import decide
from assay.claims.c27 import CLAIM
from assay.stats import Interval, Verdict

NOTHING, MUCH, LOSS, WIDE = (-0.01, 0.01), (0.03, 0.09), (-0.2, -0.1), (-0.1, 0.1)


def t(bounds: tuple[float, float]) -> Interval:
    return Interval(sum(bounds) / 2, *bounds, 0.95, 3, "made")


@pytest.mark.parametrize(
    ("mask", "double", "equal", "verdict"),
    [
        (NOTHING, MUCH, NOTHING, Verdict.SUPPORTED),
        (MUCH, LOSS, MUCH, Verdict.REFUTED),
        (MUCH, MUCH, NOTHING, Verdict.DEPENDS),
        (NOTHING, LOSS, LOSS, Verdict.DEPENDS),
        (WIDE, MUCH, NOTHING, Verdict.UNDECIDED),
    ],
)
def test_verdicts(
    mask: tuple[float, float], double: tuple[float, float], equal: tuple[float, float], verdict: Verdict
) -> None:
    beside = {name: t(WIDE) for name, question in CLAIM.questions.items() if not question.decides}
    assert decide(CLAIM, {"mask": t(mask), "double": t(double), "equal": t(equal)} | beside)[0] is verdict
