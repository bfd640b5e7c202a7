"""CogView: Ding et al. 2021. Text, then image, in one row of tokens; Sandwich-LN and PB-relax."""

PRESETS = {
    "cogview-4b": {
        "family": "causal",
        "vocab_size": 58240,
        "width": 2560,
        "layers": 48,
        "context": 1089,
        "norm": {"kind": "layernorm", "eps": 1e-5, "max_scale": 8.0},
        "placement": "sandwich",
        "positions": "learned",
        "attention": {"heads": 40, "qkv_bias": True, "out_bias": True, "relax": 32.0, "dropout": 0.1},
        "feedforward": {"activation": "gelu_tanh", "gated": False, "bias": True},
        "embedding": {"dropout": 0.1},
        "head": {"tied": True},
        "dropout": 0.1,
        "init": "scaled_residual",
    }
}
