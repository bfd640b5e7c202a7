"""Training objectives, one file each: pure functions of texts' tokens and a key, in NumPy."""

from assay.objectives.bart import Bart
from assay.objectives.base import Example, Key, Lengths, Objective, Sizes, Vocabulary, uniforms
from assay.objectives.causal_lm import CausalLM
from assay.objectives.glm import GLM
from assay.objectives.mlm import MLM
from assay.objectives.prefix_lm import PrefixLM
from assay.objectives.ragged import Examples, Texts
from assay.objectives.registry import REGISTRY, check_lengths, families, make
from assay.objectives.span_corruption import SpanCorruption
from assay.objectives.ul2 import MIXTURES, UL2

__all__ = [
    "GLM",
    "MIXTURES",
    "MLM",
    "REGISTRY",
    "UL2",
    "Bart",
    "CausalLM",
    "Example",
    "Examples",
    "Key",
    "Lengths",
    "Objective",
    "PrefixLM",
    "Sizes",
    "SpanCorruption",
    "Texts",
    "Vocabulary",
    "check_lengths",
    "families",
    "make",
    "uniforms",
]
