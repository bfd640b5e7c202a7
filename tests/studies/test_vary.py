"""Axes as they are typed on a command line."""

import pytest

from assay.errors import UserError
from assay.spec.study import StudySpec
from assay.studies.vary import axes, parse_vary


def test_values_take_the_types_of_their_fields() -> None:
    found = parse_vary(
        [
            "norm=layer,rms",
            "placement=pre,post,deepnorm",
            "layers=2,4",
            "train.optimizer.learning_rate=1e-3,3e-3",
            "head.tied=true,no",
            "attention.kv_heads=1,none",
            "train.budget=1e9,2e9",
            "train.batch_size=1e1",
            "objective=prefix_lm",
            "data.source=a b/c.txt,stdlib",
            "parallel=none,one_norm",
            "placement.alpha=2",
        ]
    )
    assert found == {
        "norm": ("layernorm", "rmsnorm"),
        "placement": ("pre", "post", "deepnet"),
        "layers": (2, 4),
        "train.optimizer.learning_rate": (1e-3, 3e-3),
        "head.tied": (True, False),
        "attention.kv_heads": (1, "none"),
        "train.budget": (1e9, 2e9),
        "train.batch_size": (10,),
        "objective": ("prefix_lm",),
        "data.source": ("a b/c.txt", "stdlib"),
        "parallel": ("none", "one_norm"),
        "placement.alpha": (2,),
    }
    assert all(type(value) is bool for value in found["head.tied"])


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("norms=layer,rms", ["norms", "no such axis", "'norm'"]),
        ("learning_rate=1", ["learning_rate", "'train.optimizer.learning_rate'"]),
        ("norm=layer,sofa", ["norm", "'sofa'", "layernorm, rmsnorm"]),
        ("layers=2,two", ["layers", "'two'", "integer"]),
        ("layers=0", ["layers", "'0'", "greater than 0"]),
        ("layers=2.5", ["layers", "'2.5'"]),
        ("head.tied=maybe", ["head.tied", "'maybe'"]),
        ("norm=rms,rmsnorm", ["norm", "rmsnorm", "twice"]),
        ("norm", ["norm", "'='", "NAME=VALUE"]),
        ("norm=", ["norm", "empty"]),
        ("norm=layer,,rms", ["norm", "empty"]),
        ("embedding=1", ["embedding", "group", "embedding.scale"]),
        ("norm.kind.x=1", ["norm.kind.x", "single value"]),
        ("train.budge=1", ["train.budge", "'train.budget'"]),
    ],
)
def test_mistakes_are_named_with_a_remedy(text: str, parts: list[str]) -> None:
    with pytest.raises(UserError) as error:
        parse_vary([text])
    for part in parts:
        assert part in str(error.value)


def test_an_axis_given_twice_is_refused() -> None:
    with pytest.raises(UserError, match="given twice"):
        parse_vary(["norm=layer", "norm=rms"])


def test_none_means_none_where_a_field_has_no_value_of_that_name() -> None:
    vary = parse_vary(["attention.kv_heads=none,1", "parallel=none,one_norm", "placement.skip=none,stream"])
    runs = StudySpec(vary=vary, seeds=1).runs()
    assert {run.model.attention.kv_heads for run in runs} == {None, 1}
    assert {run.model.parallel.value for run in runs} == {"none", "one_norm"}
    assert {run.model.placement.skip for run in runs} == {None, "stream"}
    assert runs[0].labels["attention.kv_heads"] == "none"


def test_every_axis_parses_and_reaches_the_runs() -> None:
    known = list(axes())
    assert len(known) > 60 and len(set(known)) == len(known)
    vary = parse_vary(["norm=layer,rms", "train.batch_size=2,4", "objective=prefix_lm,causal_lm"])
    runs = StudySpec(vary=vary, seeds=2).runs()
    assert len(runs) == 16
    assert {(r.model.norm.kind, r.train.batch_size, r.objective.kind) for r in runs} == {
        (n, b, o) for n in ("layernorm", "rmsnorm") for b in (2, 4) for o in ("prefix_lm", "causal_lm")
    }
