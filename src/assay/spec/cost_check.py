"""The estimate held against published runs: how far each figure lies from what was reported.

Twice: with the run's own published throughput, power, PUE and grid, which tests the formulas; and with the machine's
defaults, which is what a user gets who knows only model, tokens and machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from assay.spec.cost import cost
from assay.spec.published import preset

__all__ = ["RUNS", "Comparison", "PublishedRun", "compare_published"]


@dataclass(frozen=True)
class PublishedRun:
    """One training run as its authors, or an audit, reported it."""

    model: str
    machine: str
    tokens: float
    own: dict[str, float]
    """utilisation (model FLOPs), power, pue, carbon as published."""
    published: dict[str, float]
    """Of `QUANTITIES`, those that were reported."""
    source: str


RUNS = (
    PublishedRun(
        "gpt3-175b", "v100-32gb", 300e9,
        {"utilisation": 24.6 / 125, "power": 330, "pue": 1.1, "carbon": 0.429},
        {"parameters": 175e9, "rule_of_thumb": 3.14e23, "flops": 3.14e23, "device_hours": 10_000 * 14.8 * 24,
         "energy_kwh": 1_287e3, "co2_kg": 552.1e3},
        "Brown et al. 2020, table D.1 (6 N D); Patterson et al. 2021, table 4",
    ),
    PublishedRun(
        "palm-540b", "tpu-v4", 780e9,
        {"utilisation": 0.462, "power": 378.5, "pue": 1.08, "carbon": 0.079},
        {"parameters": 540.35e9, "flops": 2.56e24, "device_hours": 6144 * 1200 + 3072 * 336, "co2_kg": 271.43e3},
        "Chowdhery et al. 2022, table 1 and appendix B. Hours include downtime and repeated steps, CO2e is net of "
        "the site's own clean power",
    ),
    PublishedRun(
        "bloom-176b", "a100-80gb", 366e9,
        {"utilisation": 150 / 312 * 6 / 8, "power": 400, "pue": 1.0, "carbon": 0.057},
        {"parameters": 176.247e9, "device_hours": 1_082_990, "energy_kwh": 433_196, "co2_kg": 24.7e3},
        "Le Scao et al. 2022; Luccioni et al. 2022, table 1 (dynamic power alone). 150 TFLOP/s counts recomputation, "
        "8 N D to 6 N D",
    ),
    PublishedRun(
        "llama-65b", "a100-80gb", 1.4e12,
        {"utilisation": 380 * 6 * 65.286e9 / 312e12, "power": 400, "pue": 1.1, "carbon": 0.385},
        {"parameters": 65.2e9, "device_hours": 1_022_362, "energy_kwh": 449e3, "co2_kg": 173e3},
        "Touvron et al. 2023, section 2.4 (380 tokens/s on a GPU) and table 15",
    ),
    PublishedRun(
        "glm-130b", "a100-40gb", 400e9,
        {"utilisation": 0.325, "power": 400, "pue": 1.0, "carbon": 0.581},
        {"parameters": 130e9, "device_hours": 768 * 60 * 24, "energy_kwh": 442.4e3, "co2_kg": 257.01e3},
        "Zeng et al. 2022: 96 nodes of 8 for 60 days, model FLOPs utilisation 32.5%, 442.4 MWh, 257.01 t",
    ),
)  # fmt: skip
"""The runs that are checked."""

QUANTITIES = {
    "parameters": "parameters",
    "rule_of_thumb": "FLOPs by 6 N D",
    "flops": "FLOPs, exact",
    "device_hours": "device-hours",
    "energy_kwh": "energy, kWh",
    "co2_kg": "CO2e, kg",
}
"""What is compared, in order."""


@dataclass(frozen=True)
class Comparison:
    """One quantity of one run."""

    model: str
    quantity: str
    published: float
    estimate: float
    """With the run's own published throughput, power, PUE and grid."""
    blind: float
    """With the machine's defaults."""
    source: str

    @property
    def deviation(self) -> float:
        """Estimate over published, minus 1."""
        return self.estimate / self.published - 1

    @property
    def blind_deviation(self) -> float:
        """The blind estimate over published, minus 1."""
        return self.blind / self.published - 1


def compare_published() -> list[Comparison]:
    """Every published figure beside its two estimates."""
    rows = []
    for run in RUNS:
        spec = preset(run.model)
        assumed: list[dict[str, Any]] = [run.own, {}]
        own, blind = (cost(spec, machine=run.machine, tokens=run.tokens, length=2048, **given) for given in assumed)
        assert own.training is not None and blind.training is not None
        for key, words in QUANTITIES.items():
            if key not in run.published:
                continue
            made = [
                float(found.parameters["total"] if key == "parameters" else getattr(found.training, key))
                for found in (own, blind)
            ]
            rows.append(Comparison(run.model, words, run.published[key], made[0], made[1], run.source))
    return rows
