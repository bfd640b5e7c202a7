"""Gradient norms by layer before training, which the claims on Post-LN and Pre-LN share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from assay.claims.base import Tier
from assay.claims.placements import NAMES, mean_of
from assay.spec.study import StudySpec
from assay.stats import Interval

__all__ = ["growth", "layer_points", "layer_rows"]

_SIZES = {Tier.smoke: (4, 16, 3), Tier.quick: (12, 64, 10), Tier.full: (12, 512, 10)}
"""Layers in all, width, seeds."""


def layer_rows(tier: Tier, family: str) -> dict[str, list[list[float]]]:
    """Gradient norm of every decoder layer at the start: placement to [seeds][layers].

    Xiong et al. 2020's setting: LayerNorm, Xavier, ReLU, sinusoidal positions, embeddings times sqrt(width); bytes.
    An encoder-decoder has half of the layers on each side, and its decoder's are given.

    Args:
        tier: how large.
        family: "causal" or "encoder_decoder".
    """
    from assay.studies.stability import Settings, Subject, stability_study

    layers, width, seeds = _SIZES[tier]
    settings = Settings(data="stdlib", tokenizer="bytes", batch_size=8, length=64, seeds=seeds)
    subjects = []
    for placement in ("post", "pre"):
        fields: dict[str, Any] = {
            "model": {
                "family": family, "layers": layers if family == "causal" else layers // 2, "width": width,
                "attention": {"heads": 4}, "context": 512, "norm": "layernorm", "placement": placement,
                "init": "xavier", "positions": "sinusoidal", "embedding": {"scale": math.sqrt(width)},
                "feedforward": {"activation": "relu", "gated": False},
            },
            "train": {"steps": 1, "batch_size": 8, "length": 64},
            "data": {"source": "stdlib", "tokenizer": "bytes"}, "vary": {}, "seeds": 1,
        }  # fmt: skip
        subjects.append(Subject(placement, StudySpec.from_dict(fields, source="claim").runs()[0]))
    found = stability_study(subjects, settings)["models"]
    return {
        model["name"]: [
            [layer["gradient"] for layer in seed["at"]["start"]["layers"] if layer["stack"] == "decoder"]
            for seed in model["seeds"]
        ]
        for model in found
    }


def growth(by_seed: Sequence[Sequence[float]]) -> Interval:
    """log2 of the last layer's norm over the first's: mean over seeds, Student t."""
    return mean_of([math.log2(layers[-1] / layers[0]) for layers in by_seed])


def layer_points(found: Mapping[str, Sequence[Sequence[float]]]) -> list[dict[str, Any]]:
    """Points of a picture: geometric mean and interval over seeds of every layer, layers from 1."""
    points = []
    for placement, by_seed in found.items():
        for layer, values in enumerate(zip(*by_seed, strict=True), start=1):
            at = mean_of([math.log(value) for value in values])
            middle, low, high = (math.exp(v) for v in (at.estimate, at.low, at.high))
            points.append({"series": NAMES[placement], "x": layer, "y": middle, "low": low, "high": high})
    return points
