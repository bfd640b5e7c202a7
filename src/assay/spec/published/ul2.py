"""UL2-20B: Tay et al. 2022, and the released configuration (gated SiLU, untied, 256 features a head)."""

from assay.spec.published.t5 import BASE, size
from assay.spec.published.variants import variants

PRESETS = variants(
    BASE,
    {
        "ul2-20b": size(4096, 32, 16, 16384, 256)
        | {
            "context": 1024,
            "feedforward": {"activation": "silu", "gated": True, "width": 16384},
            "head": {"tied": False},
            "dropout": 0.0,
        }
    },
)
