"""What things are, as plain data: a model, an objective, a run, a study; masks; counting without building."""

from assay.spec.masks import Bidirectional, Causal, Mask, MaskFacts, Padding, Prefix, SameDocument, Window
from assay.spec.model import ModelSpec
from assay.spec.training import TrainSpec

__all__ = [
    "Bidirectional",
    "Causal",
    "Mask",
    "MaskFacts",
    "ModelSpec",
    "Padding",
    "Prefix",
    "SameDocument",
    "TrainSpec",
    "Window",
]
