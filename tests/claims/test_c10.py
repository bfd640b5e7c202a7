"""C10: verdicts, and that the partners are equal in what they claim."""

import pytest

from assay.claims.base import Tier, decide
from assay.claims.c10 import CLAIM
from assay.claims.families import budget, equal_partner, experiments, standard_model
from assay.spec.partner import answer_flops
from assay.stats import Interval, Verdict


def t(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, low, high, 0.95, 3, "made")


@pytest.mark.parametrize(
    ("parameters", "inference", "verdict"),
    [
        (t(0.1, 0.2), t(0.1, 0.2), Verdict.SUPPORTED),
        (t(-0.2, -0.1), t(-0.2, -0.1), Verdict.REFUTED),
        (t(0.1, 0.2), t(-0.2, -0.1), Verdict.DEPENDS),
        (t(0.1, 0.2), t(-0.2, 0.1), Verdict.UNDECIDED),
    ],
)
def test_verdicts(parameters: Interval, inference: Interval, verdict: Verdict) -> None:
    answers = {"parameters": parameters, "inference": inference}
    beside = {name: t(-1, 1) for name, question in CLAIM.questions.items() if not question.decides}
    assert decide(CLAIM, answers | beside)[0] is verdict


def test_partners_are_equal_in_one_thing_and_trained_for_the_same_flops() -> None:
    standard = standard_model(Tier.quick)
    same, dear = (equal_partner(Tier.quick, match) for match in ("parameters", "inference"))
    assert int(same.spec.parameters()) == pytest.approx(int(standard.parameters()), rel=5e-3)
    wanted = answer_flops(standard, dear.prompt, dear.new)
    assert answer_flops(dear.spec, dear.prompt, dear.new) == pytest.approx(wanted, rel=5e-3)
    assert int(dear.spec.parameters()) > 1.5 * int(standard.parameters())
    found = experiments(Tier.quick, "causal", "prefix", "parameters", "inference")
    assert {e.study.train.budget for e in found.values()} == {None, budget(Tier.quick)}
    (run,) = found["causal"].study.with_(seeds=1).runs()
    per_step = run.train.batch_size * standard.flops(run.train.length, training=True)
    assert run.train.steps and run.train.steps * per_step == pytest.approx(budget(Tier.quick))
