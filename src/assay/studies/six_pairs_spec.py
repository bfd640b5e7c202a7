"""The six pairs of Wang et al. 2022 as data: what is trained, for how long, tuned on what, measured by what."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, model_validator

from assay.errors import UserError, did_you_mean
from assay.evaluation.generated import GENERATED
from assay.objectives.registry import REGISTRY
from assay.spec.axes import Axis, Family
from assay.spec.base import Described
from assay.spec.data import DataSpec
from assay.spec.model import ModelSpec
from assay.spec.objective import ObjectiveKind, ObjectiveSpec
from assay.spec.parts import Count, Share
from assay.spec.study import Match, RunSpec, StudySpec
from assay.spec.training import ScheduleSpec, TrainSpec
from assay.training.tuning_spec import TuneSpec

__all__ = ["PAIRS", "Equal", "SixPairs", "split_pair"]

PAIRS = (
    "causal:causal_lm", "causal:mlm", "prefix:prefix_lm", "prefix:mlm",
    "encoder_decoder:prefix_lm", "encoder_decoder:mlm",
)  # fmt: skip
"""Family and objective; masked LM in these families is T5's span corruption (Wang et al. 2022, section 3.2)."""

BASE = "causal:causal_lm"
MASKED = "prefix:mlm"


class Equal(Axis):
    """What pretraining is held equal by."""

    tokens = "tokens"
    """Tokens that enter a stack, targets or not (as published)."""
    flops = "flops"
    """Training FLOPs: those of causal LM in a causal decoder at the equal tokens."""


class SixPairs(Described):
    """The study: every pair is pretrained, measured zero-shot, tuned on several tasks, and measured again."""

    unhashed: ClassVar[frozenset[str]] = frozenset({"name", "forms", "pairs", "seeds", "equal", "adaptation"})

    name: str = "six pairs"
    """What people call it."""
    model: ModelSpec = ModelSpec(width=64, layers=2)
    """The decoder; an encoder-decoder follows `match`."""
    match: Match = Match.flops
    """flops, as published: an encoder-decoder has all of the layers on each side, about twice the parameters."""
    data: DataSpec = DataSpec()
    """What is pretrained on; the held-out part makes the continuation task."""
    tokens: Count = 100_000
    """Tokens of pretraining."""
    train: TrainSpec = TrainSpec(steps=1, evaluations=4, schedule=ScheduleSpec(warmup=0.1))
    """How it is trained; steps follow from `tokens`. Rows of an encoder-decoder are longer, so it gets fewer a step:
    the tokens of a step are equal too."""
    equal: tuple[Equal, ...] = (Equal.tokens, Equal.flops)
    """What is held equal: each is a set of runs of its own."""
    pairs: tuple[str, ...] = PAIRS
    """FAMILY:OBJECTIVE."""
    tune: TuneSpec = TuneSpec(steps=100, length=128)
    """Multitask tuning."""
    tasks: tuple[str, ...] = ("copy", "lookup", "addition")
    """Made tasks of the mixture, at equal rates."""
    others: tuple[str, ...] = ("reverse", "compose")
    """Made tasks that tuning never sees, measured too."""
    items: Count = 100
    """Test items of a task."""
    train_items: Count = 1000
    """Training items of a task."""
    adaptation: Share = 0.5
    """The two adaptations' tokens, as a share of pretraining's; 0: none."""
    seeds: Count = 3
    """Repeats: 0, 1, 2 ..."""
    forms: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Names of settings for other budgets: `quick`, `standard` ... to dotted fields and their values."""

    @model_validator(mode="after")
    def _check(self) -> SixPairs:
        for pair in self.pairs:
            family, objective = split_pair(pair)
            row = REGISTRY[objective]
            if family.value not in row.families:
                raise ValueError(
                    f"pairs: {pair}: {row.refused.get(family.value, 'they do not go together')}. "
                    f"{objective.value} goes with {', '.join(row.families)}"
                )
            if family is Family.encoder:
                raise ValueError(f"pairs: {pair}: an encoder writes no answers; take causal, prefix or encoder_decoder")
        for task in (*self.tasks, *self.others):
            if task not in GENERATED:
                raise ValueError(f"tasks: {task!r} is not known. {did_you_mean(task, GENERATED)}")
        if not self.tasks or set(self.tasks) & set(self.others):
            raise ValueError("tasks: give at least one, and none that is among others")
        return self

    def form(self, name: str) -> SixPairs:
        """The study at another budget.

        Raises:
            UserError: no such form.
        """
        if name not in self.forms:
            raise UserError(f"form {name!r}: not in this study.", did_you_mean(name, self.forms) or "It has none.")
        return self.with_(**self.forms[name])

    def run(self, pair: str, seed: int, *, steps: int | None = None, budget: float | None = None) -> RunSpec:
        """The pretraining of a pair, by steps or by FLOPs."""
        family, objective = split_pair(pair)
        study = StudySpec(
            model=self.model, train=self.train, objective=ObjectiveSpec(kind=objective), data=self.data,
            vary={"family": (family.value,)}, seeds=1, match=self.match,
        )  # fmt: skip
        (run,) = study.runs()
        fields = run.train.to_dict() | {"steps": steps, "budget": budget, "batch_size": self._rows(run)}
        train = TrainSpec.from_dict({name: value for name, value in fields.items() if value is not None})
        return run.model_copy(update={"train": train, "seed": seed, "name": pair, "labels": {"pair": pair}})

    def _rows(self, run: RunSpec) -> int:
        """Rows a step that hold as many tokens as a decoder's."""
        if run.model.family is not Family.encoder_decoder:
            return run.train.batch_size
        length = run.train.length
        decoder = run.train.decoder_length or _decoder_length(run)
        return max(1, round(run.train.batch_size * length / (length + decoder)))


def _decoder_length(run: RunSpec) -> int:
    from assay.data.specials import vocabulary
    from assay.objectives.registry import make

    tokens = run.data.tokenizer
    objective = make(run.objective, run.model.family.value, vocabulary(tokens.vocab_size, tokens.sentinels))
    return objective.decoder_length(run.train.length) or 0


def split_pair(pair: str) -> tuple[Family, ObjectiveKind]:
    """Family and objective of "causal:causal_lm".

    Raises:
        ValueError: not two known names.
    """
    family, colon, objective = pair.partition(":")
    families, kinds = list(Family.__members__), list(ObjectiveKind.__members__)
    if not colon or family not in families or objective not in kinds:
        wrong, known = (family, families) if family not in families else (objective, kinds)
        raise ValueError(f"pairs: {pair!r} is not FAMILY:OBJECTIVE ({wrong!r}). {did_you_mean(wrong, known)}")
    return Family(family), ObjectiveKind(objective)
