"""C34: each verdict from literal numbers; the exact part as it is, and with a wrong mask as a negative control."""

from __future__ import annotations

import pytest

from assay.claims.base import decide
from assay.claims.c34 import CLAIM, EXACT, SEEN, errors
from assay.stats import Interval, Verdict

exact = Interval.exact
MEDIATED = Interval(0.0, -0.1, 0.1, 0.95, 6, "bootstrap")


@pytest.mark.parametrize(
    ("bidirectional", "causal", "positions", "verdict"),
    [
        (1e-15, 0.4, 1e-15, Verdict.SUPPORTED),
        (1e-15, 0.4, 0.3, Verdict.DEPENDS),
        (0.2, 1e-15, 0.3, Verdict.REFUTED),
    ],
)
def test_verdicts(bidirectional: float, causal: float, positions: float, verdict: Verdict) -> None:
    answers = {"bidirectional": exact(bidirectional), "causal": exact(causal), "positions": exact(positions)}
    assert decide(CLAIM, answers | {"mediated": MEDIATED})[0] is verdict


def test_the_exact_part() -> None:
    found = errors()
    assert found["bidirectional", "none"] < EXACT
    assert all(value > SEEN for place, value in found.items() if place != ("bidirectional", "none"))


def test_a_causal_mask_in_the_bidirectional_ones_place_is_refuted() -> None:
    found = errors()
    answers = {
        "bidirectional": exact(found["causal", "none"]),
        "causal": exact(found["bidirectional", "none"]),
        "positions": exact(found["bidirectional", "rope"]),
        "mediated": MEDIATED,
    }
    assert decide(CLAIM, answers)[0] is Verdict.REFUTED
