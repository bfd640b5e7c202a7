"""A family of sizes on a made task: what C7 and C8 are both measured on."""

from __future__ import annotations

from collections.abc import Mapping

from assay.claims.base import Experiment, Tier
from assay.claims.lab import Lab
from assay.claims.standard import study
from assay.evaluation.outcomes import Outcomes

__all__ = ["PARTS", "TASK", "WIDTHS", "experiments", "family"]

TASK, PARTS = "recall", 5
"""Five digits known by heart, asked at once: one answer of ten tokens, five sub-tasks."""

WIDTHS = {Tier.smoke: (4, 6, 8, 12, 16), Tier.quick: (4, 6, 8, 12, 16, 24), Tier.full: (4, 6, 8, 12, 16, 24, 32, 48)}
STEPS = {Tier.smoke: 6, Tier.quick: 600, Tier.full: 2000}
SEEDS = {Tier.smoke: 3, Tier.quick: 3, Tier.full: 5}
RATE = 0.24
"""Peak rate times width: the best rate of small decoders under Adam falls about as 1 / width (Yang et al. 2022)."""


def experiments(tier: Tier) -> Mapping[str, Experiment]:
    """One experiment a size, equal but for width and rate: the same text, tokens and steps."""
    found = {}
    for width in WIDTHS[tier]:
        base = study(
            tier,
            model={"layers": 2, "width": width, "attention.heads": 1, "context": 256},
            train={
                "steps": STEPS[tier], "batch_size": 8, "length": 128, "evaluations": 1,
                "optimizer.learning_rate": round(RATE / width, 5),
            },
            seeds=SEEDS[tier],
        )  # fmt: skip
        data = {"source": f"made:{TASK}:sizes={PARTS}", "tokenizer": {"kind": "bytes", "sentinels": 1}}
        found[str(width)] = Experiment(base.with_(data=data))
    return found


def family(lab: Lab) -> list[list[tuple[str, float, Outcomes]]]:
    """[seeds] of (name, parameters, outcomes) by size: every trained model on the same test items."""
    from assay.evaluation.generated import generated_task
    from assay.evaluation.outcomes import outcomes
    from assay.evaluation.pairs import Codec

    task = generated_task(TASK, lab.by_tier(smoke=12, quick=200, full=2000), sizes=(PARTS,))
    found: list[list[tuple[str, float, Outcomes]]] = [[] for _ in range(SEEDS[lab.tier])]
    for width in WIDTHS[lab.tier]:
        for seed, run in enumerate(lab.results(str(width)).cells[0].runs):
            if run.done:
                model = run.model()
                entry = (f"width {width}", float(int(model.spec.parameters())), outcomes(Codec(model), task))
                found[seed].append(entry)
    return found
