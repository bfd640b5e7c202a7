"""GPT-3: Brown et al. 2020, table 2.1.

Two rows of the table do not fit their own widths. XL's 24 heads of 128 are wider than its 2,048 features,
and only 16 heads give the 1.3 billion parameters stated. 13B's 5,140 features are not 40 heads of 128; its
13.0 billion are met by them all the same. GPT-3 alternates dense and locally banded layers, but the band's
width was never published, so every layer is dense here: parameters are the same, attention FLOPs an upper
bound.
"""

from assay.spec.published.variants import variants

PRESETS = variants(
    {
        "vocab_size": 50257,
        "context": 2048,
        "norm": {"kind": "layernorm", "eps": 1e-5},
        "placement": "pre",
        "positions": "learned",
        "attention": {"qkv_bias": True, "out_bias": True},
        "feedforward": {"activation": "gelu_tanh", "gated": False, "bias": True},
        "init": "scaled_residual",
        "tokens": {"bos": 50256, "eos": [50256]},
    },
    {
        "gpt3-125m": {"width": 768, "layers": 12, "attention": {"heads": 12}},
        "gpt3-350m": {"width": 1024, "layers": 24, "attention": {"heads": 16}},
        "gpt3-760m": {"width": 1536, "layers": 24, "attention": {"heads": 16}},
        "gpt3-1.3b": {"width": 2048, "layers": 24, "attention": {"heads": 16}},
        "gpt3-2.7b": {"width": 2560, "layers": 32, "attention": {"heads": 32}},
        "gpt3-6.7b": {"width": 4096, "layers": 32, "attention": {"heads": 32}},
        "gpt3-13b": {"width": 5140, "layers": 40, "attention": {"heads": 40, "head_width": 128}},
        "gpt3-175b": {"width": 12288, "layers": 96, "attention": {"heads": 96}},
    },
)
