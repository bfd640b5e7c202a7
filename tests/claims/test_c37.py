"""C37. The printed rule matches nothing, its meaning everything; both parts on either side."""

import pytest
import torch

from assay.claims.base import decide
from assay.claims.c37 import CLAIM, common_names, inside, matched, member, printed
from assay.nn.init import initialize
from assay.spec.model import ModelSpec
from assay.spec.parameters import layout
from assay.stats import Interval, Verdict

DEEP = {"layers": 2, "placement": "deepnet", "norm": "layernorm"}


def at(low: float, high: float) -> Interval:
    """An interval of three repeats."""
    return Interval((low + high) / 2, low, high, 0.95, 3, "made")


@pytest.mark.parametrize(
    ("answers", "verdict"),
    [
        ({"code": (1, 1), "saturates": (0.03, 0.1)}, "supported"),
        ({"code": (0, 0), "saturates": (-0.1, 0.01)}, "refuted"),
        ({"code": (0, 0), "saturates": (0.03, 0.1)}, "depends"),
        ({"code": (0, 0), "saturates": (0.0, 0.1)}, "undecided"),
    ],
)
def test_every_verdict(answers: dict[str, tuple[float, float]], verdict: str) -> None:
    made = {name: at(*bounds) for name, bounds in answers.items()}
    assert decide(CLAIM, made)[0] is Verdict(verdict)
    assert Verdict(verdict) in CLAIM.verdicts


def test_the_printed_rule_finds_no_name_at_all() -> None:
    names = common_names(ModelSpec.from_dict(DEEP))
    assert "decoder.layers.1.self_attn.v_proj.weight" in names
    assert (matched(names, printed), matched(names, member), matched(names, inside)) == (0.0, 0.0, 1.0)
    assert not printed("ffn") and member("ffn")


def test_what_was_meant_is_what_the_initializer_does() -> None:
    """The control: beta acts on exactly the matrices that the rule, as meant, finds."""
    spec = ModelSpec.from_dict(DEEP)
    for parameter in layout(spec):
        if ".blocks." not in parameter.name or len(parameter.shape) != 2:
            continue
        (said,) = common_names_of(parameter.name)
        found = []
        for beta in (1.0, 0.25):
            weight = torch.empty(parameter.shape)
            initialize(weight, parameter, spec.with_(**{"placement.beta": beta}), 0)
            found.append(float(weight.std()))
        assert found[1] / found[0] == pytest.approx(0.25 if inside(said) else 1.0, rel=1e-5), parameter.name


def common_names_of(name: str) -> list[str]:
    spec = ModelSpec.from_dict(DEEP)
    own = [p.name for p in layout(spec) if ".blocks." in p.name and len(p.shape) == 2]
    return [said for mine, said in zip(own, common_names(spec), strict=True) if mine == name]
