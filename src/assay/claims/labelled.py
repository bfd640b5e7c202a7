"""What the claims on labelled data share, C24 and C30: models pretrained on the made text of topics, and tuning."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from assay.claims.base import Experiment, Tier
from assay.claims.lab import Lab
from assay.claims.standard import FEW, STEPS, study
from assay.evaluation.tasks import Three
from assay.training.tuning_spec import TuneSpec

__all__ = ["RATES", "SENTENCES", "best_rate", "parts", "pretraining", "tuning"]

SENTENCES = {Tier.smoke: 1500, Tier.quick: 12_000, Tier.full: 400_000}
RATES = {Tier.smoke: (2e-3,), Tier.quick: (1e-3, 4e-3), Tier.full: (3e-4, 1e-3, 2e-3, 4e-3)}
"""Peak learning rates of tuning that each arm chooses from on validation examples, on seed 0."""


def pretraining(tier: Tier) -> Experiment:
    """The standard decoder on the text of topics, without labels, for a little longer."""
    longer = {"steps": round(1.25 * STEPS[tier]), "batch_size": 8}
    described = study(tier, train=longer, seeds=FEW[tier]).with_(
        **{"data.source": f"made:topics:items={SENTENCES[tier]}"}
    )
    return Experiment(described.with_(vary={}))


def parts(lab: Lab, name: str, train: int) -> Three:
    """A task's training, validation and test examples."""
    from assay.evaluation.topic_tasks import topic_task

    valid, test = lab.by_tier(smoke=12, quick=120, full=500), lab.by_tier(smoke=16, quick=240, full=2000)
    return Three(
        topic_task(name, train, part="train"), topic_task(name, valid, part="valid"), topic_task(name, test)
    )  # fmt: skip


def tuning(lab: Lab, rate: float, *, times: float = 1.0) -> TuneSpec:
    """How a model is tuned; `times`: as many steps as tasks share it."""
    steps = lab.by_tier(smoke=4, quick=80, full=600)
    fields = {"steps": round(steps * times), "length": 96, "evaluations": 5, "heldout": 64}
    return TuneSpec().with_(**fields, **{"optimizer.learning_rate": rate})


def best_rate(rates: Sequence[float], score: Callable[[float], float]) -> float:
    """The rate with the highest score; the lowest of equals."""
    return max(rates, key=lambda rate: (score(rate), -rate))
