"""GLM-130B (Zeng et al. 2022), ChatGLM-6B, ChatGLM2-6B and GLM-4-9B, from the released configurations.

ChatGLM-6B and GLM-130B are prefix decoders whose residual carries the normed stream times (2 x layers)^1/2;
ChatGLM2 and GLM-4 are causal, Pre-RMSNorm, and rotate half of each head.
"""

from assay.spec.published.variants import variants

_TWO = {
    "family": "causal",
    "width": 4096,
    "placement": "pre",
    "positions": {"kind": "rope", "fraction": 0.5, "pairing": "interleaved"},
    "attention": {"heads": 32, "kv_heads": 2, "head_width": 128, "qkv_bias": True},
    "feedforward": {"activation": "silu", "gated": True, "width": 13696},
    "head": {"tied": False},
    "init": "normal",
}

PRESETS = {
    "chatglm-6b": {
        "family": "prefix",
        "vocab_size": 130528,
        "width": 4096,
        "layers": 28,
        "context": 2048,
        "norm": {"kind": "layernorm", "eps": 1e-5},
        "placement": "glm130b",
        "positions": {"kind": "rope", "axes": 2, "half_frequencies": True},
        "attention": {"heads": 32, "qkv_bias": True, "out_bias": True},
        "feedforward": {"activation": "gelu_tanh", "gated": False, "bias": True, "width": 16384},
        "head": {"tied": True},
        "tokens": {"pad": 3, "bos": 130004, "eos": [130005], "mask": 130000},
        "prompt": {"rule": "chatglm", "sop": 130004, "mask": 130000, "gmask": 130001},
    },
    **variants(
        _TWO,
        {
            "chatglm2-6b": {
                "vocab_size": 65024,
                "layers": 28,
                "context": 32768,
                "norm": {"kind": "rmsnorm", "eps": 1e-5},
                "tokens": {"pad": 0, "bos": 1, "eos": [2]},
            },
            "glm-4-9b": {
                "vocab_size": 151552,
                "layers": 40,
                "context": 8192,
                "norm": {"kind": "rmsnorm", "eps": 1.5625e-7},
                "tokens": {"pad": 151329, "eos": [151329, 151336, 151338]},
            },
        },
    ),
    "glm-130b": {
        "family": "prefix",
        "vocab_size": 150528,
        "width": 12288,
        "layers": 70,
        "context": 2048,
        "norm": {"kind": "layernorm", "eps": 1e-5},
        "placement": "glm130b",
        "positions": {"kind": "rope", "half_frequencies": True},
        "attention": {"heads": 96, "qkv_bias": True, "out_bias": True},
        "feedforward": {"activation": "gelu", "gated": True, "bias": True, "width": 32768},
        "embedding": {"gradient_shrink": 0.1},
        "head": {"tied": True},
        "tokens": {"bos": 150004, "eos": [150005], "mask": 150000},
        "prompt": {"rule": "glm130b", "sop": 150004, "mask": 150000, "gmask": 150001},
    },
}
