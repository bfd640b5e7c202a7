"""T5: v1.0 (Raffel et al. 2020), v1.1 and Flan-T5 (Chung et al. 2022), whose sizes are v1.1's.

An attention score is not scaled by head_width^-1/2. v1.0 ties the output matrix and then multiplies the
hidden states by width^-1/2; v1.1 does neither. The relative bias is one table per stack.
"""

from assay.spec.published.variants import merged, variants

BASE = {
    "family": "encoder_decoder",
    "vocab_size": 32128,
    "context": 512,
    "norm": {"kind": "rmsnorm", "eps": 1e-6, "cast": "before_weight"},
    "placement": "pre",
    "positions": {"kind": "relative", "buckets": 32, "max_distance": 128},
    "attention": {"scale": 1.0, "head_width": 64, "dropout": 0.1},
    "embedding": {"dropout": 0.1},
    "dropout": 0.1,
    "init": {"kind": "t5", "embedding_std": 1.0},
    "tokens": {"pad": 0, "eos": [1], "decoder_start": 0},
}
RELU = merged(BASE, {"feedforward": {"activation": "relu", "gated": False, "dropout": 0.1}})
GATED = merged(
    BASE,
    {"feedforward": {"activation": "gelu_tanh", "gated": True, "dropout": 0.1}, "head": {"tied": False}},
)


def size(width: int, layers: int, heads: int, feedforward: int, head_width: int = 64) -> dict[str, object]:
    """A size with encoder and decoder of equal depth."""
    return {
        "width": width,
        "layers": layers,
        "encoder": {"layers": layers},
        "attention": {"heads": heads, "head_width": head_width},
        "feedforward": {"width": feedforward},
    }


V1_1 = {
    "small": size(512, 8, 6, 1024),
    "base": size(768, 12, 12, 2048),
    "large": size(1024, 24, 16, 2816),
    "xl": size(2048, 24, 32, 5120),
    "xxl": size(4096, 24, 64, 10240),
}

PRESETS = (
    variants(
        RELU,
        {
            "t5-small": size(512, 6, 8, 2048) | {"head": {"scale": 512**-0.5}},
            "t5-base": size(768, 12, 12, 3072) | {"head": {"scale": 768**-0.5}},
            "t5-large": size(1024, 24, 16, 4096) | {"head": {"scale": 1024**-0.5}},
            "t5-xl": size(1024, 24, 32, 16384, 128) | {"head": {"scale": 1024**-0.5}},
            "t5-xxl": size(1024, 24, 128, 65536, 128) | {"head": {"scale": 1024**-0.5}},
        },
    )
    | variants(GATED, {f"t5-v1.1-{name}": fields for name, fields in V1_1.items()})
    | variants(GATED, {f"flan-t5-{name}": fields for name, fields in V1_1.items()})
)
