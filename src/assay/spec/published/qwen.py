"""Qwen 2 and 2.5 (Yang et al. 2024) and Qwen 3 (Yang et al. 2025), from the released configurations.

2 and 2.5 have biases on queries, keys and values; 3 has none and normalises each head's queries and keys
instead.
"""

from assay.spec.published.variants import merged, variants

BASE = {
    "norm": {"kind": "rmsnorm", "eps": 1e-6, "cast": "before_weight"},
    "placement": "pre",
    "positions": {"kind": "rope", "theta": 1e6},
    "feedforward": {"activation": "silu", "gated": True},
    "head": {"tied": False},
    "init": "normal",
    "tokens": {"eos": [151643]},
}
TWO = merged(BASE, {"context": 131072, "attention": {"qkv_bias": True}, "vocab_size": 152064})
THREE = merged(BASE, {"context": 32768, "attention": {"qk_norm": "head", "head_width": 128}, "vocab_size": 151936})
SMALL = {"vocab_size": 151936, "head": {"tied": True}}


def size(width: int, layers: int, heads: int, kv_heads: int, feedforward: int) -> dict[str, object]:
    """A dense size."""
    return {
        "width": width,
        "layers": layers,
        "attention": {"heads": heads, "kv_heads": kv_heads},
        "feedforward": {"width": feedforward},
    }


def mixture(width: int, layers: int, heads: int, kv_heads: int, feedforward: int) -> dict[str, object]:
    """A size whose feed-forward is 128 experts, 8 of them active."""
    dense = size(width, layers, heads, kv_heads, feedforward)
    return merged(dense, {"feedforward": {"experts": {"count": 128, "active": 8}}})


PRESETS = variants(
    TWO,
    {
        "qwen2-0.5b": size(896, 24, 14, 2, 4864) | SMALL,
        "qwen2-1.5b": size(1536, 28, 12, 2, 8960) | SMALL,
        "qwen2-7b": size(3584, 28, 28, 4, 18944),
        "qwen2-72b": size(8192, 80, 64, 8, 29568),
        "qwen2.5-3b": size(2048, 36, 16, 2, 11008) | SMALL | {"context": 32768},
        "qwen2.5-14b": size(5120, 48, 40, 8, 13824),
        "qwen2.5-32b": size(5120, 64, 40, 8, 27648),
    },
) | variants(
    THREE,
    {
        "qwen3-0.6b": size(1024, 28, 16, 8, 3072) | SMALL,
        "qwen3-1.7b": size(2048, 28, 16, 8, 6144) | SMALL,
        "qwen3-4b": size(2560, 36, 32, 8, 9728) | SMALL,
        "qwen3-8b": size(4096, 36, 32, 8, 12288),
        "qwen3-14b": size(5120, 40, 40, 8, 17408),
        "qwen3-32b": size(5120, 64, 64, 8, 25600),
        "qwen3-30b-a3b": mixture(2048, 48, 32, 4, 768),
        "qwen3-235b-a22b": mixture(4096, 94, 64, 4, 1536),
    },
)
