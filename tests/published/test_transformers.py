"""Fresh random tiny models of every family that transformers has: ours equals theirs, and exports load there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.published.common import BASE, differences, hold, reference, saved

from assay.published.load import load

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
SMALL: dict[str, Any] = {"vocab_size": 97, "bos_token_id": 1, "eos_token_id": 2}
GPT2 = SMALL | {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 40}
BLOOM = SMALL | {"hidden_size": 48, "n_layer": 3, "n_head": 6, "pad_token_id": 3}
FALCON = SMALL | {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 8}
RW = {"alibi": True, "bias": True, "multi_query": False, "parallel_attn": False}

CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "llama": ("LlamaConfig", BASE, "eager"),
    "llama-tied": ("LlamaConfig", BASE | {"tie_word_embeddings": True, "rms_norm_eps": 1e-3}, "eager"),
    "llama-biases": (
        "LlamaConfig",
        BASE | {"attention_bias": True, "mlp_bias": True, "head_dim": 12, "hidden_act": "gelu"},
        "eager",
    ),
    "llama-linear": ("LlamaConfig", BASE | {"rope_scaling": {"type": "linear", "factor": 3.0}}, "eager"),
    "llama-dynamic": (
        "LlamaConfig",
        BASE | {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}, "max_position_embeddings": 16},
        "eager",
    ),
    "llama-llama3": (
        "LlamaConfig",
        BASE
        | {
            "rope_theta": 500.0,
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 2.0,
                "original_max_position_embeddings": 16,
            },
        },
        "eager",
    ),
    "llama-yarn": ("LlamaConfig", BASE | {"rope_scaling": YARN}, "eager"),
    "llama-yarn-all": (
        "LlamaConfig",
        BASE
        | {
            "head_dim": 16,
            "rope_scaling": YARN | {"attention_factor": 1.3, "beta_fast": 8, "beta_slow": 2, "truncate": False},
        },
        "eager",
    ),
    "llama-yarn-mscale": (
        "LlamaConfig",
        BASE | {"rope_scaling": YARN | {"mscale": 0.7, "mscale_all_dim": 1.2}},
        "eager",
    ),
    "mistral": ("MistralConfig", BASE | {"sliding_window": 4, "head_dim": 12}, "eager"),
    "mistral-open": ("MistralConfig", BASE | {"sliding_window": None, "tie_word_embeddings": True}, "eager"),
    "mixtral": (
        "MixtralConfig",
        BASE | {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 5},
        "eager",
    ),
    "mixtral-one": ("MixtralConfig", BASE | {"num_local_experts": 3, "num_experts_per_tok": 1}, "eager"),
    "qwen2": ("Qwen2Config", BASE, "eager"),
    "qwen2-windows": (
        "Qwen2Config",
        BASE | {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
        "eager",
    ),
    "qwen2-layer-types": (
        "Qwen2Config",
        BASE
        | {
            "use_sliding_window": True,
            "sliding_window": 3,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "rope_scaling": YARN,
        },
        "eager",
    ),
    "qwen3": ("Qwen3Config", BASE | {"head_dim": 12, "attention_bias": True}, "eager"),
    "qwen3-windows": (
        "Qwen3Config",
        BASE | {"head_dim": 8, "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2},
        "eager",
    ),
    "gemma": ("GemmaConfig", BASE | {"head_dim": 16}, "eager"),
    "gemma-gelu": (
        "GemmaConfig",
        BASE | {"head_dim": 8, "hidden_act": "gelu", "attention_bias": True, "tie_word_embeddings": False},
        "eager",
    ),
    "gemma2": (
        "Gemma2Config",
        BASE | {"head_dim": 12, "sliding_window": 4, "query_pre_attn_scalar": 20, "attn_logit_softcapping": 2.0},
        "eager",
    ),
    "gemma2-no-caps": (
        "Gemma2Config",
        BASE
        | {
            "head_dim": 8,
            "sliding_window": 5,
            "attn_logit_softcapping": None,
            "final_logit_softcapping": None,
            "layer_types": ["full_attention", "sliding_attention", "full_attention"],
            "attention_bias": True,
            "hidden_activation": "gelu",
        },
        "eager",
    ),
    "olmo": ("OlmoConfig", BASE | {"clip_qkv": 0.3}, "eager"),
    "olmo-biases": ("OlmoConfig", BASE | {"attention_bias": True, "tie_word_embeddings": True}, "eager"),
    "olmo2": ("Olmo2Config", BASE, "eager"),
    "olmo2-biases": ("Olmo2Config", BASE | {"attention_bias": True, "rms_norm_eps": 1e-3}, "eager"),
    "gpt2": ("GPT2Config", GPT2, "eager"),
    "gpt2-by-layer": (
        "GPT2Config",
        GPT2 | {"scale_attn_by_inverse_layer_idx": True, "n_inner": 40, "activation_function": "relu"},
        "eager",  # its sdpa ignores the layer's scale
    ),
    "gpt2-unscaled": ("GPT2Config", GPT2 | {"scale_attn_weights": False, "tie_word_embeddings": False}, "eager"),
    "bloom": ("BloomConfig", BLOOM, "eager"),
    "bloom-normed-skip": ("BloomConfig", BLOOM | {"apply_residual_connection_post_layernorm": True}, "eager"),
    "falcon-7b": ("FalconConfig", FALCON, "eager"),
    "falcon-7b-biases": (
        "FalconConfig",
        FALCON | {"bias": True, "ffn_hidden_size": 40, "activation": "relu", "tie_word_embeddings": False},
        "eager",
    ),
    "falcon-40b": ("FalconConfig", FALCON | {"new_decoder_architecture": True, "num_kv_heads": 2}, "eager"),
    "falcon-11b": (
        "FalconConfig",
        FALCON | {"new_decoder_architecture": True, "num_kv_heads": 4, "num_ln_in_parallel_attn": 1},
        "eager",
    ),
    "falcon-rw": ("FalconConfig", FALCON | RW, "sdpa"),  # its eager adds ALiBi twice
    "falcon-serial": ("FalconConfig", FALCON | {"parallel_attn": False, "multi_query": True}, "eager"),
    "falcon-heads": (
        "FalconConfig",
        FALCON | {"multi_query": False, "rope_scaling": {"type": "linear", "factor": 2.0}},
        "eager",
    ),
}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """By case: (reference, its folder), made once."""
    made: dict[str, tuple[Any, Path]] = {}

    def make(case: str) -> tuple[Any, Path]:
        if case not in made:
            config, fields, attention = CASES[case]
            model = reference(config, fields, attention)
            made[case] = model, saved(model, tmp_path_factory.mktemp(case))
        return made[case]

    return make


@pytest.mark.parametrize("case", CASES)
def test_equals_transformers(case: str, pairs: Any) -> None:
    theirs, folder = pairs(case)
    hold(load(folder), theirs)


@pytest.mark.parametrize("case", CASES)
def test_export_is_what_came_in(case: str, pairs: Any, tmp_path: Path) -> None:
    """Load, export, load: the same description and weights, and transformers finds equal logits in the export."""
    import transformers

    theirs, folder = pairs(case)
    ours = load(folder)
    ours.save(tmp_path, format="hf")
    again = load(tmp_path)
    assert again.spec == ours.spec and again.published_as == ours.published_as
    for (name, a), (_, b) in zip(ours.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(a, b), name
    there = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation=CASES[case][2]).eval()
    tokens = torch.arange(3, 43).view(2, 20)
    with torch.no_grad():
        assert torch.equal(there(tokens, use_cache=False).logits, theirs(tokens, use_cache=False).logits)
    assert json.loads((tmp_path / "config.json").read_text())["torch_dtype"] == "float32"


@pytest.mark.parametrize("case", ["llama", "qwen3", "gemma2", "olmo2", "gpt2", "bloom", "falcon-40b", "mixtral"])
def test_controls_fail(case: str, pairs: Any) -> None:
    """One matrix permuted, or two norms swapped, must show."""
    theirs, folder = pairs(case)
    for spoil in (_permute_rows, _swap_norms):
        ours = load(folder)
        spoil(ours)
        found = differences(ours, theirs)
        assert max(found.values()) > 1e-2, (spoil.__name__, found)


@torch.no_grad()
def _permute_rows(model: torch.nn.Module) -> None:
    weight = model.get_parameter("transformer.decoder.blocks.1.attention.q.weight")
    weight.copy_(weight.flip(0).clone())


@torch.no_grad()
def _swap_norms(model: torch.nn.Module) -> None:
    parameters = dict(model.named_parameters())
    norms = [n for n in parameters if "blocks" in n and n.endswith(("_before.weight", "_out.weight"))]
    first, second = parameters[norms[0]], parameters[norms[1]]
    kept = first.clone()
    first.copy_(second)
    second.copy_(kept)
