"""C11. Back ends that agree or differ; one that is absent decides nothing."""

import pytest

from assay.claims.base import decide
from assay.claims.c11 import CLAIM
from assay.claims.lab import NEVER
from assay.stats import Interval, Verdict


def at(low: float, high: float) -> Interval:
    """An interval of three repeats."""
    return Interval((low + high) / 2, low, high, 0.95, 3, "made")


@pytest.mark.parametrize(
    ("answers", "verdict"),
    [
        ({"eager": (1.2, 1.3), "compiled": (1.1, 1.4), "fused": (1.06, 1.2), "step": (1.0, 1.1)}, "supported"),
        ({"eager": (0.2, 0.3), "compiled": (1.0, 1.04), "fused": (0.9, 1.04), "step": (1.2, 1.3)}, "refuted"),
        ({"eager": (0.2, 0.3), "compiled": (1.0, 1.2), "fused": (1.1, 1.2), "step": (1.0, 1.1)}, "depends"),
        ({"eager": (1.0, 1.3), "compiled": (1.1, 1.4), "fused": (1.1, 1.2), "step": (1.2, 1.3)}, "undecided"),
    ],
)
def test_every_verdict(answers: dict[str, tuple[float, float]], verdict: str) -> None:
    made = {name: at(*bounds) for name, bounds in answers.items()}
    assert decide(CLAIM, made)[0] is Verdict(verdict)
    assert Verdict(verdict) in CLAIM.verdicts


def test_an_absent_back_end_decides_nothing() -> None:
    answers = {name: at(1.2, 1.3) for name in ("eager", "fused", "step")} | {"compiled": NEVER}
    verdict, each = decide(CLAIM, answers)
    assert each["compiled"] is Verdict.UNDECIDED
    assert verdict is Verdict.UNDECIDED
