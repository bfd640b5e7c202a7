"""One sweep over learning rates, every seed at every rate: what C19 and C39 are both measured on."""

from __future__ import annotations

from assay.claims.base import Experiment, Tier
from assay.claims.lab import Cell, Results
from assay.claims.standard import FEW, study

__all__ = ["AXIS", "GRID", "cells_by_rate", "swept_rates"]

AXIS = "train.optimizer.learning_rate"

GRID = {
    Tier.smoke: (1e-3, 4e-3, 1.6e-2),
    Tier.quick: (2e-4, 6e-4, 1.6e-3, 4e-3, 1e-2, 2.5e-2, 8e-2, 2.5e-1),
    Tier.full: (1.25e-4, 2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2, 6.4e-2, 1.28e-1),
}
"""Peak rates; those of the standard sweep are among them, so that their runs are shared."""


def swept_rates(tier: Tier) -> Experiment:
    """The standard decoder at every rate of the grid, with all seeds."""
    return Experiment(study(tier, vary={AXIS: GRID[tier]}, seeds=FEW[tier]))


def cells_by_rate(found: Results) -> dict[float, Cell]:
    """Rate to its runs, ascending."""
    return dict(sorted((cell.rate, cell) for cell in found.cells))
