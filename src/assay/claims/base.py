"""What a claim is: text in two languages, a rule fixed beforehand, the runs it needs and how they are measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from assay.spec.study import StudySpec
from assay.stats import Interval, Rule, Verdict, combine

if TYPE_CHECKING:
    from assay.claims.lab import Lab

__all__ = [
    "Claim",
    "Experiment",
    "Formula",
    "Measured",
    "Picture",
    "Question",
    "Table",
    "Tier",
    "Words",
    "all_must_hold",
    "decide",
]


class Tier(StrEnum):
    """How much is spent. Same code, other numbers."""

    smoke = "smoke"
    """A few steps: shows that the code runs, decides nothing. For tests."""
    quick = "quick"
    """The whole book in under 30 minutes on 2 CPU cores."""
    full = "full"
    """More seeds, sizes and depth; an accelerator; resumable."""


@dataclass(frozen=True)
class Words:
    """A text in English and in Chinese."""

    en: str
    zh: str


@dataclass(frozen=True)
class Formula:
    """A formula as it is typeset: LaTeX, what its letters mean, where it stands."""

    latex: str
    means: Words
    source: str = ""


@dataclass(frozen=True)
class Question:
    """One quantity and the rule, fixed before the run, that its interval must meet.

    Attributes:
        asks: what the quantity is, with its unit and the sign that the claim expects.
        rule: what the interval must show.
        unit: of the quantity, such as "bits per byte" or "x".
        decides: False: measured and shown beside the others, no part of the verdict.
    """

    asks: Words
    rule: Rule
    unit: str = ""
    decides: bool = True


@dataclass(frozen=True)
class Experiment:
    """Runs that a claim needs: a study, at each combination's own best learning rate where `rates` are given.

    Attributes:
        study: what is trained. Its seeds hold for the final runs.
        rates: a sweep on seed 0 alone; the lowest rate within `plan.MARGIN` of the lowest held-out loss is the
            combination's own, and called its best. One at the sweep's edge is reported. None: the study's own rate.
        begins: each run begins with the weights of the run of this experiment that has its seed; of one combination.
    """

    study: StudySpec
    rates: tuple[float, ...] | None = None
    begins: Experiment | None = None


@dataclass(frozen=True)
class Picture:
    """A picture as data; `report.figure` draws it.

    Attributes:
        title: what it shows, the caption.
        rows: points: {"series": name, "x": number or text, "y": number, and perhaps "low", "high"}.
        x: name of the x axis with its unit, in English.
        y: the same of the y axis.
        kind: "lines" (with points), "points", "bars" (x is text), "heat" (x, y numbers or text, "value" the colour).
        log_x: whether the x axis is logarithmic.
        log_y: the same of the y axis.
    """

    title: Words
    rows: Sequence[Mapping[str, Any]]
    x: str
    y: str
    kind: str = "lines"
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True)
class Table:
    """A table: its caption, heads and rows of numbers or texts."""

    title: Words
    heads: Sequence[str]
    rows: Sequence[Sequence[str | float | int | None]]


@dataclass(frozen=True)
class Measured:
    """What an experiment gave.

    Attributes:
        answers: an interval for each of the claim's questions; `Interval.exact` where nothing is drawn at random.
        pictures: at least one.
        tables: the numbers behind it.
        remarks: what a reader must know of this very run: rates at the sweep's edge, runs that diverged, surprises.
    """

    answers: Mapping[str, Interval]
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
    remarks: Sequence[Words] = ()


def decide(claim: Claim, answers: Mapping[str, Interval]) -> tuple[Verdict, dict[str, Verdict]]:
    """The claim's verdict, and each question's.

    Raises:
        KeyError: a question without an answer.
    """
    each = {name: question.rule.verdict(answers[name]) for name, question in claim.questions.items()}
    deciding = {name: verdict for name, verdict in each.items() if claim.questions[name].decides}
    return claim.judge(deciding), each


def all_must_hold(verdicts: Mapping[str, Verdict]) -> Verdict:
    """A judge for exact claims: one part refuted refutes the whole; supported only where every part is."""
    found = set(verdicts.values())
    if Verdict.REFUTED in found:
        return Verdict.REFUTED
    return Verdict.SUPPORTED if found == {Verdict.SUPPORTED} else Verdict.UNDECIDED


@dataclass(frozen=True)
class Claim:
    """One claim of the book.

    Attributes:
        key: as in the catalogue: "C12".
        title: a few words.
        says: the claim in assay's own words, with the note's key in mind.
        literature: what is published on it, with its number.
        sources: papers and places, one line each.
        formulas: typeset beside it.
        experiment: what is run and measured, a paragraph.
        rule: how the verdict follows, in words; the numbers stand in `questions`.
        questions: name to quantity and rule. The verdict is made of these alone.
        measure: from a `Lab` (finished runs, tier, scratch folder) to what came out. It trains nothing of its own:
            what must be trained is in `runs`, or done by another room's function (tuning, six pairs).
        runs: the experiments of a tier; None: nothing is trained.
        changes: what would change the verdict.
        verdicts: which verdicts are possible; an exact claim cannot be undecided.
        judge: from the deciding questions' verdicts to the claim's.
        tiers: where it can be run; full alone: beyond the quick tier's reach, with the reason in `changes`.
        alone: it takes times, so nothing else may run beside it.
        seconds: core-seconds that `measure` takes at the quick tier, without the runs: the longest start first.
    """

    key: str
    title: Words
    says: Words
    literature: Words
    sources: Sequence[str]
    experiment: Words
    rule: Words
    questions: Mapping[str, Question]
    measure: Callable[[Lab], Measured]
    changes: Words
    formulas: Sequence[Formula] = ()
    runs: Callable[[Tier], Mapping[str, Experiment]] | None = None
    judge: Callable[[Mapping[str, Verdict]], Verdict] = combine
    verdicts: Sequence[Verdict] = field(default_factory=lambda: tuple(Verdict))
    tiers: Sequence[Tier] = tuple(Tier)
    alone: bool = False
    seconds: float = 5.0
