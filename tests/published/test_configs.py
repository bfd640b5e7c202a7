"""What configurations say, beyond what one fixture says: legacy fields, defaults, hints; and the presets agree."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.published.common import BASE, hold, reference, saved

import assay
from assay.errors import UserError
from assay.published.base import Given, assignments
from assay.published.compare import meaning
from assay.published.config import Config
from assay.published.describe import spec_of
from assay.published.load import load
from assay.published.registry import families
from assay.spec.model import ModelSpec


def read(fields: dict[str, Any], hint: dict[str, Any] | None = None) -> ModelSpec:
    """The spec of a configuration."""
    family = next(f for f in families() if fields["model_type"] in f.model_types)
    return ModelSpec.from_dict(family.to_spec(Given(Config(fields), hint or {})))


def test_one_field_for_all_of_rope() -> None:
    """transformers 5 writes `rope_parameters` where earlier versions wrote two fields."""
    old = read(BASE | {"model_type": "llama", "rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 2.0}})
    new = {"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0}
    assert read(BASE | {"model_type": "llama", "rope_parameters": new}) == old
    plain = {"rope_type": "default", "rope_theta": 500.0}
    assert read(BASE | {"model_type": "llama", "rope_parameters": plain}).positions.theta == 500.0


LEGACY = {"n_head": 8, "n_layer": 3, "hidden_size": 64, "vocab_size": 97, "bos_token_id": 1, "eos_token_id": 2}


@pytest.mark.parametrize(
    ("today", "legacy"),
    [
        ({"multi_query": True}, {"model_type": "RefinedWebModel", "multi_query": True, "parallel_attn": True}),
        (
            {"new_decoder_architecture": True, "num_kv_heads": 2},
            {"model_type": "RefinedWeb", "n_head_kv": 2, "parallel_attn": True},
        ),
        (
            {"alibi": True, "bias": True, "multi_query": False, "parallel_attn": False},
            {
                "model_type": "RefinedWebModel",
                "alibi": True,
                "bias": True,
                "multi_query": False,
                "parallel_attn": False,
            },
        ),
    ],
)
def test_legacy_falcon(today: dict[str, Any], legacy: dict[str, Any], tmp_path: Path) -> None:
    sizes = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 8, "vocab_size": 97}
    theirs = reference("FalconConfig", sizes | today, "sdpa")
    folder = saved(theirs, tmp_path)
    (folder / "config.json").write_text(json.dumps(LEGACY | {"architectures": ["RWForCausalLM"]} | legacy))
    hold(load(folder), theirs)


@pytest.mark.parametrize("position", ["rope", "alibi"])
@pytest.mark.parametrize("norm_head", [True, False])
def test_baichuan_by_hint(position: str, norm_head: bool, tmp_path: Path) -> None:
    """LLaMA's weights in Baichuan's form, and its output head normalised by hand."""
    fields = BASE | {"num_key_value_heads": 4}
    theirs = reference("LlamaConfig", fields)
    folder = saved(theirs, tmp_path)
    state = load_file(folder / "model.safetensors")
    for layer in range(3):
        name = f"model.layers.{layer}.self_attn."
        state[f"{name}W_pack.weight"] = torch.cat([state.pop(f"{name}{x}_proj.weight") for x in "qkv"])
    save_file(state, folder / "model.safetensors")
    config = {k: v for k, v in fields.items() if k not in ("num_key_value_heads",)} | {"model_type": "baichuan"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"neither its positions.*hint"):
        load(folder)
    hint = {"position": position, "norm_head": norm_head}
    ours = load(folder, hint=hint)
    assert (ours.spec.positions.kind, ours.spec.head.normalised) == (position, norm_head)
    if position == "rope":
        with torch.no_grad():
            if norm_head:
                weight = theirs.lm_head.weight
                weight /= weight.norm(dim=-1, keepdim=True)
            hold(ours, theirs)


@pytest.mark.parametrize(
    ("width", "vocabulary", "position", "norm_head"),
    [(4096, 64000, "rope", False), (5120, 64000, "alibi", False), (4096, 125696, "rope", True),
     (5120, 125696, "alibi", True)],
)  # fmt: skip
def test_published_baichuan_needs_no_hint(width: int, vocabulary: int, position: str, norm_head: bool) -> None:
    fields = {
        "model_type": "baichuan", "hidden_size": width, "vocab_size": vocabulary, "num_hidden_layers": 2,
        "num_attention_heads": 32, "intermediate_size": 64,
    }  # fmt: skip
    spec = read(fields)
    assert (spec.positions.kind, spec.head.normalised) == (position, norm_head)


PUBLISHED: dict[str, dict[str, Any]] = {
    "llama-7b": {
        "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32,
        "num_hidden_layers": 32, "rms_norm_eps": 1e-6, "vocab_size": 32000, "max_position_embeddings": 2048,
    },
    "llama3.1-8b": {
        "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
        "num_key_value_heads": 8, "num_hidden_layers": 32, "rms_norm_eps": 1e-5, "vocab_size": 128256,
        "max_position_embeddings": 131072, "rope_theta": 500000.0, "bos_token_id": 128000, "eos_token_id": 128001,
        "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                         "original_max_position_embeddings": 8192, "rope_type": "llama3"},
    },
    "smollm2-135m": {
        "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9,
        "num_key_value_heads": 3, "num_hidden_layers": 30, "rms_norm_eps": 1e-5, "vocab_size": 49152,
        "max_position_embeddings": 8192, "rope_theta": 100000, "tie_word_embeddings": True,
    },
    "mistral-7b": {
        "model_type": "mistral", "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
        "num_key_value_heads": 8, "num_hidden_layers": 32, "rms_norm_eps": 1e-5, "vocab_size": 32000,
        "sliding_window": 4096, "max_position_embeddings": 32768,
    },
    "mixtral-8x7b": {
        "model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
        "num_key_value_heads": 8, "num_hidden_layers": 32, "rms_norm_eps": 1e-5, "vocab_size": 32000,
        "sliding_window": None, "rope_theta": 1e6, "num_local_experts": 8, "num_experts_per_tok": 2,
    },
    "qwen2-0.5b": {
        "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_attention_heads": 14,
        "num_key_value_heads": 2, "num_hidden_layers": 24, "rms_norm_eps": 1e-6, "vocab_size": 151936,
        "rope_theta": 1e6, "sliding_window": 131072, "max_window_layers": 24, "use_sliding_window": False,
        "tie_word_embeddings": True, "max_position_embeddings": 131072,
    },
    "qwen3-0.6b": {
        "model_type": "qwen3", "hidden_size": 1024, "intermediate_size": 3072, "num_attention_heads": 16,
        "num_key_value_heads": 8, "num_hidden_layers": 28, "rms_norm_eps": 1e-6, "vocab_size": 151936,
        "rope_theta": 1e6, "head_dim": 128, "tie_word_embeddings": True, "max_position_embeddings": 40960,
    },
    "gemma-2b": {
        "model_type": "gemma", "hidden_size": 2048, "intermediate_size": 16384, "num_attention_heads": 8,
        "num_key_value_heads": 1, "num_hidden_layers": 18, "head_dim": 256, "vocab_size": 256000,
        "hidden_act": "gelu", "hidden_activation": "gelu_pytorch_tanh",
    },
    "gemma2-27b": {
        "model_type": "gemma2", "hidden_size": 4608, "intermediate_size": 36864, "num_attention_heads": 32,
        "num_key_value_heads": 16, "num_hidden_layers": 46, "head_dim": 128, "vocab_size": 256000,
        "query_pre_attn_scalar": 144, "sliding_window": 4096,
    },
    "olmo-7b-0424": {
        "model_type": "olmo", "hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32,
        "num_hidden_layers": 32, "vocab_size": 50304, "clip_qkv": 8.0, "max_position_embeddings": 4096,
    },
    "olmo2-7b": {
        "model_type": "olmo2", "hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32,
        "num_hidden_layers": 32, "vocab_size": 100352, "rope_theta": 500000, "rms_norm_eps": 1e-6,
    },
    "gpt2-124m": {
        "model_type": "gpt2", "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024, "vocab_size": 50257,
        "activation_function": "gelu_new",
    },
    "bloom-176b": {
        "model_type": "bloom", "n_embed": 14336, "num_attention_heads": 112, "n_layer": 70, "vocab_size": 250880,
    },
    "falcon-7b": {
        "model_type": "falcon", "hidden_size": 4544, "num_attention_heads": 71, "num_hidden_layers": 32,
        "multi_query": True, "parallel_attn": True, "new_decoder_architecture": False, "vocab_size": 65024,
    },
    "falcon-40b": {
        "model_type": "RefinedWeb", "hidden_size": 8192, "n_head": 128, "n_head_kv": 8, "n_layer": 60,
        "vocab_size": 65024, "parallel_attn": True,
    },
    "baichuan2-13b": {
        "model_type": "baichuan", "hidden_size": 5120, "intermediate_size": 13696, "num_attention_heads": 40,
        "num_hidden_layers": 40, "vocab_size": 125696, "model_max_length": 4096,
    },
}  # fmt: skip
"""Released configurations by the preset that they should equal (fields that leave the function alone left out)."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_presets_agree_with_released_configurations(name: str) -> None:
    preset, spec = meaning(assay.preset(name)), meaning(read(PUBLISHED[name]))
    differing = {
        field: (preset.get(field), spec.get(field))
        for field in preset | spec
        if preset.get(field) != spec.get(field) and field != "context"
    }
    assert not differing, differing
    assert assay.preset(name).parameters() == read(PUBLISHED[name]).parameters()


@pytest.mark.parametrize("name", PUBLISHED)
def test_tables_name_everything_once(name: str) -> None:
    spec = read(PUBLISHED[name]).with_(layers=2, **{"attention.window": None, "attention.window_layers": None})
    for family in families():
        if PUBLISHED[name]["model_type"] in family.model_types:
            theirs = [name for row in assignments(family, spec) for name in row.theirs]
            assert len(theirs) == len(set(theirs))


def test_describing_needs_no_torch(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED["bloom-176b"]))
    code = (
        "import sys\n"
        "from assay.published.describe import spec_of\n"
        f"assert spec_of({str(tmp_path)!r}).parameters() == 176247271424\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert spec_of(tmp_path).layers == 70
