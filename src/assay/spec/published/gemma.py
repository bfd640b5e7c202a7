"""Gemma 1 and 2 (Gemma team 2024), from the released configurations.

Gains are 1 + w, embeddings are multiplied by the square root of the width. Gemma 2 adds norms on what
sublayers put out, two soft-caps, and a window of 4,096 in every other layer, beginning with the first.
"""

from assay.spec.published.variants import merged, variants

BASE = {
    "vocab_size": 256000,
    "context": 8192,
    "norm": {"kind": "rmsnorm", "eps": 1e-6, "plus_one": True, "cast": "after_weight"},
    "placement": "pre",
    "positions": "rope",
    "attention": {"head_width": 256},
    "feedforward": {"activation": "gelu_tanh", "gated": True},
    "head": {"tied": True},
    "init": "normal",
    "tokens": {"pad": 0, "bos": 2, "eos": [1]},
}
TWO = merged(BASE, {"placement": "sandwich", "attention": {"softcap": 50.0, "window": 4096}, "head": {"softcap": 30.0}})


def size(
    width: int, layers: int, heads: int, kv_heads: int, feedforward: int, **attention: float | list[int]
) -> dict[str, object]:
    """A size."""
    return {
        "width": width,
        "layers": layers,
        "attention": {"heads": heads, "kv_heads": kv_heads} | attention,
        "feedforward": {"width": feedforward},
        "embedding": {"scale": width**0.5},
    }


def alternate(layers: int) -> list[int]:
    """Every other layer, beginning with the first."""
    return list(range(0, layers, 2))


PRESETS = variants(
    BASE, {"gemma-2b": size(2048, 18, 8, 1, 16384), "gemma-7b": size(3072, 28, 16, 16, 24576)}
) | variants(
    TWO,
    {
        "gemma2-2b": size(2304, 26, 8, 4, 9216, scale=256**-0.5, window_layers=alternate(26)),
        "gemma2-9b": size(3584, 42, 16, 8, 14336, scale=256**-0.5, window_layers=alternate(42)),
        # 27B divides by the width of a head as if it were width / heads = 144.
        "gemma2-27b": size(4608, 46, 32, 16, 36864, head_width=128, scale=144**-0.5, window_layers=alternate(46)),
    },
)
