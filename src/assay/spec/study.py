"""What a study is: a model, a run, and the axes along which they vary."""

from __future__ import annotations

import itertools
import math
from typing import Annotated, Any, ClassVar

from pydantic import Field, ValidationError, model_validator

from assay.errors import UserError, from_validation
from assay.spec.axes import Axis, Family
from assay.spec.base import Described, Part
from assay.spec.data import DataSpec
from assay.spec.model import ModelSpec
from assay.spec.objective import ObjectiveSpec
from assay.spec.parts import Count
from assay.spec.training import ScheduleSpec, TrainSpec

Value = str | int | float | bool


FAMILIES: dict[str, tuple[Value, ...]] = {"family": ("causal", "prefix", "encoder_decoder")}
"""What a comparison varies where nothing is said."""


MOST_RUNS = 10_000
"""Runs of one study: more are a slip (every combination of many axes), and would fill the memory."""


class Match(Axis):
    """What is held equal between families besides training FLOPs."""

    parameters = "parameters"
    """An encoder-decoder gets half of the layers on each side: about equal parameters, about half the FLOPs a token."""
    flops = "flops"
    """An encoder-decoder gets all of the layers on each side: about equal FLOPs a token, about twice the parameters."""


class InitFrom(Part):
    """What a run's weights are before its first step, where that is not a seed's draw: another model's weights.

    `training.start.find_start` fills in all but `source`.
    """

    shorthand: ClassVar[str | None] = "source"

    source: str
    """The run's folder, or any SOURCE with weights; where it lies is no part of the identity."""
    identity: str = ""
    """What it is: `run:HASH` of a finished run of assay, else `sha256:...` over the weights; part of the run's own
    identity. Empty: not looked up yet."""
    published: bool = False
    """Its tokenizer is a published one, not one that assay trained: vocabulary and tokens are the model's own, and
    `data.tokenizer` is not read."""


class RunSpec(Described):
    """One run of a study: everything that its numbers depend on."""

    unhashed: ClassVar[frozenset[str]] = frozenset({"name", "labels"})
    later: ClassVar[frozenset[str]] = frozenset({"init"})

    name: str = ""
    """What the study calls it; no part of its identity."""
    labels: dict[str, str] = Field(default_factory=dict)
    """The values of the varied axes; no part of its identity."""
    model: ModelSpec
    """The model."""
    train: TrainSpec
    """The run."""
    objective: ObjectiveSpec
    """What is learned."""
    data: DataSpec
    """What from."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of initialization, data order and dropout."""
    init: InitFrom | None = None
    """Begin from these weights; None: from fresh ones."""

    def _hashed(self) -> dict[str, Any]:
        """What a run begins from is part of its identity, where that lies is not."""
        fields = super()._hashed()
        if "init" in fields:
            del fields["init"]["source"]
        return fields


class StudySpec(Described):
    """Runs that differ along stated axes, seeds times each."""

    name: str = ""
    """What people call it."""
    model: ModelSpec = ModelSpec(layers=4)
    """The model that the axes vary."""
    train: TrainSpec = TrainSpec(budget=3e12, batch_size=8, evaluations=5, schedule=ScheduleSpec(warmup=0.15))
    """The run that the axes vary (fields under `train.`)."""
    objective: ObjectiveSpec | None = None
    """What is learned; None: causal LM in a causal decoder, prefix LM in the others."""
    data: DataSpec = DataSpec()
    """What from."""
    vary: dict[str, tuple[Value, ...]] = Field(default_factory=lambda: dict(FAMILIES))
    """Axis (a dotted field of the model, or of `train.`, `objective`, `data.`) to its values; all combinations run."""
    seeds: Count = 3
    """Runs of each combination, seeds 0, 1, 2 ..."""
    match: Match = Match.parameters
    """What families share besides training FLOPs."""

    @model_validator(mode="after")
    def _check(self) -> StudySpec:
        for axis, values in self.vary.items():
            if not values:
                raise ValueError(f"vary.{axis}: no values; give at least one")
            if len(set(map(str, values))) != len(values):
                raise ValueError(f"vary.{axis}: {', '.join(map(str, values))} names a value twice")
        return self

    def runs(self) -> list[RunSpec]:
        """Every run: all combinations of the axes' values, each with all seeds.

        Raises:
            UserError: an unknown axis, or a combination that cannot work, named by its values.
        """
        number = self.seeds * math.prod(map(len, self.vary.values()))
        if number > MOST_RUNS:
            raise UserError(
                f"vary, seeds: {number:,} runs, and a study has at most {MOST_RUNS:,}.", "Vary fewer axes at a time."
            )
        combinations = itertools.product(*self.vary.values())
        runs = []
        for values in combinations:
            labels = dict(zip(self.vary, values, strict=True))
            runs += [self._run(labels, seed) for seed in range(self.seeds)]
        return runs

    def _run(self, labels: dict[str, Value], seed: int) -> RunSpec:
        changes: dict[str, dict[str, Any]] = {"model": {}, "train": {}, "objective": {}, "data": {}}
        for axis, value in labels.items():
            room, _, rest = axis.partition(".")
            if axis == "objective":
                changes["objective"]["kind"] = value
            elif room in changes and rest:
                changes[room][rest] = value
            else:
                changes["model"][axis] = value
        shown = {axis: str(value) for axis, value in labels.items()}
        where = ", ".join(f"{axis} = {value}" for axis, value in shown.items())
        try:
            model = self._model(changes["model"])
            base = self.objective or default_objective(model)
            return RunSpec(
                name=", ".join(shown.values()),
                labels=shown,
                model=model,
                train=self.train.with_(**changes["train"]),
                objective=_vary(base, changes["objective"]),
                data=_vary(self.data, changes["data"]),
                seed=seed,
            )
        except UserError as error:
            raise UserError(f"The combination {where} cannot run. {error}" if where else str(error)) from None

    def _model(self, changes: dict[str, Any]) -> ModelSpec:
        """The model with its axes set; an encoder-decoder's depth follows `match` unless it is given."""
        family, layers = changes.get("family", self.model.family), changes.get("layers", self.model.layers)
        two = family == Family.encoder_decoder and isinstance(layers, int)  # what is wrong of them, with_ tells
        if not two or self.model.family is Family.encoder_decoder or self.match is Match.flops:
            return self.model.with_(**changes)
        halves = {"layers": max(layers // 2, 1), "encoder.layers": max(layers - layers // 2, 1)}
        return self.model.with_(**(changes | {k: v for k, v in halves.items() if k == "layers" or k not in changes}))


def default_objective(model: ModelSpec) -> ObjectiveSpec:
    """Causal LM in a causal decoder, masked LM in an encoder, prefix LM in the others."""
    kinds = {Family.causal: "causal_lm", Family.encoder: "mlm"}
    return ObjectiveSpec.model_validate({"kind": kinds.get(model.family, "prefix_lm")})


def _vary(described: Any, changes: dict[str, Any]) -> Any:
    if not changes:
        return described
    holder = type(described)
    fields = described.model_dump(mode="json") | changes
    try:
        return holder.model_validate(fields)
    except ValidationError as error:
        raise from_validation(error, holder.__name__, holder) from None
