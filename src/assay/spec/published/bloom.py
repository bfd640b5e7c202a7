"""BLOOM: Le Scao et al. 2022, table 3, and the released configurations: ALiBi, a norm after the embedding."""

from assay.spec.published.variants import variants

PRESETS = variants(
    {
        "vocab_size": 250880,
        "context": 2048,
        "norm": {"kind": "layernorm", "eps": 1e-5},
        "placement": {"kind": "pre", "embedding_norm": True},
        "positions": "alibi",
        "attention": {"qkv_bias": True, "out_bias": True},
        "feedforward": {"activation": "gelu_tanh", "gated": False, "bias": True},
        "head": {"tied": True},
        "init": "scaled_residual",
        "tokens": {"pad": 3, "bos": 1, "eos": [2]},
    },
    {
        "bloom-560m": {"width": 1024, "layers": 24, "attention": {"heads": 16}},
        "bloom-1.1b": {"width": 1536, "layers": 24, "attention": {"heads": 16}},
        "bloom-1.7b": {"width": 2048, "layers": 24, "attention": {"heads": 16}},
        "bloom-3b": {"width": 2560, "layers": 30, "attention": {"heads": 32}},
        "bloom-7.1b": {"width": 4096, "layers": 30, "attention": {"heads": 32}},
        "bloom-176b": {"width": 14336, "layers": 70, "attention": {"heads": 112}},
    },
)
