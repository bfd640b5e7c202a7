"""transformers' models with an assay model's weights, to compare what both generate.

The padding token is not 0: beam search there takes a `pad_token_id` of 0 for none and fills with the end token.
"""

from __future__ import annotations

from typing import Any

import torch
from tests.generation.common import model
from transformers import LlamaConfig, LlamaForCausalLM, T5Config, T5ForConditionalGeneration

from assay.generation.model import Model


def llama(seed: int = 0, **tokens: Any) -> tuple[Model, LlamaForCausalLM]:
    """A small Llama on both sides."""
    ours = model(seed, tokens={"pad": 2, "eos": [5, 12, 20, 30], **tokens})
    config = LlamaConfig(
        vocab_size=37, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        rms_norm_eps=1e-5, tie_word_embeddings=False, max_position_embeddings=64, pad_token_id=2,
        eos_token_id=[5, 12, 20, 30], bos_token_id=1,
    )  # fmt: skip
    names = {"embedding.weight": "model.embed_tokens.weight", "head.weight": "lm_head.weight"}
    names["decoder.final_norm.weight"] = "model.norm.weight"
    parts = {
        "attention.q": "self_attn.q_proj", "attention.k": "self_attn.k_proj", "attention.v": "self_attn.v_proj",
        "attention.o": "self_attn.o_proj", "feedforward.gate": "mlp.gate_proj", "feedforward.up": "mlp.up_proj",
        "feedforward.down": "mlp.down_proj", "attention_before": "input_layernorm",
        "feedforward_before": "post_attention_layernorm",
    }  # fmt: skip
    for layer in range(2):
        for mine, theirs in parts.items():
            names[f"decoder.blocks.{layer}.{mine}.weight"] = f"model.layers.{layer}.{theirs}.weight"
    return ours, _filled(LlamaForCausalLM(config), ours, names)


def t5(seed: int = 0) -> tuple[Model, T5ForConditionalGeneration]:
    """A small T5 v1.1 on both sides."""
    ours = model(
        seed,
        family="encoder_decoder",
        norm={"eps": 1e-6},
        positions={"kind": "relative", "buckets": 8, "max_distance": 16},
        attention={"heads": 4, "scale": 1.0},
        feedforward={"activation": "gelu_tanh", "gated": True},
        tokens={"pad": 2, "eos": [1, 12, 20, 30], "decoder_start": 0},
    )
    config = T5Config(
        vocab_size=37, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, relative_attention_num_buckets=8,
        relative_attention_max_distance=16, feed_forward_proj="gated-gelu", tie_word_embeddings=False,
        pad_token_id=2, eos_token_id=[1, 12, 20, 30], decoder_start_token_id=0, dropout_rate=0.0,
    )  # fmt: skip
    names = {"embedding.weight": "shared.weight", "head.weight": "lm_head.weight"}
    parts = {"q": "q", "k": "k", "v": "v", "o": "o"}
    for stack in ("encoder", "decoder"):
        names[f"{stack}.final_norm.weight"] = f"{stack}.final_layer_norm.weight"
        names[f"{stack}.relative.weight"] = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        for layer in range(2):
            sublayers = [("attention", "SelfAttention")]
            if stack == "decoder":
                sublayers.append(("cross_attention", "EncDecAttention"))
            at, to = f"{stack}.blocks.{layer}", f"{stack}.block.{layer}.layer"
            for i, (mine, theirs) in enumerate(sublayers):
                for a, b in parts.items():
                    names[f"{at}.{mine}.{a}.weight"] = f"{to}.{i}.{theirs}.{b}.weight"
                names[f"{at}.{mine}_before.weight"] = f"{to}.{i}.layer_norm.weight"
            last = len(sublayers)
            for a, b in {"gate": "wi_0", "up": "wi_1", "down": "wo"}.items():
                names[f"{at}.feedforward.{a}.weight"] = f"{to}.{last}.DenseReluDense.{b}.weight"
            names[f"{at}.feedforward_before.weight"] = f"{to}.{last}.layer_norm.weight"
    return ours, _filled(T5ForConditionalGeneration(config), ours, names)


@torch.no_grad()
def _filled(theirs: Any, ours: Model, names: dict[str, str]) -> Any:
    state = dict(theirs.named_parameters())
    mine = dict(ours.transformer.named_parameters())
    assert set(names) == set(mine), set(names) ^ set(mine)
    for a, b in names.items():
        state[b].copy_(mine[a])
    return theirs.eval()
