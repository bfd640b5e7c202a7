"""Training objectives, one file each: pure functions of a document's tokens and a key, in NumPy."""

from assay.objectives.base import Example, Key, Lengths, Objective, Sizes, Vocabulary, uniforms
from assay.objectives.causal_lm import CausalLM
from assay.objectives.prefix_lm import PrefixLM
from assay.objectives.registry import REGISTRY, check_lengths, families, make
from assay.objectives.span_corruption import SpanCorruption

__all__ = [
    "REGISTRY",
    "CausalLM",
    "Example",
    "Key",
    "Lengths",
    "Objective",
    "PrefixLM",
    "Sizes",
    "SpanCorruption",
    "Vocabulary",
    "check_lengths",
    "families",
    "make",
    "uniforms",
]
