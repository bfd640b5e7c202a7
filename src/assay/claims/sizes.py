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

WIDTHS = {Tier.smoke: (4, 6, 8, 12, 16), Tier.quick: (4, 8, 12, 16, 24), Tier.full: (4, 8, 12, 16, 24, 32, 48)}
STEPS = {Tier.smoke: 6, Tier.quick: 1000, Tier.full: 2000}
SEEDS = {Tier.smoke: 3, Tier.quick: 3, Tier.full: 5}
RATES = {Tier.smoke: (8e-3,), Tier.quick: (5e-3, 1.2e-2), Tier.full: (1e-3, 3e-3, 8e-3, 2e-2)}
"""Each size at its own best: where a letter's digit is found depends on the rate as much as on the size."""


def experiments(tier: Tier) -> Mapping[str, Experiment]:
    """The sizes, equal but for their width and its best rate: the same text, tokens and steps."""
    base = study(
        tier,
        model={"layers": 2, "attention.heads": 1, "context": 256},
        train={"steps": STEPS[tier], "batch_size": 4, "length": 128, "evaluations": 1},
        vary={"width": WIDTHS[tier]},
        seeds=SEEDS[tier],
    )
    data = {"source": f"made:{TASK}:sizes={PARTS}", "tokenizer": {"kind": "bytes", "sentinels": 1}}
    return {"sizes": Experiment(base.with_(data=data), RATES[tier])}


def family(lab: Lab) -> list[list[tuple[str, float, Outcomes]]]:
    """[seeds] of (name, parameters, outcomes) by size: every trained model on the same test items."""
    from assay.evaluation.generated import generated_task
    from assay.evaluation.outcomes import outcomes
    from assay.evaluation.pairs import Codec

    task = generated_task(TASK, lab.by_tier(smoke=12, quick=200, full=2000), sizes=(PARTS,))
    found: list[list[tuple[str, float, Outcomes]]] = [[] for _ in range(SEEDS[lab.tier])]
    sizes = lab.results("sizes")
    for width in WIDTHS[lab.tier]:
        for seed, run in enumerate(sizes.cell(width=width).runs):
            if run.done:
                model = run.model()
                entry = (f"width {width}", float(int(model.spec.parameters())), outcomes(Codec(model), task))
                found[seed].append(entry)
    return found
