"""GPT-2: Radford et al. 2019, table 2, and the released configurations."""

from assay.spec.published.variants import variants

PRESETS = variants(
    {
        "vocab_size": 50257,
        "context": 1024,
        "norm": {"kind": "layernorm", "eps": 1e-5},
        "placement": "pre",
        "positions": "learned",
        "attention": {"qkv_bias": True, "out_bias": True, "dropout": 0.1},
        "feedforward": {"activation": "gelu_tanh", "gated": False, "bias": True},
        "embedding": {"dropout": 0.1},
        "dropout": 0.1,
        "init": "scaled_residual",
        "tokens": {"bos": 50256, "eos": [50256]},
    },
    {
        "gpt2-124m": {"width": 768, "layers": 12, "attention": {"heads": 12}},
        "gpt2-355m": {"width": 1024, "layers": 24, "attention": {"heads": 16}},
        "gpt2-774m": {"width": 1280, "layers": 36, "attention": {"heads": 20}},
        "gpt2-1.5b": {"width": 1600, "layers": 48, "attention": {"heads": 25}},
    },
)
