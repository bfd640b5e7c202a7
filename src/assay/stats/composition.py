"""A task made of sub-tasks: all must succeed. What their accuracies say of the whole's.

    independent     prod p_k
    always          max(0, sum p_k - (K - 1)) <= P(all) <= min p_k       Frechet 1935

Five independent sub-tasks that go from 40% to 60% each take the whole from 1.02% to 7.78%: 7.6 times, where each part
grew 1.5 times.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assay.errors import UserError

__all__ = ["WHOLE", "Composition", "compose", "frechet", "independent"]

WHOLE = "whole"
"""The sub-task that stands for all of them together."""


@dataclass(frozen=True)
class Composition:
    """One model's sub-tasks."""

    model: str
    scale: float
    parts: dict[str, float]
    """Accuracy of each sub-task."""
    independent: float
    low: float
    high: float
    """Frechet's bounds."""
    whole: float | None
    """Observed accuracy of the whole; None where it was not measured."""

    @property
    def possible(self) -> bool | None:
        """Whether the observed whole can be all of these parts at once; None where it was not measured."""
        return None if self.whole is None else self.low - 1e-9 <= self.whole <= self.high + 1e-9


def independent(parts: Sequence[float]) -> float:
    """Accuracy of the whole if sub-tasks succeed independently of one another: the product.

    Raises:
        UserError: no parts, or one that is no share.
    """
    return math.prod(_checked(parts))


def frechet(parts: Sequence[float]) -> tuple[float, float]:
    """The least and greatest accuracy of the whole that the parts' allow, however they depend on one another.

    Raises:
        UserError: no parts, or one that is no share.

    Source: Frechet 1935; the bounds of an intersection.
    """
    checked = _checked(parts)
    return max(0.0, math.fsum(checked) - (len(checked) - 1)), min(checked)


def compose(scores: Mapping[str, Mapping[str, NDArray[np.float64]]], scales: Mapping[str, float]) -> list[Composition]:
    """Every model's sub-tasks beside its whole.

    Args:
        scores: model to sub-task (or `whole`) to scores [rows].
        scales: model to scale.

    Raises:
        UserError: a model without sub-tasks, or with others than the rest.
    """
    found, names = [], None
    for model, held in scores.items():
        parts = {name: float(values.mean()) for name, values in held.items() if name != WHOLE}
        if not parts:
            raise UserError(f"model {model!r}: has no sub-tasks.", f"Give rows whose subtask is not {WHOLE!r}.")
        if names is not None and names != parts.keys():
            odd = ", ".join(sorted(names ^ parts.keys()))
            raise UserError(
                f"model {model!r}: has other sub-tasks than the models before it ({odd}).", "Give all of them."
            )
        names = parts.keys()
        low, high = frechet(list(parts.values()))
        whole = float(held[WHOLE].mean()) if WHOLE in held else None
        found.append(Composition(model, scales[model], parts, independent(list(parts.values())), low, high, whole))
    return found


def _checked(parts: Sequence[float]) -> Sequence[float]:
    if not len(parts):
        raise UserError("There are no sub-tasks.", "Give the accuracy of one or more.")
    for value in parts:
        if not 0 <= value <= 1:
            raise UserError(f"accuracy {value:g} of a sub-task lies outside 0 to 1.", "Divide percentages by 100.")
    return parts
