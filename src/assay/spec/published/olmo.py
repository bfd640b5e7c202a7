"""OLMo 1 (Groeneveld et al. 2024) and OLMo 2 (OLMo team 2025), from the released configurations.

OLMo 1's LayerNorm learns nothing. OLMo 2 norms what sublayers put out, and queries and keys over their
whole width.
"""

from assay.spec.published.variants import merged, variants

BASE = {
    "feedforward": {"activation": "silu", "gated": True},
    "head": {"tied": False},
    "init": "normal",
}
ONE = merged(
    BASE,
    {
        "vocab_size": 50304,
        "context": 2048,
        "norm": {"kind": "layernorm", "eps": 1e-5, "weight": False},
        "placement": "pre",
        "positions": "rope",
        "tokens": {"pad": 1, "eos": [50279]},
    },
)
TWO = merged(
    BASE,
    {
        "vocab_size": 100352,
        "context": 4096,
        "norm": {"kind": "rmsnorm", "eps": 1e-6, "cast": "after_weight"},
        "placement": "reordered",
        "positions": {"kind": "rope", "theta": 500_000.0},
        "attention": {"qk_norm": "full"},
        "tokens": {"pad": 100277, "eos": [100257]},
    },
)
SEVEN = {"width": 4096, "layers": 32, "attention": {"heads": 32}, "feedforward": {"width": 11008}}

PRESETS = variants(
    ONE,
    {
        "olmo-1b": {
            "width": 2048,
            "layers": 16,
            "attention": {"heads": 16},
            "feedforward": {"width": 8192},
            "head": {"tied": True},
        },
        "olmo-7b": SEVEN,
        "olmo-7b-0424": merged(SEVEN, {"context": 4096, "attention": {"clip_qkv": 8.0}}),
    },
) | variants(
    TWO,
    {
        "olmo2-1b": {
            "width": 2048,
            "layers": 16,
            "attention": {"heads": 16},
            "feedforward": {"width": 8192},
        },
        "olmo2-7b": SEVEN,
        "olmo2-13b": {
            "width": 5120,
            "layers": 40,
            "attention": {"heads": 40},
            "feedforward": {"width": 13824},
        },
        "olmo2-32b": {
            "width": 5120,
            "layers": 64,
            "attention": {"heads": 40, "kv_heads": 8},
            "feedforward": {"width": 27648},
        },
    },
)
