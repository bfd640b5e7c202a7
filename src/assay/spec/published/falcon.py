"""Falcon: Almazrouei et al. 2023, and the released configurations. 7B shares one norm; others have two."""

from assay.spec.published.variants import variants

PRESETS = variants(
    {
        "vocab_size": 65024,
        "context": 2048,
        "norm": {"kind": "layernorm", "eps": 1e-5},
        "placement": "pre",
        "parallel": "two_norms",
        "positions": "rope",
        "feedforward": {"activation": "gelu", "gated": False},
        "head": {"tied": True},
        "init": "normal",
        "tokens": {"bos": 11, "eos": [11]},
    },
    {
        "falcon-7b": {
            "width": 4544,
            "layers": 32,
            "parallel": "one_norm",
            "attention": {"heads": 71, "kv_heads": 1},
        },
        "falcon-40b": {"width": 8192, "layers": 60, "attention": {"heads": 128, "kv_heads": 8}},
        "falcon-180b": {
            "width": 14848,
            "layers": 80,
            "attention": {"heads": 232, "kv_heads": 8},
            "head": {"tied": False},
        },
    },
)
