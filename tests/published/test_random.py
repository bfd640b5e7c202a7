"""Configurations drawn at random, within what each class takes: ours equals transformers."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from tests.published.common import hold, reference, saved

from assay.published.load import load

CLASSES = (
    "LlamaConfig", "MistralConfig", "MixtralConfig", "Qwen2Config", "Qwen3Config", "GemmaConfig", "Gemma2Config",
    "OlmoConfig", "Olmo2Config", "GPT2Config", "BloomConfig", "FalconConfig",
)  # fmt: skip
SEEDS = range(4)


def drawn(config: str, seed: int) -> tuple[dict[str, Any], str]:
    """Fields of a configuration, and the attention of transformers that is right about them."""
    pick = random.Random(f"{config}-{seed}").choice
    heads = pick([2, 4, 6, 8])
    fields: dict[str, Any] = {"vocab_size": pick([61, 97, 130]), "bos_token_id": 1, "eos_token_id": pick([2, [2, 3]])}
    flags = {name: pick([True, False]) for name in "abcdef"}
    if config == "GPT2Config":
        fields |= {"n_embd": heads * pick([4, 8, 10]), "n_head": heads, "n_layer": pick([1, 2, 4]), "n_positions": 32}
        fields |= {"n_inner": pick([None, 24]), "activation_function": pick(["gelu_new", "gelu", "silu", "relu"])}
        fields |= {"scale_attn_by_inverse_layer_idx": flags["a"], "tie_word_embeddings": flags["b"]}
        return fields | {"layer_norm_epsilon": pick([1e-5, 1e-3]), "eos_token_id": 2}, "eager"
    if config == "BloomConfig":
        heads = pick([3, 4, 5, 6, 12])
        fields |= {"hidden_size": heads * pick([4, 8]), "n_head": heads, "n_layer": pick([1, 3])}
        fields |= {"apply_residual_connection_post_layernorm": flags["a"], "layer_norm_epsilon": pick([1e-5, 1e-3])}
        return fields, "eager"
    fields |= {"num_hidden_layers": pick([1, 2, 4]), "hidden_act": pick(["silu", "gelu", "relu", "gelu_pytorch_tanh"])}
    fields |= {"num_attention_heads": heads, "rope_theta": pick([100.0, 10_000.0]), "tie_word_embeddings": flags["c"]}
    fields |= {"hidden_size": heads * pick([4, 8, 12]), "max_position_embeddings": pick([32, 64])}
    if config == "FalconConfig":
        alibi = flags["d"]
        heads = pick([2, 4, 8]) if alibi else heads  # others have slopes that its code rounds to bfloat16
        fields |= {"num_attention_heads": heads, "hidden_size": heads * 8, "alibi": alibi, "bias": flags["a"]}
        fields |= {"new_decoder_architecture": flags["b"], "multi_query": flags["e"], "parallel_attn": flags["f"]}
        fields |= {"activation": pick(["gelu", "relu"]), "ffn_hidden_size": pick([None, 24])}
        if flags["b"]:
            fields |= {"num_kv_heads": pick([d for d in range(1, heads + 1) if heads % d == 0]), "parallel_attn": True}
            fields |= {"num_ln_in_parallel_attn": pick([None, 1, 2])}
        return fields, "sdpa" if alibi else "eager"
    fields |= {"num_key_value_heads": pick([d for d in range(1, heads + 1) if heads % d == 0])}
    fields |= {"intermediate_size": pick([24, 56]), "rms_norm_eps": pick([1e-6, 1e-3])}
    if config not in ("OlmoConfig", "Olmo2Config"):
        fields |= {"head_dim": pick([4, 8, 14])}
    if config in ("LlamaConfig", "Qwen3Config", "GemmaConfig", "Gemma2Config", "OlmoConfig", "Olmo2Config"):
        fields |= {"attention_bias": flags["a"]}
    if config == "LlamaConfig":
        fields |= {"mlp_bias": flags["b"]}
    if config in ("MistralConfig", "MixtralConfig"):
        fields |= {"sliding_window": pick([None, 3, 7])}
    if config == "MixtralConfig":
        fields |= {"num_local_experts": 5, "num_experts_per_tok": pick([1, 2, 4])}
    if config.startswith("Qwen"):
        fields |= {
            "use_sliding_window": flags["b"],
            "sliding_window": pick([3, 7]),
            "max_window_layers": pick([0, 1, 2]),
        }
    if config == "Gemma2Config":
        fields |= {"hidden_activation": fields.pop("hidden_act"), "query_pre_attn_scalar": pick([8, 20])}
        fields |= {"sliding_window": pick([3, 7]), "attn_logit_softcapping": pick([None, 3.0])}
        fields |= {"final_logit_softcapping": pick([None, 5.0])}
    if config == "OlmoConfig":
        fields |= {"clip_qkv": pick([None, 0.5])}
    return fields, "eager"


@pytest.mark.parametrize("config", CLASSES)
@pytest.mark.parametrize("seed", SEEDS)
def test_random_configuration(config: str, seed: int, tmp_path: Path) -> None:
    fields, attention = drawn(config, seed)
    theirs = reference(config, fields, attention, seed)
    ours = load(saved(theirs, tmp_path / "in"))
    hold(ours, theirs)
    ours.save(tmp_path / "out", format="hf")
    again = load(tmp_path / "out")
    assert again.spec == ours.spec
    hold(again, theirs)
