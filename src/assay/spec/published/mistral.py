"""Mistral 7B (Jiang et al. 2023) and Mixtral 8x7B (Jiang et al. 2024), from the released configurations."""

from assay.spec.published.variants import variants

PRESETS = variants(
    {
        "vocab_size": 32000,
        "width": 4096,
        "layers": 32,
        "context": 32768,
        "norm": {"kind": "rmsnorm", "eps": 1e-5, "cast": "before_weight"},
        "placement": "pre",
        "positions": "rope",
        "attention": {"heads": 32, "kv_heads": 8},
        "feedforward": {"activation": "silu", "gated": True, "width": 14336},
        "head": {"tied": False},
        "init": "normal",
        "tokens": {"bos": 1, "eos": [2]},
    },
    {
        "mistral-7b": {"attention": {"window": 4096}},
        "mistral-7b-v0.3": {"vocab_size": 32768, "positions": {"kind": "rope", "theta": 1e6}},
        "mixtral-8x7b": {
            "positions": {"kind": "rope", "theta": 1e6},
            "feedforward": {"experts": {"count": 8, "active": 2}},
        },
    },
)
