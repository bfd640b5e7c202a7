"""C6: each verdict from literal intervals; tokens to a loss, and their bounds; settings as the schema has them."""

from __future__ import annotations

import pytest

from assay.claims.base import decide
from assay.claims.c06 import CLAIM, DENOISERS, settings, tokens_ratio, tokens_to
from assay.stats import Interval, Verdict


def at(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, low, high, 0.95, 3, "t")


BESIDE = {"padding": at(-1, 1), "speed": at(0, 3)}


@pytest.mark.parametrize(
    ("settings", "continuation", "infilling", "verdict"),
    [
        (1, at(1, 2), at(0.5, 1), Verdict.SUPPORTED),
        (1, at(1, 2), at(-1, -0.5), Verdict.DEPENDS),
        (1, at(1, 2), at(-1, 1), Verdict.UNDECIDED),
        (-1, at(-2, -1), at(-1, -0.5), Verdict.REFUTED),
    ],
)
def test_verdicts(settings: int, continuation: Interval, infilling: Interval, verdict: Verdict) -> None:
    answers = {"settings": Interval.exact(settings), "continuation": continuation, "infilling": infilling}
    assert decide(CLAIM, answers | BESIDE)[0] is verdict


def test_tokens_to_a_loss() -> None:
    curve = [(100.0, 4.0), (400.0, 2.0)]
    assert tokens_to(curve, 3.0) == (pytest.approx(200), "=")
    assert tokens_to(curve, 2.0) == (pytest.approx(400), "=")
    assert tokens_to(curve, 5.0) == (100, "<")
    assert tokens_to(curve, 1.0) == (400, ">")


def test_the_ratio_is_at_a_loss_that_both_reach() -> None:
    fast, slow = [(100.0, 4.0), (200.0, 3.0), (400.0, 2.0)], [(100.0, 5.0), (200.0, 4.0), (400.0, 3.0)]
    assert tokens_ratio(slow, fast) == (pytest.approx(2), "=")
    assert tokens_ratio(fast, slow) == (pytest.approx(0.5), "=")
    assert tokens_ratio(fast, fast) == (pytest.approx(1), "=")
    worse = [(100.0, 9.0), (400.0, 8.0)]
    assert tokens_ratio(worse, fast) == (pytest.approx(4), ">")
    assert tokens_ratio(fast, worse) == (pytest.approx(0.25), "<")


def test_settings_are_counted_from_the_schema() -> None:
    assert settings("causal_lm") == 0
    assert all(settings(kind) >= 1 for kind in DENOISERS) and settings("bart") > settings("span_corruption") > 1
