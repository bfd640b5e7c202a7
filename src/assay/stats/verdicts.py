"""Rules, fixed before a run, that turn an interval into a verdict. A rule is data and round-trips."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any, ClassVar, Literal

from assay.errors import UserError, did_you_mean
from assay.stats.intervals import Interval

__all__ = [
    "MINIMUM_REPEATS",
    "Equivalence",
    "Rule",
    "Superiority",
    "Threshold",
    "Verdict",
    "combine",
    "rule_from_dict",
]

#: Fewer independent repeats decide nothing.
MINIMUM_REPEATS = 3


class Verdict(StrEnum):
    """What an experiment says of a claim."""

    SUPPORTED = "supported"
    """The interval lies where the claim says."""
    REFUTED = "refuted"
    """The interval lies where the claim cannot be true."""
    DEPENDS = "depends"
    """True under some conditions, false under others (`combine`)."""
    UNDECIDED = "undecided"
    """The interval reaches both sides, or the repeats are too few."""


@dataclass(frozen=True)
class Rule(ABC):
    """What an interval must show. The subclasses are the rules; this is what they share."""

    name: ClassVar[str]

    def verdict(self, interval: Interval) -> Verdict:
        """What the interval says: supported, refuted or undecided.

        An interval of fewer than 3 repeats, or one with NaN bounds, is undecided.
        """
        if interval.n is not None and interval.n < MINIMUM_REPEATS:
            return Verdict.UNDECIDED
        if self._holds(interval):
            return Verdict.SUPPORTED
        return Verdict.REFUTED if self._fails(interval) else Verdict.UNDECIDED

    @abstractmethod
    def _holds(self, interval: Interval) -> bool: ...

    @abstractmethod
    def _fails(self, interval: Interval) -> bool: ...

    def to_dict(self) -> dict[str, Any]:
        """Plain data with the rule's name, which `rule_from_dict` reads back."""
        return {"rule": self.name, **asdict(self)}


@dataclass(frozen=True)
class Threshold(Rule):
    """The quantity is above (or below) a value.

    Attributes:
        value: in the quantity's unit.
        side: where the claim says the quantity lies: "above" or "below".

    Raises:
        UserError: a value that is not finite, or another side.
    """

    name: ClassVar[str] = "threshold"

    value: float
    side: Literal["above", "below"] = "above"

    def __post_init__(self) -> None:
        """Check the fields."""
        _number("value", self.value)
        _choice("side", self.side, ("above", "below"))

    def _holds(self, interval: Interval) -> bool:
        return interval.low > self.value if self.side == "above" else interval.high < self.value

    def _fails(self, interval: Interval) -> bool:
        return interval.high < self.value if self.side == "above" else interval.low > self.value

    def __str__(self) -> str:
        """The rule in words."""
        return f"supported if the interval lies {self.side} {self.value:g}, refuted if on the other side"


@dataclass(frozen=True)
class Superiority(Rule):
    """A is better than B by more than a margin; it judges the interval of A - B.

    Attributes:
        margin: in the quantity's unit. 0: better at all. Below 0: not worse by more than that.
        better: which values are better, "higher" (accuracy) or "lower" (loss).

    Raises:
        UserError: a margin that is not finite, or another word for `better`.
    """

    name: ClassVar[str] = "superiority"

    margin: float = 0.0
    better: Literal["higher", "lower"] = "higher"

    def __post_init__(self) -> None:
        """Check the fields."""
        _number("margin", self.margin)
        _choice("better", self.better, ("higher", "lower"))

    def _holds(self, interval: Interval) -> bool:
        return interval.low > self.margin if self.better == "higher" else interval.high < -self.margin

    def _fails(self, interval: Interval) -> bool:
        return interval.high < self.margin if self.better == "higher" else interval.low > -self.margin

    def __str__(self) -> str:
        """The rule in words."""
        sign = "above" if self.better == "higher" else "below"
        bound = self.margin if self.better == "higher" else -self.margin
        return f"supported if the interval of the difference lies {sign} {bound:g}, refuted if on the other side"


@dataclass(frozen=True)
class Equivalence(Rule):
    """A and B are about equal: A - B lies within a margin of 0 on both sides.

    Judging by an interval of confidence 1 - 2a is the same as two one-sided tests (TOST) at level a: give a
    90% interval for tests at 5%; a 95% interval is the stricter 2.5%.

    Attributes:
        margin: above 0, in the quantity's unit, fixed before the run.

    Raises:
        UserError: a margin that is not above 0.

    Source: Schuirmann 1987.
    """

    name: ClassVar[str] = "equivalence"

    margin: float

    def __post_init__(self) -> None:
        """Check the margin."""
        _number("margin", self.margin)
        if self.margin <= 0:
            raise UserError(f"margin = {self.margin}: nothing lies within it.", "Give a margin above 0.")

    def _holds(self, interval: Interval) -> bool:
        return -self.margin < interval.low and interval.high < self.margin

    def _fails(self, interval: Interval) -> bool:
        return interval.low > self.margin or interval.high < -self.margin

    def __str__(self) -> str:
        """The rule in words."""
        return f"supported if the interval of the difference lies within ±{self.margin:g}, refuted if outside"


def rule_from_dict(data: Mapping[str, Any]) -> Rule:
    """The rule that `to_dict` wrote: `{"rule": "equivalence", "margin": 0.01}`.

    Raises:
        UserError: an unknown rule, or fields that it lacks or does not have.
    """
    known: dict[str, type[Rule]] = {cls.name: cls for cls in (Threshold, Superiority, Equivalence)}
    given = dict(data)
    name = given.pop("rule", None)
    if name not in known:
        raise UserError(f"rule = {name!r} is not known.", did_you_mean(str(name), known))
    cls = known[name]
    for field in given:
        if field not in (names := [f.name for f in fields(cls)]):
            raise UserError(f"rule {name}: there is no field {field!r}.", did_you_mean(field, names))
    try:
        return cls(**given)
    except TypeError:
        missing = [f.name for f in fields(cls) if f.name not in given]
        raise UserError(f"rule {name}: fields are missing.", f"Give {', '.join(missing)}.") from None


def combine(verdicts: Mapping[str, Verdict]) -> Verdict:
    """One verdict of a claim tested under several conditions.

    Args:
        verdicts: verdict by condition, such as {"2 layers": ..., "64 layers": ...}.

    Returns:
        The common verdict where all agree; `depends` where some support and some refute, or a part depends;
        `undecided` else.

    Raises:
        UserError: no conditions.
    """
    if not verdicts:
        raise UserError("there are no conditions to combine.", "Give a verdict for one condition or more.")
    found = set(verdicts.values())
    if len(found) == 1:
        return next(iter(found))
    if Verdict.DEPENDS in found or {Verdict.SUPPORTED, Verdict.REFUTED} <= found:
        return Verdict.DEPENDS
    return Verdict.UNDECIDED


def _number(field: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{field} = {value!r} is no finite number.", "Give a number in the quantity's unit.")


def _choice(field: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UserError(f"{field} = {value!r} is not allowed.", f"Give {' or '.join(map(repr, allowed))}.")
