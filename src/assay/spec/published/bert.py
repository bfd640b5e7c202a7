"""BERT (Devlin et al. 2019) with both of its heads; MiniLM (Wang et al. 2020), the sentence encoder."""

from assay.spec.published.variants import merged, variants

BASE = {
    "family": "encoder",
    "vocab_size": 30522,
    "context": 512,
    "norm": {"kind": "layernorm", "eps": 1e-12},
    "placement": {"kind": "post", "embedding_norm": True},
    "positions": "learned",
    "attention": {"qkv_bias": True, "out_bias": True, "dropout": 0.1},
    "feedforward": {"activation": "gelu", "gated": False, "bias": True},
    "embedding": {"token_types": 2, "dropout": 0.1},
    "dropout": 0.1,
    "init": "normal",
    "tokens": {"pad": 0, "bos": 101, "eos": [102], "mask": 103},
}
PAIR = merged(BASE, {"head": {"kind": "mlm", "tied": True, "bias": True, "sentence_pair": True}})

PRESETS = variants(
    PAIR,
    {
        "bert-base": {"width": 768, "layers": 12, "attention": {"heads": 12}, "feedforward": {"width": 3072}},
        "bert-large": {
            "width": 1024,
            "layers": 24,
            "attention": {"heads": 16},
            "feedforward": {"width": 4096},
        },
    },
) | variants(
    BASE,
    {
        "minilm-l6": {
            "width": 384,
            "layers": 6,
            "attention": {"heads": 12},
            "feedforward": {"width": 1536},
            "head": "none",
        }
    },
)
