"""Writes transformers models as GGUF files with the gguf package, the way llama.cpp's converter lays them out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def permuted(weight: Tensor, heads: int) -> Tensor:
    """Rows of each head from halves to neighbours, as llama.cpp keeps LLaMA's queries and keys."""
    return weight.reshape(heads, 2, -1, *weight.shape[1:]).transpose(1, 2).reshape(weight.shape)


def write_gguf(
    path: Path, arch: str, model: nn.Module, *, kind: str = "F32", extra: dict[str, Any] | None = None
) -> Path:
    """One file: weights in a type, metadata, and what `extra` adds or replaces (None: leaves out)."""
    import gguf

    config: Any = model.config
    writer = gguf.GGUFWriter(str(path), arch)
    width, heads = config.hidden_size, config.num_attention_heads
    say: dict[str, Any] = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": width,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": getattr(config, "head_dim", None) or width // heads,
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "rope.freq_base": float(config.rope_theta),
    }
    if getattr(config, "num_local_experts", None):
        say |= {"expert_count": config.num_local_experts, "expert_used_count": config.num_experts_per_tok}
    for key, value in (say | (extra or {})).items():
        name = key if key.startswith("tokenizer.") else f"{arch}.{key}"
        if isinstance(value, bool):
            writer.add_bool(name, value)
        elif isinstance(value, int):
            writer.add_uint32(name, value)
        elif isinstance(value, float):
            writer.add_float32(name, value)
        elif isinstance(value, str):
            writer.add_string(name, value)
        elif isinstance(value, list):
            writer.add_array(name, value)
    for key, tensor in tensors(arch, model).items():
        array = tensor.detach().float().numpy()
        quantised = kind != "F32" and array.ndim > 1 and "norm" not in key
        if not quantised:
            writer.add_tensor(key, array)
            continue
        quant = gguf.GGMLQuantizationType[kind]
        writer.add_tensor(key, gguf.quants.quantize(array, quant), raw_dtype=quant)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tensors(arch: str, model: nn.Module) -> dict[str, Tensor]:
    """The model's tensors under GGUF's names and in its layout."""
    import gguf

    config: Any = model.config
    known = next(number for number, name in gguf.MODEL_ARCH_NAMES.items() if name == arch)
    names = gguf.get_tensor_name_map(known, config.num_hidden_layers)
    found: dict[str, Tensor] = {}
    experts: dict[str, dict[int, Tensor]] = {}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        stem, leaf = name.rsplit(".", 1)
        if expert := re.search(r"\.experts\.(\d+)\.", name):
            whole = names.get_name(stem.replace(f"experts.{expert[1]}.", "experts."))
            assert whole is not None, name
            experts.setdefault(f"{whole}.{leaf}", {})[int(expert[1])] = tensor
            continue
        mapped = names.get_name(stem)
        assert mapped is not None, name
        if arch == "llama" and (".attn_q" in mapped or ".attn_k" in mapped):
            heads = config.num_attention_heads if ".attn_q" in mapped else config.num_key_value_heads
            tensor = permuted(tensor, heads)
        if arch.startswith("gemma") and mapped.endswith("norm"):
            tensor = tensor + 1
        found[f"{mapped}.{leaf}"] = tensor
    for name, pieces in experts.items():
        found[name] = torch.stack([pieces[number] for number in range(len(pieces))])
    scaling = getattr(config, "rope_scaling", None) or {}
    if scaling.get("rope_type") == "llama3":
        found["rope_freqs.weight"] = llama3_divisors(config, scaling)
    return found


def llama3_divisors(config: Any, scaling: dict[str, Any]) -> Tensor:
    """What llama.cpp stores of Llama 3.1's stretch: each frequency's divisor."""
    head = config.head_dim
    frequency = config.rope_theta ** (-np.arange(0, head, 2) / head)
    original, low, high = (
        scaling[name] for name in ("original_max_position_embeddings", "low_freq_factor", "high_freq_factor")
    )
    out = []
    for value in frequency:
        wave = 2 * np.pi / value
        smooth = (original / wave - low) / (high - low)
        if wave < original / high:
            out.append(1.0)
        elif wave > original / low:
            out.append(scaling["factor"])
        else:
            out.append(1 / ((1 - smooth) / scaling["factor"] + smooth))
    return torch.tensor(out, dtype=torch.float32)
