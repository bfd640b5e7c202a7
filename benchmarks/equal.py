"""The same weights in every peer: transformers' LLaMA as litgpt and x-transformers lay it out.

Losses on the same tokens then agree to float32's rounding, which is checked before anything is timed.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["COPIES", "interleaved"]

State = dict[str, Tensor]


def interleaved(weight: Tensor, heads: int) -> Tensor:
    """Rows of a query or key matrix for rotary positions that turn neighbours (2i, 2i+1), not halves (i, i + d/2).

    Args:
        weight: [heads * d, inputs], for rotation of halves.
    """
    rows, inputs = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, inputs).transpose(1, 2).reshape(rows, inputs)


def litgpt(state: State, layers: int, heads: int) -> State:
    """Query, key and value in one matrix, one after the other."""
    found = {
        "lm_head.weight": state["lm_head.weight"],
        "transformer.wte.weight": state["model.embed_tokens.weight"],
        "transformer.ln_f.weight": state["model.norm.weight"],
    }
    for layer in range(layers):
        there, here = f"transformer.h.{layer}", f"model.layers.{layer}"
        parts = [state[f"{here}.self_attn.{p}_proj.weight"] for p in "qkv"]
        found |= {
            f"{there}.attn.qkv.weight": torch.cat(parts),
            f"{there}.attn.proj.weight": state[f"{here}.self_attn.o_proj.weight"],
            f"{there}.norm_1.weight": state[f"{here}.input_layernorm.weight"],
            f"{there}.norm_2.weight": state[f"{here}.post_attention_layernorm.weight"],
            f"{there}.mlp.fc_1.weight": state[f"{here}.mlp.gate_proj.weight"],
            f"{there}.mlp.fc_2.weight": state[f"{here}.mlp.up_proj.weight"],
            f"{there}.mlp.proj.weight": state[f"{here}.mlp.down_proj.weight"],
        }
    return found


def x_transformers(state: State, layers: int, heads: int) -> State:
    """Attention and feed-forward take turns; rotary positions turn neighbours; up and gate in one matrix."""
    found = {
        "to_logits.weight": state["lm_head.weight"],
        "token_emb.emb.weight": state["model.embed_tokens.weight"],
        "attn_layers.final_norm.g": state["model.norm.weight"],
    }
    for layer in range(layers):
        here = f"model.layers.{layer}"
        attend, feed = f"attn_layers.layers.{2 * layer}", f"attn_layers.layers.{2 * layer + 1}"
        gated = [state[f"{here}.mlp.{p}_proj.weight"] for p in ("up", "gate")]
        found |= {
            f"{attend}.0.0.g": state[f"{here}.input_layernorm.weight"],
            f"{attend}.1.to_q.weight": interleaved(state[f"{here}.self_attn.q_proj.weight"], heads),
            f"{attend}.1.to_k.weight": interleaved(state[f"{here}.self_attn.k_proj.weight"], heads),
            f"{attend}.1.to_v.weight": state[f"{here}.self_attn.v_proj.weight"],
            f"{attend}.1.to_out.weight": state[f"{here}.self_attn.o_proj.weight"],
            f"{feed}.0.0.g": state[f"{here}.post_attention_layernorm.weight"],
            f"{feed}.1.ff.0.proj.weight": torch.cat(gated),
            f"{feed}.1.ff.2.weight": state[f"{here}.mlp.down_proj.weight"],
        }
    # Its norms multiply by one plus their weight.
    return {name: tensor - 1 if name.endswith(".g") else tensor for name, tensor in found.items()}


LAYOUTS: dict[str, Callable[[State, int, int], State]] = {"litgpt": litgpt, "x-transformers": x_transformers}


def copy(peer: str, model: nn.Module, reference: nn.Module, layers: int, heads: int) -> None:
    """Put transformers' weights into a peer's model.

    Raises:
        RuntimeError: a weight of the model gets none, or one is of another shape.
    """
    state = {name: tensor.detach() for name, tensor in reference.state_dict().items()}
    given = LAYOUTS[peer](state, layers, heads) if peer in LAYOUTS else state
    own = dict(model.named_parameters())
    # x-transformers' gated unit keeps a bias, whatever it is told; it stays zero.
    biases = {name for name in set(own) - set(given) if name.endswith("bias")}
    if missing := sorted((set(own) ^ set(given)) - biases):
        raise RuntimeError(f"{peer}: names do not match: {', '.join(missing[:6])}")
    with torch.no_grad():
        for name in biases:
            own[name].zero_()
        for name, tensor in given.items():
            own[name].view(tensor.shape).copy_(tensor)


COPIES = ("transformers", *LAYOUTS)
"""Peers that can hold the same weights."""
