"""LLaMA 1 and 2 (both Touvron et al. 2023) and 3 (Dubey et al. 2024), and the released configurations."""

from assay.spec.published.variants import merged, variants

BASE = {
    "vocab_size": 32000,
    "norm": {"kind": "rmsnorm", "eps": 1e-5, "cast": "before_weight"},
    "placement": "pre",
    "positions": "rope",
    "feedforward": {"activation": "silu", "gated": True},
    "head": {"tied": False},
    "init": "normal",
    "tokens": {"bos": 1, "eos": [2]},
}
THREE = merged(
    BASE,
    {
        "vocab_size": 128256,
        "context": 8192,
        "positions": {"kind": "rope", "theta": 500_000.0},
        "attention": {"kv_heads": 8},
        "tokens": {"bos": 128000, "eos": [128001]},
    },
)


def stretched(factor: float) -> dict[str, object]:
    """LLaMA 3.1's and 3.2's RoPE: trained on 8,192 tokens, stretched to 131,072."""
    return {
        "kind": "llama3",
        "factor": factor,
        "original_length": 8192,
        "low_frequency": 1.0,
        "high_frequency": 4.0,
    }


SEVEN = {"width": 4096, "layers": 32, "attention": {"heads": 32}, "feedforward": {"width": 11008}}
THIRTEEN = {"width": 5120, "layers": 40, "attention": {"heads": 40}, "feedforward": {"width": 13824}}
EIGHT_3 = {"width": 4096, "layers": 32, "attention": {"heads": 32}, "feedforward": {"width": 14336}}
SEVENTY = {
    "width": 8192,
    "layers": 80,
    "attention": {"heads": 64, "kv_heads": 8},
    "feedforward": {"width": 28672},
}

ONE = merged(BASE, {"context": 2048, "norm": {"eps": 1e-6}})
TWO = merged(BASE, {"context": 4096})
THREE_1 = merged(THREE, {"context": 131072, "positions": {"scaling": stretched(8.0)}})
THREE_2 = merged(THREE, {"context": 131072, "positions": {"scaling": stretched(32.0)}, "head": {"tied": True}})

PRESETS = (
    variants(
        ONE,
        {
            "llama-7b": SEVEN,
            "llama-13b": THIRTEEN,
            "llama-33b": {
                "width": 6656,
                "layers": 60,
                "attention": {"heads": 52},
                "feedforward": {"width": 17920},
            },
            "llama-65b": {
                "width": 8192,
                "layers": 80,
                "attention": {"heads": 64},
                "feedforward": {"width": 22016},
            },
        },
    )
    | variants(TWO, {"llama2-7b": SEVEN, "llama2-13b": THIRTEEN, "llama2-70b": SEVENTY})
    | variants(THREE, {"llama3-8b": EIGHT_3, "llama3-70b": SEVENTY})
    | variants(
        THREE_1,
        {
            "llama3.1-8b": EIGHT_3,
            "llama3.1-70b": SEVENTY,
            "llama3.1-405b": {
                "width": 16384,
                "layers": 126,
                "attention": {"heads": 128},
                "feedforward": {"width": 53248},
            },
        },
    )
    | variants(
        THREE_2,
        {
            "llama3.2-1b": {
                "width": 2048,
                "layers": 16,
                "attention": {"heads": 32},
                "feedforward": {"width": 8192},
            },
            "llama3.2-3b": {
                "width": 3072,
                "layers": 28,
                "attention": {"heads": 24},
                "feedforward": {"width": 8192},
            },
        },
    )
)
