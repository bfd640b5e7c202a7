"""Baichuan 1 and 2 (Yang et al. 2023), from the released configurations: the 13B sizes use ALiBi."""

from assay.spec.published.variants import merged, variants

BASE = {
    "context": 4096,
    "norm": {"kind": "rmsnorm", "eps": 1e-6, "cast": "before_weight"},
    "placement": "pre",
    "feedforward": {"activation": "silu", "gated": True},
    "head": {"tied": False},
    "init": "normal",
    "tokens": {"pad": 0, "bos": 1, "eos": [2]},
}
SEVEN = {
    "width": 4096,
    "layers": 32,
    "positions": "rope",
    "attention": {"heads": 32},
    "feedforward": {"width": 11008},
}
THIRTEEN = {
    "width": 5120,
    "layers": 40,
    "positions": "alibi",
    "attention": {"heads": 40},
    "feedforward": {"width": 13696},
}

PRESETS = variants(merged(BASE, {"vocab_size": 64000}), {"baichuan-7b": SEVEN, "baichuan-13b": THIRTEEN}) | variants(
    merged(BASE, {"vocab_size": 125696, "head": {"normalised": True}}),
    {"baichuan2-7b": SEVEN, "baichuan2-13b": THIRTEEN},
)
