"""Encoder-decoders, BERT, GLM and the families of their own code: random and released configurations, wrong fields."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.published.common import hold, reference, saved
from tests.published.test_own_formats import PALM, TWO, folder_of
from tests.published.test_two_stacks import BART, BERT, T5, _bert_differences, differences, made, within

import assay
from assay.errors import UserError
from assay.published.base import Given, assignments
from assay.published.compare import meaning
from assay.published.config import Config
from assay.published.describe import spec_of
from assay.published.load import load
from assay.published.registry import recognise
from assay.spec.model import ModelSpec

CLASSES = {
    "T5Config": "T5ForConditionalGeneration",
    "UMT5Config": "UMT5ForConditionalGeneration",
    "BartConfig": "BartForConditionalGeneration",
    "MBartConfig": "MBartForConditionalGeneration",
    "BertConfig": "BertForPreTraining",
    "GlmConfig": "",
    "Glm4Config": "",
}


def drawn(config: str, seed: int) -> dict[str, Any]:
    """Fields at random, within what the class takes."""
    pick = random.Random(f"{config}-{seed}").choice
    heads, activation = pick([2, 3, 4]), pick(["gelu", "gelu_new", "relu", "silu"])
    if config in ("T5Config", "UMT5Config"):
        projection = pick(["relu", "gelu", "gated-gelu", "gated-silu", "gated-relu", "gelu_new"])
        return T5 | {
            "d_model": pick([16, 24]), "d_kv": pick([4, 5, 8]), "d_ff": pick([20, 48]), "num_layers": pick([1, 2, 3]),
            "num_decoder_layers": pick([None, 1, 3]), "num_heads": heads, "feed_forward_proj": projection,
            "relative_attention_num_buckets": pick([4, 8, 32]), "relative_attention_max_distance": pick([20, 128]),
            "layer_norm_epsilon": pick([1e-6, 1e-3]), "tie_word_embeddings": pick([True, False]),
        }  # fmt: skip
    if config in ("BartConfig", "MBartConfig"):
        return BART | {
            "encoder_layers": pick([1, 2, 3]), "decoder_layers": pick([1, 2, 3]), "activation_function": activation,
            "encoder_attention_heads": pick([1, 2, 6]), "decoder_attention_heads": pick([1, 3, 4]),
            "encoder_ffn_dim": pick([16, 40]), "decoder_ffn_dim": pick([16, 40]),
            "scale_embedding": pick([True, False]), "tie_word_embeddings": pick([True, False]),
            "dropout": pick([0.0, 0.3]), "init_std": pick([0.02, 0.1]),
        }  # fmt: skip
    if config == "BertConfig":
        return BERT | {
            "hidden_size": heads * pick([4, 8]), "num_attention_heads": heads, "hidden_act": activation,
            "num_hidden_layers": pick([1, 2, 4]), "type_vocab_size": pick([1, 2, 5]),
            "layer_norm_eps": pick([1e-12, 1e-3]), "intermediate_size": pick([12, 40]),
            "tie_word_embeddings": pick([True, False]),
        }  # fmt: skip
    heads = pick([2, 4, 8])
    return {
        "vocab_size": 91, "num_attention_heads": heads, "num_key_value_heads": pick([1, 2, heads]),
        "hidden_size": heads * pick([4, 8]), "head_dim": pick([8, 16]), "intermediate_size": pick([20, 56]),
        "num_hidden_layers": pick([1, 3]), "partial_rotary_factor": pick([0.25, 0.5, 1.0]), "pad_token_id": 0,
        "attention_bias": pick([True, False]), "tie_word_embeddings": pick([True, False]), "hidden_act": activation,
        "rms_norm_eps": pick([1e-6, 1e-3]), "rope_theta": pick([100.0, 10_000.0]), "eos_token_id": [1, 2],
    }  # fmt: skip


@pytest.mark.parametrize("config", CLASSES)
@pytest.mark.parametrize("seed", range(3))
def test_random_configuration(config: str, seed: int, tmp_path: Path) -> None:
    fields, kind = drawn(config, seed), CLASSES[config]
    theirs = made(kind, config, fields, seed) if kind else reference(config, fields, "eager", seed)
    ours = load(saved(theirs, tmp_path / "in"))
    ours.save(tmp_path / "out", format="hf")
    again = load(tmp_path / "out")
    assert again.spec == ours.spec
    for model in (ours, again):
        if not kind:
            hold(model, theirs)
        else:
            within((_bert_differences if config == "BertConfig" else differences)(model, theirs))


RELEASED: dict[str, dict[str, Any]] = {
    "t5-small": {
        "model_type": "t5", "d_ff": 2048, "d_kv": 64, "d_model": 512, "num_heads": 8, "num_layers": 6,
        "vocab_size": 32128, "relative_attention_num_buckets": 32, "n_positions": 512, "dropout_rate": 0.1,
    },
    "flan-t5-xl": {
        "model_type": "t5", "d_ff": 5120, "d_kv": 64, "d_model": 2048, "feed_forward_proj": "gated-gelu",
        "num_heads": 32, "num_layers": 24, "num_decoder_layers": 24, "vocab_size": 32128,
        "relative_attention_max_distance": 128, "tie_word_embeddings": False,
    },
    "bart-base": {
        "model_type": "bart", "d_model": 768, "encoder_layers": 6, "decoder_layers": 6, "encoder_ffn_dim": 3072,
        "decoder_ffn_dim": 3072, "encoder_attention_heads": 12, "decoder_attention_heads": 12, "vocab_size": 50265,
        "max_position_embeddings": 1024, "activation_function": "gelu", "normalize_before": False,
        "add_final_layer_norm": False, "scale_embedding": False, "normalize_embedding": True,
    },
    "mbart-large": {
        "model_type": "mbart", "d_model": 1024, "encoder_layers": 12, "decoder_layers": 12, "encoder_ffn_dim": 4096,
        "decoder_ffn_dim": 4096, "encoder_attention_heads": 16, "decoder_attention_heads": 16, "vocab_size": 250027,
        "max_position_embeddings": 1024, "activation_function": "gelu", "scale_embedding": True,
    },
    "bert-base": {
        "model_type": "bert", "architectures": ["BertForPreTraining"], "hidden_size": 768, "num_hidden_layers": 12,
        "num_attention_heads": 12, "intermediate_size": 3072, "vocab_size": 30522, "layer_norm_eps": 1e-12,
        "max_position_embeddings": 512, "type_vocab_size": 2,
    },
    "minilm-l6": {
        "model_type": "bert", "architectures": ["BertModel"], "hidden_size": 384, "num_hidden_layers": 6,
        "num_attention_heads": 12, "intermediate_size": 1536, "vocab_size": 30522,
    },
    "chatglm2-6b": {
        "model_type": "chatglm", "add_bias_linear": False, "add_qkv_bias": True, "ffn_hidden_size": 13696,
        "hidden_size": 4096, "kv_channels": 128, "layernorm_epsilon": 1e-5, "multi_query_attention": True,
        "multi_query_group_num": 2, "num_attention_heads": 32, "num_layers": 28, "padded_vocab_size": 65024,
        "post_layer_norm": True, "rmsnorm": True, "seq_length": 32768, "original_rope": True,
    },
    "chatglm-6b": {
        "model_type": "chatglm", "bos_token_id": 130004, "eos_token_id": 130005, "mask_token_id": 130000,
        "gmask_token_id": 130001, "pad_token_id": 3, "hidden_size": 4096, "inner_hidden_size": 16384,
        "layernorm_epsilon": 1e-5, "max_sequence_length": 2048, "num_attention_heads": 32, "num_layers": 28,
        "position_encoding_2d": True, "vocab_size": 130528, "quantization_bit": 0,
    },
    "glm-130b": {
        "model_type": "glm-130b", "num_layers": 70, "hidden_size": 12288, "inner_hidden_size": 32768,
        "vocab_size": 150528, "num_attention_heads": 96, "max_sequence_length": 2048, "layernorm_order": "post",
    },
    "cogview-4b": {
        "model_type": "cogview", "num_layers": 48, "hidden_size": 2560, "num_attention_heads": 40,
        "vocab_size": 58240, "max_position_embeddings": 1089, "is_sparse": 0,
    },
}  # fmt: skip
"""Released configurations by the preset that they should equal."""

STORED_APART = {"chatglm-6b": {"head.tied"}, "bert-base": set(), "minilm-l6": {"head.bias", "head.tied"}}
"""What a preset counts otherwise: ChatGLM-6B's files hold a copy of the tied matrix; a head that is not there."""


def read(fields: dict[str, Any]) -> ModelSpec:
    """The description of a configuration, no weights."""
    given = Given(Config(fields, "config.json"))
    return ModelSpec.from_dict(recognise(given, "config.json").to_spec(given))


@pytest.mark.parametrize("name", RELEASED)
def test_presets_agree_with_released_configurations(name: str) -> None:
    preset, spec = meaning(assay.preset(name)), meaning(read(RELEASED[name]))
    differing = {
        field: (preset.get(field), spec.get(field))
        for field in preset | spec
        if preset.get(field) != spec.get(field) and field not in STORED_APART.get(name, ())
    }
    assert not differing, differing


@pytest.mark.parametrize("name", RELEASED)
def test_tables_name_everything_once(name: str) -> None:
    given = Given(Config(RELEASED[name] | {"num_layers": 2, "num_hidden_layers": 2}, "config.json"))
    family = recognise(given, "config.json")
    theirs = [n for row in assignments(family, ModelSpec.from_dict(family.to_spec(given))) for n in row.theirs]
    assert len(theirs) == len(set(theirs))


def test_describing_glm_130b_is_quick(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(RELEASED["glm-130b"]))
    begin = time.process_time()
    assert 128e9 < spec_of(tmp_path).parameters() < 129e9
    assert time.process_time() - begin < 2


WRONG = ("x", -1, 0, 1.5, True, None, [], {}, ["a"], {"type": "x"}, 5000)
FUZZED = {name: RELEASED[name] for name in ("t5-small", "bart-base", "bert-base", "chatglm-6b", "glm-130b")} | {
    "cogview": RELEASED["cogview-4b"],
    "chatglm2": TWO | {"rope_ratio": 50},
    "palm": PALM | {"use_xpos": True, "qk_rmsnorm": True, "rotary_xpos_scale_base": 16},
    "glm4": drawn("Glm4Config", 0) | {"model_type": "glm4"},
}


@pytest.mark.parametrize("name", FUZZED)
def test_any_wrong_field_is_the_users_mistake(name: str, tmp_path: Path) -> None:
    """Each field in turn takes values of every kind: it is read, or refused in one message."""
    refusals = 0
    for field in FUZZED[name]:
        for value in WRONG:
            try:
                read(FUZZED[name] | {field: value})
            except UserError as error:
                refusals += 1
                assert len(str(error)) < 700
    assert refusals > len(FUZZED[name])


def test_contradictions_name_file_and_tensor(golden: Path, tmp_path: Path) -> None:
    for name, change, told in (
        ("t5_v10_relu_tied", {"d_ff": 47}, r"DenseReluDense\.wi\.weight has shape \[48, 32\].*\[47, 32\]"),
        ("t5_v10_relu_tied", {"feed_forward_proj": "gated-gelu"}, r"wi_0\.weight is missing"),
        ("t5_v11_gated_gelu_untied", {"num_decoder_layers": 2}, r"decoder\.block\.2\..* has no place in T5"),
        ("bart_base_raw_names", {"max_position_embeddings": 40}, r"embed_positions\.weight has shape"),
        ("bert_mlm", {"type_vocab_size": 3}, r"token_type_embeddings\.weight has shape \[2, 32\]"),
        ("chatglm2_6b", {"multi_query_group_num": 1}, r"query_key_value\.weight has shape \[64, 32\]"),
        ("chatglm_6b_28layers", {"num_layers": 29}, r"layers\.28\..* is missing"),
        ("glm_130b", {"inner_hidden_size": 41}, r"dense_h_to_4h\.weight has shape \[80, 32\].*\[82, 32\]"),
        ("cogview", {"max_position_embeddings": 64}, r"position_embeddings\.weight has shape"),
        ("palm_rope", {"qk_rmsnorm": True}, r"layers\.0\.fn\.q_scale is missing"),
    ):
        config = json.loads((golden / name / "config.json").read_text()) | change
        folder = folder_of(tmp_path / name, config, load_file(golden / name / "model.safetensors"))
        with pytest.raises(UserError, match=told) as caught:
            load(folder)
        assert str(folder) in str(caught.value)


def test_what_is_not_supported_says_so() -> None:
    for name, change, told in (
        ("bart-base", {"normalize_before": True}, "normalize_before"),
        ("bert-base", {"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ("bert-base", {"is_decoder": True}, "is_decoder"),
        ("chatglm-6b", {"quantization_bit": 4}, "quantization_bit = 4"),
        ("chatglm2-6b", {"quantization_bit": 8}, "quantization_bit = 8"),
        ("glm-130b", {"layernorm_order": "sandwich"}, "layernorm_order"),
        ("cogview-4b", {"is_sparse": 1}, "is_sparse"),
        ("t5-small", {"feed_forward_proj": "gated-tanh"}, "feed_forward_proj"),
    ):
        with pytest.raises(UserError, match=told):
            read(RELEASED[name] | change)


def test_older_bert_names_and_bare_encoders(tmp_path: Path) -> None:
    """LayerNorm.gamma and beta, names without `bert.`, and a pooler that no head reads."""
    theirs = made("BertModel", "BertConfig", BERT)
    folder = saved(theirs, tmp_path)
    weights = load_file(folder / "model.safetensors")
    assert "pooler.dense.weight" in weights and "embeddings.word_embeddings.weight" in weights
    model = load(folder)
    older = {
        "bert." + n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): t
        for n, t in weights.items()
    }
    save_file(older, folder / "model.safetensors")
    again = load(folder)
    assert again.spec == model.spec and model.spec.head.kind == "none"
    for (name, a), (_, b) in zip(again.named_parameters(), model.named_parameters(), strict=True):
        assert torch.equal(a, b), name
    with torch.no_grad():
        assert model(torch.tensor([[1, 2, 3]])).logits is None
