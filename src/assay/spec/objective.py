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
    """BART: the text is damaged and asked for whole."""
    glm = "glm"
    """GLM: spans are blanked and written behind the text, in random order."""
    ul2 = "ul2"
    """UL2: a mixture of denoisers, each named by a mode token."""
    mlm = "mlm"
    """Masked LM: BERT's in an encoder, T5's spans in the others (Wang et al. 2022)."""


class Mixture(Axis):
    """Named mixtures of denoisers."""

    ul2 = "ul2"
    """UL2's seven settings, equally often."""
    upalm = "upalm"
    """U-PaLM's three: half S, a quarter R, a quarter X."""


READERS: dict[str, tuple[str, ...]] = {
    "split": ("prefix_lm",),
    "density": ("span_corruption", "glm", "mlm"),
    "mean_span": ("span_corruption", "bart", "glm", "mlm"),
    "infilling": ("bart",),
    "masking": ("bart",),
    "deletion": ("bart",),
    "permutation": ("bart",),
    "rotation": ("bart",),
    "gmask": ("glm",),
    "axes": ("glm",),
    "mixture": ("ul2",),
    "whole_word": ("mlm",),
}
"""Setting: the objectives that read it."""


class ObjectiveSpec(Part):
    """An objective and its settings; a setting that the kind does not read is refused."""

    shorthand: ClassVar[str | None] = "kind"

    kind: ObjectiveKind = ObjectiveKind.causal_lm
    """Which objective."""
    split: float | None = Field(default=None, gt=0, lt=1)
    """prefix_lm: the prefix's share of the tokens; None draws the split uniformly for every example."""
    density: float = Field(default=0.15, gt=0, lt=1)
    """span_corruption, mlm: share of the tokens that are cut out or predicted; glm: that [MASK] blanks cover."""
    mean_span: float = Field(default=3.0, ge=1)
    """Mean length of a span in tokens (bart, glm: of a Poisson distribution)."""
    infilling: float = Field(default=0.3, ge=0, lt=1)
    """bart: share of the tokens that spans cover, each span replaced by one mask."""
    masking: float = Field(default=0.0, ge=0, lt=1)
    """bart: share of the tokens masked one by one."""
    deletion: float = Field(default=0.0, ge=0, lt=1)
    """bart: share of the tokens that are deleted."""
    permutation: float = Field(default=1.0, ge=0, le=1)
    """bart: share of the sentences that change places."""
    rotation: float = Field(default=0.0, ge=0, le=1)
    """bart: probability that a text is rotated to begin at a random token."""
    gmask: float = Field(default=0.7, ge=0, le=1)
    """glm: share of the texts whose blank is a suffix ([gMASK]); the others have short blanks ([MASK])."""
    axes: int | None = Field(default=None, ge=1, le=2)
    """glm: rows of positions, 2 (GLM) or 1 (GLM-130B); None: as many as the model has."""
    mixture: Mixture = Mixture.ul2
    """ul2: which mixture of denoisers."""
    whole_word: bool = False
    """mlm in an encoder: whole words are chosen."""

    @model_validator(mode="after")
    def _no_idle_settings(self) -> ObjectiveSpec:
        for name, readers in READERS.items():
            value = getattr(self, name)
            if value != type(self).model_fields[name].default and self.kind.value not in readers:
                raise ValueError(
                    f"{name} = {value} is read by {', '.join(readers)} only, and the objective is {self.kind.value}. "
                    f"Leave {name} out, or choose {' or '.join(readers)}."
                )
        if self.kind is ObjectiveKind.bart and not any(
            (self.infilling, self.masking, self.deletion, self.permutation, self.rotation)
        ):
            raise ValueError(
                "bart with infilling, masking, deletion, permutation and rotation all 0 damages nothing, so it would "
                "learn to copy. Give one of them."
            )
        return self
