"""PaLM: Chowdhery et al. 2022, table 1; U-PaLM: Tay et al. 2022, the same networks as prefix decoders.

Heads are 256 wide in all three sizes, which the paper leaves open and the stated counts settle. Tied logits
are multiplied by width^-1/2, since embeddings begin with unit variance.
"""

from assay.spec.published.variants import merged, variants

BASE = {
    "family": "causal",
    "vocab_size": 256000,
    "context": 2048,
    "norm": {"kind": "layernorm", "bias": False},
    "placement": "pre",
    "parallel": "one_norm",
    "positions": "rope",
    "attention": {"kv_heads": 1, "head_width": 256},
    "feedforward": {"activation": "silu", "gated": True},
    "head": {"tied": True},
    "init": {"kind": "t5", "embedding_std": 1.0},
}


def size(width: int, layers: int, heads: int) -> dict[str, object]:
    """A size; the feed-forward is four times as wide as the stream."""
    return {
        "width": width,
        "layers": layers,
        "attention": {"heads": heads},
        "feedforward": {"width": 4 * width},
        "head": {"scale": width**-0.5},
    }


SIZES = {"8b": size(4096, 32, 16), "62b": size(8192, 64, 32), "540b": size(18432, 118, 48)}

PRESETS = variants(BASE, {f"palm-{name}": fields for name, fields in SIZES.items()}) | variants(
    merged(BASE, {"family": "prefix"}), {f"u-palm-{name}": fields for name, fields in SIZES.items()}
)
