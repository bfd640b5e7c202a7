"""C28: verdicts, exact counts of steps and turns."""

import pytest

from assay.claims.base import Tier, decide
from assay.claims.c28 import ANSWERED, ASKED, CLAIM, TURNS, dialogue, prompt_flops, spec_of, step_flops
from assay.generation.build import build
from assay.stats import Interval, Verdict

SLOW, FLAT, WIDE = (2.0, 3.0), (-0.1, 0.4), (0.5, 2.0)


def t(bounds: tuple[float, float]) -> Interval:
    return Interval(sum(bounds) / 2, *bounds, 0.95, 5, "made")


@pytest.mark.parametrize(
    ("without", "cached", "verdict"),
    [
        (SLOW, SLOW, Verdict.SUPPORTED),
        (FLAT, FLAT, Verdict.REFUTED),
        (SLOW, FLAT, Verdict.DEPENDS),
        (SLOW, WIDE, Verdict.UNDECIDED),
    ],
)
def test_verdicts(without: tuple[float, float], cached: tuple[float, float], verdict: Verdict) -> None:
    answers = {name: Interval.exact(1.5) for name in CLAIM.questions}
    assert decide(CLAIM, answers | {"without": t(without), "with": t(cached)})[0] is verdict


def test_steps_add_up_to_the_whole_text() -> None:
    spec = spec_of(Tier.smoke, "causal")
    cached = sum(step_flops(spec, n, cache=True) for n in range(8, 20))
    heads = 12 * spec.flops(1, targets=1) - 12 * spec.flops(1, targets=0)
    assert cached == pytest.approx(spec.flops(20, targets=0) - spec.flops(8, targets=0) + heads)
    assert step_flops(spec, 20, cache=False) > 6 * step_flops(spec, 20, cache=True)


def test_only_a_causal_mask_reuses_its_cache_over_turns() -> None:
    causal, prefix = (dialogue(build(spec_of(Tier.smoke, family))) for family in ("causal", "prefix"))
    assert [row[0] for row in causal] == [ASKED + turn * (ASKED + ANSWERED) for turn in range(TURNS)]
    assert all(anew == prompt for prompt, anew, _ in prefix)
    assert all(anew <= ASKED + 1 for _, anew, _ in causal)
    spec = spec_of(Tier.smoke, "causal")
    assert prompt_flops(spec, 100, 40) + prompt_flops(spec, 60, 60) == pytest.approx(
        spec.flops(100, targets=1) + spec.flops(60, targets=1) - spec.flops(60, targets=0)
    )
