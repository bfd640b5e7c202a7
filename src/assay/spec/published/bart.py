"""BART (Lewis et al. 2020) and mBART (Liu et al. 2020), from the released configurations.

BART's logits get a bias that is stored with the weights but was never trained: it is a buffer, so published
counts leave it out. mBART is Pre-LN with a norm after the embedding and one after the last layer.
"""

from assay.spec.published.variants import merged, variants

BASE = {
    "family": "encoder_decoder",
    "context": 1024,
    "norm": {"kind": "layernorm", "eps": 1e-5},
    "positions": {"kind": "learned", "offset": 2},
    "attention": {"qkv_bias": True, "out_bias": True},
    "feedforward": {"activation": "gelu", "gated": False, "bias": True},
    "embedding": {"dropout": 0.1},
    "head": {"tied": True, "bias": True},
    "dropout": 0.1,
    "init": "normal",
}
BART = merged(
    BASE,
    {
        "vocab_size": 50265,
        "placement": {"kind": "post", "embedding_norm": True},
        "tokens": {"pad": 1, "bos": 0, "eos": [2], "decoder_start": 2, "mask": 50264},
    },
)
LARGE = {
    "width": 1024,
    "layers": 12,
    "encoder": {"layers": 12},
    "attention": {"heads": 16},
    "feedforward": {"width": 4096},
}

PRESETS = variants(
    BART,
    {
        "bart-base": {
            "width": 768,
            "layers": 6,
            "encoder": {"layers": 6},
            "attention": {"heads": 12, "dropout": 0.1},
            "feedforward": {"width": 3072, "dropout": 0.1},
        },
        "bart-large": LARGE | {"feedforward": {"width": 4096, "dropout": 0.1}},
    },
) | variants(
    BASE,
    {
        "mbart-large": LARGE
        | {
            "vocab_size": 250027,
            "placement": {"kind": "pre", "embedding_norm": True},
            "embedding": {"scale": 32.0, "dropout": 0.1},  # the square root of 1,024
            "tokens": {"pad": 1, "bos": 0, "eos": [2], "mask": 250026},
        }
    },
)
