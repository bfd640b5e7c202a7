"""What is predicted from what: the description of a training objective."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, model_validator

from assay.spec.axes import Axis
from assay.spec.base import Part


class ObjectiveKind(Axis):
    """Training objectives (K3)."""

    causal_lm = "causal_lm"
    """Every token from those before it."""
    prefix_lm = "prefix_lm"
    """The second part of a text from all of its first part."""
    span_corruption = "span_corruption"
    """T5: spans are cut out and asked for."""
    bart = "bart"
    glm = "glm"
    ul2 = "ul2"
    mlm = "mlm"


class ObjectiveSpec(Part):
    """An objective and its settings; a setting that the kind does not read is refused."""

    shorthand: ClassVar[str | None] = "kind"

    kind: ObjectiveKind = ObjectiveKind.causal_lm
    """Which objective."""
    split: float | None = Field(default=None, gt=0, lt=1)
    """prefix_lm: the prefix's share of the tokens; None draws the split uniformly for every example."""
    density: float = Field(default=0.15, gt=0, lt=1)
    """span_corruption: share of the tokens that are cut out."""
    mean_span: float = Field(default=3.0, ge=1)
    """span_corruption: mean length of a span in tokens."""

    @model_validator(mode="after")
    def _no_idle_settings(self) -> ObjectiveSpec:
        readers = {"split": "prefix_lm", "density": "span_corruption", "mean_span": "span_corruption"}
        for name, reader in readers.items():
            value = getattr(self, name)
            if value != type(self).model_fields[name].default and self.kind != reader:
                raise ValueError(
                    f"{name} = {value} is read by {reader} only, and the objective is {self.kind.value}. "
                    f"Leave {name} out, or choose {reader}."
                )
        return self
