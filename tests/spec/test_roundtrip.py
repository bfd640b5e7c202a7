"""A description prints, hashes, compares and comes back from TOML and JSON as it was."""

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.spec.strategies import fields, specs

from assay.errors import UserError
from assay.spec.data import DataSpec
from assay.spec.model import ModelSpec
from assay.spec.objective import ObjectiveSpec
from assay.spec.study import StudySpec
from assay.spec.training import TrainSpec


@given(specs(), st.booleans())
@settings(max_examples=150)
def test_toml_and_json_give_back_an_equal_model(spec: ModelSpec, full: bool) -> None:
    for back in (ModelSpec.from_toml(spec.to_toml(full=full)), ModelSpec.from_json(spec.to_json(full=full))):
        assert back == spec
        assert back.name == spec.name
        assert back.hash == spec.hash
        assert hash(back) == hash(spec)


@given(specs())
@settings(max_examples=50)
def test_plain_data_is_plain(spec: ModelSpec) -> None:
    assert ModelSpec.from_dict(json.loads(json.dumps(spec.to_dict(full=True)))) == spec


def shuffled(value: Any, order: random.Random) -> Any:
    if not isinstance(value, dict):
        return value
    items = [(key, shuffled(item, order)) for key, item in value.items()]
    order.shuffle(items)
    return dict(items)


@given(fields(), st.randoms(use_true_random=False))
@settings(max_examples=50)
def test_the_order_of_fields_says_nothing(plain: dict[str, Any], order: random.Random) -> None:
    spec, other = ModelSpec.from_dict(plain), ModelSpec.from_dict(shuffled(plain, order))
    assert (spec, spec.hash) == (other, other.hash)


def test_a_hash_holds_across_versions() -> None:
    # Run folders are found by it: a change of these lines orphans every run made before.
    assert ModelSpec().hash == ModelSpec.from_toml("").hash
    assert len(ModelSpec().hash) == 16
    int(ModelSpec().hash, 16)


@given(specs(), st.text(max_size=5))
@settings(max_examples=25)
def test_a_name_is_no_part_of_identity(spec: ModelSpec, name: str) -> None:
    assert spec.with_(name=name).hash == spec.hash


@pytest.mark.parametrize(
    "change",
    [
        {"vocab_size": 2049},
        {"norm": "layernorm"},
        {"norm.eps": 1e-6},
        {"placement": "post"},
        {"positions.theta": 5e5},
        {"attention.window": 64},
        {"head.tied": False},
        {"dropout": 0.1},
    ],
)
def test_every_other_field_is_part_of_identity(change: dict[str, Any]) -> None:
    assert ModelSpec().with_(**change).hash != ModelSpec().hash


def test_a_default_written_out_changes_nothing() -> None:
    assert ModelSpec.from_toml('family = "causal"\n[norm]\nkind = "rmsnorm"\n').hash == ModelSpec().hash


def test_shorthand_is_the_parts_main_field() -> None:
    spec = ModelSpec.from_toml('norm = "layernorm"\nplacement = "post"\npositions = "alibi"\nattention = 8\n')
    assert (spec.norm.kind, spec.placement.kind, spec.positions.kind) == ("layernorm", "post", "alibi")
    assert spec.attention.heads == 8


@pytest.mark.parametrize(
    ("alias", "path", "value"),
    [
        ('norm = "layer"', ("norm", "kind"), "layernorm"),
        ('norm = "rms"', ("norm", "kind"), "rmsnorm"),
        ('placement = "deepnorm"', ("placement", "kind"), "deepnet"),
        ('[feedforward]\nactivation = "swish"', ("feedforward", "activation"), "silu"),
        ('[feedforward]\nactivation = "gelu_new"', ("feedforward", "activation"), "gelu_tanh"),
    ],
)
def test_other_names_are_understood(alias: str, path: tuple[str, str], value: str) -> None:
    spec = ModelSpec.from_toml(alias + "\n")
    assert getattr(getattr(spec, path[0]), path[1]) == value


def test_with_reaches_into_parts_and_keeps_the_rest() -> None:
    spec = ModelSpec().with_(**{"norm.eps": 1e-3})
    other = spec.with_(norm="layernorm", **{"attention.kv_heads": 2, "encoder": {}})
    assert (other.norm.kind, other.norm.eps) == ("layernorm", 1e-3)
    assert other.attention.kv_heads == 2
    assert spec.norm.kind == "rmsnorm", "the first is untouched"


@given(specs())
@settings(max_examples=50)
def test_with_nothing_is_the_same(spec: ModelSpec) -> None:
    assert spec.with_() == spec


def test_with_names_the_nearest_field() -> None:
    with pytest.raises(UserError, match=r"nrom.*Did you mean 'norm'"):
        ModelSpec().with_(nrom="layernorm")
    with pytest.raises(UserError, match=r"norm.esp.*Did you mean 'eps'"):
        ModelSpec().with_(**{"norm.esp": 1e-3})
    with pytest.raises(UserError, match="width is a single value"):
        ModelSpec().with_(**{"width.more": 1})


def test_a_model_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        ModelSpec().width = 64  # type: ignore[misc]


@pytest.mark.parametrize(
    "described",
    [
        TrainSpec(steps=10),
        TrainSpec.from_dict({"budget": 1e12, "schedule": "wsd", "optimizer": {"learning_rate": 1e-3}}),
        StudySpec(),
        StudySpec.from_dict({"vary": {"norm": ["layernorm", "rmsnorm"]}, "seeds": 2, "objective": "prefix_lm"}),
        StudySpec.from_dict({"data": {"source": "texts", "tokenizer": "bytes"}, "match": "flops"}),
    ],
)
def test_runs_and_studies_come_back_too(described: TrainSpec | StudySpec) -> None:
    cls = type(described)
    for full in (False, True):
        assert cls.from_toml(described.to_toml(full=full)) == described
        assert cls.from_json(described.to_json(full=full)) == described


@pytest.mark.parametrize("cls", [ModelSpec, TrainSpec, StudySpec])
def test_every_field_of_the_schema_is_described(cls: type[ModelSpec]) -> None:
    schema = cls.json_schema()
    parts = {cls.__name__: schema, **schema.get("$defs", {})}
    bare = [
        f"{name}.{field}"
        for name, part in parts.items()
        for field, said in part.get("properties", {}).items()
        # A field that says the same as its part's class says it there.
        if not (said.get("description") or parts.get(said.get("$ref", "").rpartition("/")[2], {}).get("description"))
    ]
    assert len(parts) > 1, "nothing was looked at"
    assert not bare


def test_files_are_read_by_their_path(tmp_path: Any) -> None:
    for name, text in (("m.toml", "width = 64\n"), ("m.json", '{"width": 64}')):
        (tmp_path / name).write_text(text)
    assert ModelSpec.from_toml(tmp_path / "m.toml").width == 64
    assert ModelSpec.from_json(str(tmp_path / "m.json")).width == 64
    with pytest.raises(UserError, match="no such file"):
        ModelSpec.from_toml(tmp_path / "missing.toml")


def test_shorthands_of_the_other_parts() -> None:
    study = StudySpec.from_dict({"data": "texts", "objective": "span_corruption"})
    assert isinstance(study.data, DataSpec)
    assert study.data.source == "texts"
    assert isinstance(study.objective, ObjectiveSpec)
    assert study.objective.kind == "span_corruption"
