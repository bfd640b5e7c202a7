"""The model, run and sweep that claims share, so that equal runs are done once for all of them.

A claim starts from `study(tier)` and changes no more than it must: every run that it has in common with another
claim is free.
"""

from __future__ import annotations

from typing import Any

from assay.claims.base import Tier
from assay.spec.data import DataSpec
from assay.spec.study import StudySpec

__all__ = ["FEW", "RATES", "SEEDS", "STEPS", "study"]

SEEDS = {Tier.smoke: 3, Tier.quick: 4, Tier.full: 5}
"""Runs of each combination."""

FEW = {Tier.smoke: 3, Tier.quick: 3, Tier.full: 5}
"""Runs of each where the effect is large, or where every run is tuned many times."""

STEPS = {Tier.smoke: 6, Tier.quick: 128, Tier.full: 4000}
"""Optimizer steps of a standard run: 5 to 6 s on one core at the quick tier."""

RATES = {
    Tier.smoke: (1e-3, 4e-3),
    Tier.quick: (4e-3, 1e-2, 2.5e-2),
    Tier.full: (5e-4, 1e-3, 2e-3, 4e-3, 8e-3),
}
"""Peak learning rates of a sweep, on seed 0."""

_MODEL: dict[Tier, dict[str, Any]] = {
    Tier.smoke: {"layers": 2, "width": 32, "attention": {"heads": 2}, "context": 512},
    Tier.quick: {"layers": 4, "width": 64, "attention": {"heads": 2}, "context": 512},
    Tier.full: {"layers": 8, "width": 256, "attention": {"heads": 8}, "context": 1024},
}
_ROWS = {Tier.smoke: (4, 64), Tier.quick: (6, 128), Tier.full: (32, 256)}
_VOCABULARY = {Tier.smoke: 512, Tier.quick: 512, Tier.full: 4096}


def study(
    tier: Tier,
    *,
    model: dict[str, Any] | None = None,
    train: dict[str, Any] | None = None,
    vary: dict[str, tuple[Any, ...]] | None = None,
    objective: str | dict[str, Any] | None = None,
    seeds: int | None = None,
    match: str = "parameters",
) -> StudySpec:
    """The standard study of a tier with changes: a causal decoder on the built-in text, one combination.

    Args:
        tier: how large.
        model: fields of the model that differ (dotted where they lie deeper).
        train: fields of the run that differ, dotted too: {"optimizer.learning_rate": 1e-3}; `budget` replaces `steps`.
        vary: axes, as in `StudySpec.vary`.
        objective: None: each family's own.
        seeds: None: the tier's.
        match: what families share: "parameters" or "flops".
    """
    batch, length = _ROWS[tier]
    fields: dict[str, Any] = {
        "model": _MODEL[tier],
        "train": {
            "steps": STEPS[tier],
            "batch_size": batch,
            "length": length,
            "evaluations": 1,
            "checkpoints": 1,
            "schedule": {"kind": "cosine", "warmup": 0.1},
            "optimizer": {"learning_rate": RATES[tier][len(RATES[tier]) // 2]},
            "compile": None if tier is Tier.full else False,
        },
        "data": DataSpec.model_validate(
            {"source": "stdlib", "tokenizer": {"kind": "bpe", "vocab_size": _VOCABULARY[tier]}}
        ).model_dump(mode="json"),
        "vary": vary or {},
        "seeds": seeds or SEEDS[tier],
        "match": match,
    }
    if objective is not None:
        fields["objective"] = objective
    base = StudySpec.from_dict(fields, source="claim")
    if train and "budget" in train:
        rest = base.train.to_dict()
        rest.pop("steps", None)
        base = base.with_(train={**rest, "budget": train["budget"]})
        train = {name: value for name, value in train.items() if name != "budget"}
    changes = {f"train.{name}": value for name, value in (train or {}).items()}
    changes |= {f"model.{name}": value for name, value in (model or {}).items()}
    return base.with_(**changes) if changes else base
