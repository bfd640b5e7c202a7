"""What cannot work is refused at once: field, value, and what would work, in one message."""

import re
from typing import Any

import pytest

from assay.errors import UserError
from assay.spec.data import DataSpec
from assay.spec.model import ModelSpec
from assay.spec.objective import ObjectiveSpec
from assay.spec.study import StudySpec
from assay.spec.training import TrainSpec

MODELS: list[tuple[dict[str, Any], str]] = [
    # fields that do not exist
    ({"widht": 64}, r"widht.*Did you mean 'width'"),
    ({"norm": {"kind": "layernorm", "epsilon": 1}}, r"norm\.epsilon"),
    ({"attention": {"headz": 3}}, r"attention\.headz.*'heads'"),
    # values out of range or of the wrong kind
    ({"width": 0}, r"width = 0.*greater than 0"),
    ({"width": "wide"}, r"width = 'wide'"),
    ({"dropout": 1.0}, r"dropout = 1\.0.*less than 1"),
    ({"family": "decoder"}, r"family = 'decoder'.*causal.*prefix.*encoder"),
    ({"norm": "batchnorm"}, r"norm\.kind = 'batchnorm'.*layernorm"),
    ({"placement": "sandwitch"}, r"placement\.kind = 'sandwitch'.*Did you mean 'sandwich'"),
    ({"norm": {"eps": 1.0}}, r"norm\.eps = 1\.0"),
    ({"positions": {"fraction": 0}}, r"positions\.fraction = 0"),
    # combinations
    ({"width": 130, "attention": {"heads": 4}}, r"attention\.heads: 4 heads do not divide width 130; use 5"),
    ({"attention": {"heads": 4, "kv_heads": 3}}, r"attention\.kv_heads: 3 does not divide 4 heads; use .* 2"),
    ({"attention": {"window_layers": [0]}}, r"attention\.window_layers: needs attention\.window"),
    ({"layers": 2, "attention": {"window": 8, "window_layers": [2]}}, r"layer 2 of 2; layers count from 0"),
    ({"width": 60, "attention": {"heads": 4}}, r"positions\.fraction.*15.*RoPE needs a multiple of 2"),
    ({"positions": {"kind": "alibi", "axes": 2}}, r"positions\.axes: 2 rows of positions need rope or learned"),
    ({"positions": {"kind": "alibi", "xpos": True}}, r"positions\.xpos: belongs to rope, not alibi"),
    (
        {"positions": {"kind": "learned", "scaling": {"kind": "linear", "factor": 2}}},
        r"positions\.scaling: belongs to rope, not learned",
    ),
    (
        {"positions": {"kind": "rope", "scaling": {"kind": "yarn", "factor": 2}}},
        r"positions\.scaling\.original_length: yarn needs",
    ),
    ({"norm": {"kind": "rmsnorm", "bias": True}}, r"norm\.bias: rmsnorm has no shift; use layernorm"),
    ({"norm": {"kind": "layernorm", "fraction": 0.5}}, r"norm\.fraction: only rmsnorm"),
    ({"placement": {"kind": "post", "skip": "normed"}}, r"placement\.skip: .* pre or glm130b, not post"),
    ({"placement": {"kind": "pre", "skip": "normed"}, "parallel": "two_norms"}, r"parallel: .* parallel = one_norm"),
    ({"placement": "residual", "parallel": "one_norm"}, r"parallel: ResiDual .* parallel = none"),
    ({"placement": "residual", "norm": "none"}, r"norm\.kind: ResiDual .* none"),
    ({"placement": {"kind": "deepnet", "encoder_alpha": 1.0}}, r"placement\.encoder_alpha: only an encoder_decoder"),
    ({"encoder": 2}, r"encoder: family causal has a single stack.*encoder_decoder"),
    ({"head": {"sentence_pair": True}}, r"head\.sentence_pair: .*encoder, not causal"),
    ({"head": "mlm"}, r"head\.kind: .*encoder, not causal; use lm"),
    ({"prompt": "chatglm"}, r"prompt\.rule: chatglm defines a prefix; use family = prefix"),
    ({"vocab_size": 10, "tokens": {"pad": 10}}, r"tokens\.pad: id 10 is outside the vocabulary of 10"),
    ({"vocab_size": 10, "tokens": {"eos": [3, 12]}}, r"tokens\.eos\[1\]: id 12 is outside"),
    ({"feedforward": {"experts": {"count": 2, "active": 3}}}, r"feedforward\.experts\.active: 3 of 2"),
]


@pytest.mark.parametrize(("given", "said"), MODELS, ids=[str(given)[:60] for given, _ in MODELS])
def test_an_impossible_model_is_told_in_one_message(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        ModelSpec.from_dict(given)
    message = str(caught.value)
    assert re.search(said, message, re.DOTALL), message
    assert "pydantic" not in message
    assert "\n" not in message or "fields are wrong" in message


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(UserError) as caught:
        ModelSpec.from_dict({"width": -1, "layers": 0, "hedas": 2})
    assert all(name in str(caught.value) for name in ("width", "layers", "hedas"))


def test_the_file_is_named(tmp_path: Any) -> None:
    (tmp_path / "m.toml").write_text("width = 0\n")
    with pytest.raises(UserError, match=r"m\.toml: width = 0"):
        ModelSpec.from_toml(tmp_path / "m.toml")
    (tmp_path / "broken.toml").write_text("width = = 3\n")
    with pytest.raises(UserError, match=r"broken\.toml: not valid TOML.*line 1"):
        ModelSpec.from_toml(tmp_path / "broken.toml")
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(UserError, match=r"list\.json: holds a list"):
        ModelSpec.from_json(tmp_path / "list.json")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"binary\.toml: cannot be read as text"):
        ModelSpec.from_toml(tmp_path / "binary.toml")


@pytest.mark.parametrize(
    ("cls", "given", "said"),
    [
        (TrainSpec, {}, r"steps.*budget"),
        (TrainSpec, {"steps": 3, "budget": 1e9}, r"steps: 3 and budget 1e\+09 are both given"),
        (TrainSpec, {"steps": 3, "batch_size": 4, "accumulation": 3}, r"accumulation: 3 does not divide batch_size 4"),
        (TrainSpec, {"steps": 3, "dtype": "float8"}, r"dtype = 'float8'"),
        (TrainSpec, {"steps": 3, "schedule": "cosin"}, r"schedule\.kind = 'cosin'.*Did you mean 'cosine'"),
        (TrainSpec, {"steps": 3, "learning_rate": 1}, r"learning_rate"),
        (StudySpec, {"seeds": 0}, r"seeds = 0"),
        (StudySpec, {"vary": {"norm": []}}, r"vary\.norm: no values"),
        (StudySpec, {"vary": {"norm": ["rmsnorm", "rmsnorm"]}}, r"vary\.norm: .*twice"),
        (StudySpec, {"match": "wallclock"}, r"match = 'wallclock'.*parameters, flops"),
        (StudySpec, {"objective": {"kind": "causal_lm", "split": 0.5}}, r"split = 0\.5 .*prefix_lm"),
        (StudySpec, {"data": {"tokenizer": {"kind": "bpe", "vocab_size": 100}}}, r"vocab_size = 100 is too small"),
        (StudySpec, {"data": {"tokenizer": {"kind": "bytes", "vocab_size": 512}}}, r"plain bytes have 299 ids"),
        (StudySpec, {"data": {"heldout": 1.0}}, r"heldout = 1\.0"),
    ],
)
def test_impossible_runs_and_studies(cls: type[TrainSpec], given: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        cls.from_dict(given)
    assert re.search(said, str(caught.value), re.DOTALL), str(caught.value)


def test_python_constructors_refuse_as_well() -> None:
    with pytest.raises(ValueError, match="do not divide width"):
        ModelSpec(width=130)
    with pytest.raises(ValueError, match="vocab_size"):
        DataSpec.model_validate({"tokenizer": {"vocab_size": 10}})
    with pytest.raises(ValueError, match="mean_span"):
        ObjectiveSpec(mean_span=4.0)


def test_edges_of_positions_that_would_compute_nonsense() -> None:
    refused = {
        "positions.xpos": {"positions.xpos": True, "positions.axes": 2},
        "positions.buckets": {"family": "encoder", "positions": "relative", "positions.buckets": 3},
    }
    for field, changes in refused.items():
        with pytest.raises(UserError, match=field):
            ModelSpec().with_(**changes)
    assert ModelSpec().with_(positions="relative", **{"positions.buckets": 3}).positions.buckets == 3
