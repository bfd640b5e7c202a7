"""Sizes for teaching and tests: 1.1 to 1.3 million parameters, trained in minutes on a CPU."""

from assay.spec.published.variants import variants

PRESETS = variants(
    {"vocab_size": 2048, "width": 128, "layers": 4, "context": 512, "attention": {"heads": 4}},
    {
        "tiny": {},
        "tiny-prefix": {"family": "prefix"},
        "tiny-encoder-decoder": {"family": "encoder_decoder", "layers": 2, "encoder": {"layers": 2}},
        "tiny-encoder": {"family": "encoder"},
        # The published families in miniature: their choices on every axis, at sizes that a laptop trains.
        "tiny-gpt2": {
            "norm": "layernorm",
            "positions": "learned",
            "attention": {"qkv_bias": True, "out_bias": True},
            "feedforward": {"activation": "gelu_tanh", "gated": False, "bias": True},
            "init": "scaled_residual",
        },
        "tiny-llama": {
            "norm": {"cast": "before_weight"},
            "feedforward": {"activation": "silu", "gated": True},
            "head": {"tied": False},
            "init": "normal",
        },
        "tiny-t5": {
            "family": "encoder_decoder",
            "layers": 2,
            "encoder": {"layers": 2},
            "norm": {"eps": 1e-6, "cast": "before_weight"},
            "positions": "relative",
            "attention": {"scale": 1.0},
            "feedforward": {"activation": "relu", "gated": False},
            "head": {"scale": 128**-0.5},
            "init": {"kind": "t5", "embedding_std": 1.0},
        },
        "tiny-bert": {
            "family": "encoder",
            "norm": {"kind": "layernorm", "eps": 1e-12},
            "placement": {"kind": "post", "embedding_norm": True},
            "positions": "learned",
            "attention": {"qkv_bias": True, "out_bias": True},
            "feedforward": {"activation": "gelu", "gated": False, "bias": True},
            "embedding": {"token_types": 2},
            "head": {"kind": "mlm", "bias": True},
            "init": "normal",
        },
    },
)
