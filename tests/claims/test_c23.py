"""C23: the estimate's distance from the note's figures."""

import pytest

from assay.claims.base import decide
from assay.claims.c23 import CLAIM, CO2, MONEY, NEEDED, answer
from assay.spec.cost import cost
from assay.spec.published import preset
from assay.stats import Verdict


def given(money: float, co2: float) -> Verdict:
    answers = {"money": answer(money, MONEY), "co2": answer(co2, CO2)}
    return decide(CLAIM, answers | {"flops": answer(1, 1), "energy": answer(1, 1)})[0]


def test_every_verdict() -> None:
    assert given(4.6e6, 552e3) is Verdict.REFUTED
    assert given(350e3, 300e3) is Verdict.SUPPORTED
    assert given(4.6e6, 300e3) is Verdict.DEPENDS


def test_what_300_thousand_would_need() -> None:
    """400 TFLOP/s sustained at 1.37 dollars: the condition in the text gives the note's figure."""
    found = cost(
        preset("gpt3-175b"), machine="h100-80gb", tokens=300e9, length=2048,
        peak=400e12, utilisation=1.0, price=NEEDED,
    ).training  # fmt: skip
    assert found is not None and found.money == pytest.approx(300e3, rel=0.02)
