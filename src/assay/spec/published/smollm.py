"""SmolLM2: Ben Allal et al. 2025, from the released configurations: LLaMA's block at small sizes."""

from assay.spec.published.variants import variants

PRESETS = variants(
    {
        "vocab_size": 49152,
        "context": 8192,
        "norm": {"kind": "rmsnorm", "eps": 1e-5, "cast": "before_weight"},
        "placement": "pre",
        "positions": {"kind": "rope", "theta": 100_000.0},
        "feedforward": {"activation": "silu", "gated": True},
        "head": {"tied": True},
        "init": "normal",
        "tokens": {"bos": 0, "eos": [0]},
    },
    {
        "smollm2-135m": {
            "width": 576,
            "layers": 30,
            "attention": {"heads": 9, "kv_heads": 3},
            "feedforward": {"width": 1536},
        },
        "smollm2-360m": {
            "width": 960,
            "layers": 32,
            "attention": {"heads": 15, "kv_heads": 5},
            "feedforward": {"width": 2560},
        },
        "smollm2-1.7b": {
            "width": 2048,
            "layers": 24,
            "positions": {"kind": "rope", "theta": 130_000.0},
            "attention": {"heads": 32},
            "feedforward": {"width": 8192},
        },
    },
)
