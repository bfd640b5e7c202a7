"""Exports of models that were never published: what can be said is said, what cannot is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.published.common import hold, randomise

import assay
from assay.errors import UserError
from assay.published.compare import in_the_way, meaning
from assay.published.load import load
from assay.published.registry import families
from assay.published.save import choose
from assay.spec.model import ModelSpec

TINY: dict[str, Any] = {"vocab_size": 61, "width": 32, "layers": 2, "context": 32, "attention": {"heads": 4}}
GELU = {"activation": "gelu_tanh", "gated": False}
BIASED = {"heads": 4, "qkv_bias": True, "out_bias": True}

EXPRESSIBLE: dict[str, dict[str, Any]] = {
    "LLaMA": {},
    "Mistral": {"attention": {"heads": 4, "window": 5}},
    "Mixtral": {"feedforward": {"experts": {"count": 3}}},
    "Qwen 2": {"attention": {"heads": 4, "qkv_bias": True, "window": 4, "window_layers": [1]}},
    "Qwen 3": {"attention": {"heads": 4, "qk_norm": "head", "head_width": 12}},
    "Gemma": {"norm": {"plus_one": True}, "embedding": {"scale": 32**0.5}},
    "OLMo 2": {"placement": "reordered", "attention": {"heads": 4, "kv_heads": 2, "qk_norm": "full"}},
    "OLMo": {"norm": {"kind": "layernorm", "weight": False}},
    "GPT-2": {
        "norm": "layernorm", "positions": "learned", "attention": BIASED, "feedforward": GELU | {"bias": True},
    },
    "BLOOM": {
        "norm": "layernorm", "positions": "alibi", "attention": BIASED, "feedforward": GELU | {"bias": True},
        "placement": {"kind": "pre", "embedding_norm": True},
    },
    "Falcon": {"norm": "layernorm", "parallel": "one_norm", "attention": {"heads": 4, "kv_heads": 1},
               "feedforward": {"activation": "gelu", "gated": False}},
}  # fmt: skip


@pytest.mark.parametrize("name", EXPRESSIBLE)
def test_what_a_family_can_say_exports_there(name: str, tmp_path: Path) -> None:
    import transformers

    spec = ModelSpec.from_dict(TINY | EXPRESSIBLE[name])
    model = assay.build(spec)
    randomise(model, 0)
    model.save(tmp_path, format="hf")
    again = load(tmp_path)
    assert again.published_as == name
    assert meaning(again.spec) == meaning(spec)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager").eval()
    hold(model, theirs)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"placement": "deepnorm"}, ["placement.kind"]),
        ({"norm": "dyt"}, ["norm.kind"]),
        ({"placement": "mix"}, ["placement.kind"]),
        ({"positions": {"kind": "rope", "xpos": True}}, ["positions.xpos"]),
        ({"positions": "sinusoidal"}, ["positions.kind"]),
        ({"attention": {"heads": 4, "relax": 32.0}}, ["attention.relax"]),
        ({"family": "prefix"}, ["family"]),
        ({"parallel": "two_norms"}, ["parallel"]),
        ({"head": {"bias": True}}, ["head.bias"]),
        ({"head": {"softcap": 5.0}, "embedding": {"scale": 2.0}}, ["head.softcap", "embedding.scale"]),
        ({"feedforward": {"bias": True}, "attention": {"heads": 4, "out_bias": True}}, ["attention.out_bias"]),
    ],
)
def test_what_none_can_say_is_named(fields: dict[str, Any], named: list[str], tmp_path: Path) -> None:
    model = assay.build(ModelSpec.from_dict(TINY | fields))
    with pytest.raises(UserError) as caught:
        model.save(tmp_path / "out", format="hf")
    message = str(caught.value)
    for field in named:
        assert field in message.split("in the way")[1], message
    assert not (tmp_path / "out").exists()


def test_fields_without_effect_are_not_in_the_way() -> None:
    spec = ModelSpec.from_dict(
        TINY | {"dropout": 0.1, "init": "xavier", "norm": {"cast": "after_weight"}, "name": "mine"}
    )
    llama = next(family for family in families() if family.name == "LLaMA")
    assert in_the_way(llama, spec) == []
    assert in_the_way(llama, spec.with_(positions="alibi")) == ["positions.kind"]
    assert set(in_the_way(llama, spec.with_(norm="layernorm", layers=3))) >= {"norm.kind"}


def test_every_field_that_matters_is_seen() -> None:
    """A spec changed in any one field means something else, or the field is listed as without effect."""
    spec = ModelSpec.from_dict(TINY)
    changes = {
        "family": "prefix", "vocab_size": 62, "width": 64, "layers": 3, "norm": "layernorm", "placement": "sandwich",
        "parallel": "one_norm", "positions.theta": 500.0, "positions.fraction": 0.5, "positions.pairing": "interleaved",
        "attention.heads": 8, "attention.kv_heads": 2, "attention.head_width": 16, "attention.qkv_bias": True,
        "attention.out_bias": True, "attention.qk_norm": "head", "attention.scale": 0.5, "attention.softcap": 3.0,
        "attention.scale_by_layer": True, "attention.window": 4, "attention.clip_qkv": 1.0, "attention.relax": 2.0,
        "feedforward.width": 64, "feedforward.activation": "relu", "feedforward.gated": False, "feedforward.bias": True,
        "embedding.scale": 2.0, "embedding.token_types": 2, "head.tied": False, "head.bias": True, "head.scale": 0.5,
        "head.softcap": 9.0, "head.normalised": True, "head.kind": "none", "norm.eps": 1e-3, "norm.plus_one": True,
        "norm.fraction": 0.5, "norm.max_scale": 8.0, "placement.embedding_norm": True, "placement.final_norm": False,
        "placement.alpha": 2.0, "norm.weight": False,
    }  # fmt: skip
    for field, value in changes.items():
        assert meaning(spec.with_(**{field: value})) != meaning(spec), field


def test_the_family_that_it_came_from_is_preferred(tmp_path: Path) -> None:
    """Qwen 3 without anything of its own in the way still goes out as what it was."""
    spec = ModelSpec.from_dict(TINY | EXPRESSIBLE["Mistral"])
    family, config = choose(spec)
    assert family.name == "Mistral" and config["architectures"] == ["MistralForCausalLM"]
    qwen = next(f for f in families() if f.name == "Qwen 2")
    with_bias = spec.with_(**{"attention.qkv_bias": True})
    assert choose(with_bias, qwen)[0] is qwen


def test_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"format: 'onnx'.*assay, hf"):
        assay.build(ModelSpec.from_dict(TINY)).save(tmp_path, format="onnx")


def test_export_in_low_precision(tmp_path: Path) -> None:
    import transformers

    model = assay.build(ModelSpec.from_dict(TINY), dtype="bfloat16")
    model.save(tmp_path, format="hf")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, torch_dtype="auto")
    assert theirs.dtype is torch.bfloat16
    assert load(tmp_path, dtype="bfloat16").get_parameter("transformer.embedding.weight").dtype is torch.bfloat16
