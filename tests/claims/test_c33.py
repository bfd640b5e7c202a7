"""C33: verdicts, and that stepping through a wrong cache would be seen."""

import numpy as np
import pytest
from tests.nn.common import scramble

from assay.claims.base import decide
from assay.claims.c33 import CLAIM, CLOSE, stepwise
from assay.data.windows import Window
from assay.generation.build import build
from assay.spec.model import ModelSpec
from assay.stats import Interval, Verdict


def t(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, low, high, 0.95, 3, "made")


@pytest.mark.parametrize(
    ("off", "entries", "glm", "spans", "verdict"),
    [
        (1e-6, 0, t(0.1, 0.4), t(0.1, 0.4), Verdict.SUPPORTED),
        (1e-2, 3, t(-0.4, -0.1), t(-0.4, -0.1), Verdict.REFUTED),
        (1e-6, 0, t(0.1, 0.4), t(-0.4, -0.1), Verdict.DEPENDS),
        (1e-6, 0, t(0.1, 0.4), t(-0.4, 0.1), Verdict.UNDECIDED),
    ],
)
def test_verdicts(off: float, entries: int, glm: Interval, spans: Interval, verdict: Verdict) -> None:
    answers = {"stepwise": Interval.exact(off), "format": Interval.exact(entries), "glm": glm, "spans": spans}
    assert decide(CLAIM, answers | {"glm_whole": t(-1, 1), "spans_whole": t(-1, 1)})[0] is verdict


def test_stepwise_is_exact_for_a_causal_decoder_and_not_for_another_mask() -> None:
    fields = {"vocab_size": 37, "width": 32, "layers": 2, "context": 64, "attention": {"heads": 2}}
    window = Window(np.arange(5, 12), np.arange(12, 20), 8, np.arange(8))
    causal = build(ModelSpec.from_dict(fields))
    scramble(causal.transformer)
    off, steps = stepwise(causal, window, 6)
    assert off < CLOSE and len(steps) == 7
    prefix = build(ModelSpec.from_dict({**fields, "family": "prefix"}))
    scramble(prefix.transformer)
    assert stepwise(prefix, window, 6)[0] > CLOSE, (
        "read as a prefix, the prompt is not what one causal pass makes of it"
    )
