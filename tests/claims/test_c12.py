"""C12. Equal within the margin or not; the invariances that tell the two norms apart."""

import pytest

from assay.claims.base import decide
from assay.claims.c12 import CLAIM, invariance
from assay.stats import Interval, Verdict

BESIDE = {name: Interval.exact(0.0) for name, question in CLAIM.questions.items() if not question.decides}


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(-0.015, 0.01, "supported"), (0.03, 0.05, "refuted"), (-0.09, -0.03, "refuted"), (-0.01, 0.03, "undecided")],
)
def test_every_verdict(low: float, high: float, verdict: str) -> None:
    loss = Interval((low + high) / 2, low, high, 0.95, 3, "made")
    assert decide(CLAIM, {"loss": loss, **BESIDE})[0] is Verdict(verdict)
    assert Verdict(verdict) in CLAIM.verdicts


def test_layernorm_ignores_shift_and_scale_and_rmsnorm_scale_alone() -> None:
    layer, rms = invariance("layernorm"), invariance("rmsnorm")
    assert max(layer["shift"], layer["scale"], rms["scale"]) < 1e-12
    assert rms["shift"] > 0.1
