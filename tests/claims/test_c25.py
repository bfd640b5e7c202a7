"""C25: verdicts, and that flips tell families apart whatever a description is called."""

import pytest

from assay.claims.base import decide
from assay.claims.c25 import CLAIM, LISTED, family_by_flips, small
from assay.spec.published import preset
from assay.stats import Interval, Verdict


@pytest.mark.parametrize(
    ("wrong", "verdict"),
    [
        ((), Verdict.SUPPORTED),
        (("U-PaLM",), Verdict.SUPPORTED),
        (("ChatGLM2-6B",), Verdict.DEPENDS),
        (tuple(LISTED), Verdict.REFUTED),
    ],
)
def test_verdicts(wrong: tuple[str, ...], verdict: Verdict) -> None:
    answers = {name: Interval.exact(float(name not in wrong)) for name in LISTED}
    assert decide(CLAIM, answers)[0] is verdict


@pytest.mark.parametrize(
    ("name", "family"),
    [("chatglm-6b", "prefix"), ("chatglm2-6b", "causal"), ("glm-130b", "prefix"), ("bart-base", "encoder_decoder"),
     ("bert-base", "encoder")],
)  # fmt: skip
def test_families_by_flips(name: str, family: str) -> None:
    assert family_by_flips(preset(name))[0] == family


def test_flips_see_through_the_name() -> None:
    """ChatGLM-6B's description without its prompt rule is what its mask makes it, not what it is called."""
    spec = preset("chatglm-6b")
    plain = spec.with_(family="causal", prompt={}, positions={"kind": "rope"})
    assert family_by_flips(plain)[0] == "causal"
    begin = small(spec).prompt.sop
    assert begin is not None and begin < 64
