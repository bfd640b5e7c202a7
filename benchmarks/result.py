"""What every benchmark gives back: rows of who took how long, targets, checks. Plain data; torch is not loaded for it.

A ratio is always read the same way: how many times as good as this row assay's reference row is (its time over
assay's, or assay's rate over its), within one round of an interleaved measurement; above 1 assay is ahead. Spreads
are medians with quartiles.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["KINDS", "SCHEMA", "Check", "Result", "Row", "Spread", "Target", "pairwise"]

SCHEMA = 1
KINDS = ("assay", "peer", "limit", "other")
"""What a row is: assay, another library, the machine's own limit, or a fact that is compared with nothing."""


@dataclass(frozen=True)
class Spread:
    """Median and quartiles; of one value all three are that value."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of some values, at least one."""
        if not values:
            raise ValueError("no values: a spread needs at least one")
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(middle, low, high)

    @classmethod
    def read(cls, given: Mapping[str, float]) -> Spread:
        """From `measure.quartiles`' mapping."""
        return cls(given["median"], given["low"], given["high"])

    def inverse(self) -> Spread:
        """Of one over each value."""
        return Spread(1 / self.median, 1 / self.high, 1 / self.low)

    def times(self, factor: float) -> Spread:
        """In another unit; the factor is positive."""
        return Spread(self.median * factor, self.low * factor, self.high * factor)


def pairwise(own: Sequence[float], other: Sequence[float]) -> Spread:
    """Spread of other / own, round by round: never the ratio of two medians, which drift would spoil.

    Raises:
        ValueError: not as many rounds of the one as of the other.
    """
    return Spread.of([theirs / mine for mine, theirs in zip(own, other, strict=True)])


@dataclass(frozen=True)
class Row:
    """One contender of a comparison."""

    who: str
    kind: str
    value: Spread | None = None
    """In `Result.unit`."""
    ratio: Spread | None = None
    """How many times as good assay's reference row is; see the module. None of assay's own reference and of limits."""
    limit_share: float | None = None
    """The limit's time over its own."""
    cannot: str = ""
    """Why there is no number."""
    note: str = ""

    def __post_init__(self) -> None:
        """A row has a number or a reason."""
        if self.kind not in KINDS:
            raise ValueError(f"{self.who}: kind {self.kind!r} is none of {', '.join(KINDS)}")
        if (self.value is None) == (not self.cannot):
            raise ValueError(f"{self.who}: give either a value or the reason why there is none")


@dataclass(frozen=True)
class Target:
    """What was to be reached, and what was."""

    what: str
    goal: float
    value: Spread | None
    at_most: bool = False
    """Less is better."""

    @property
    def met(self) -> bool | None:
        """By the median; None where it was not measured."""
        if self.value is None:
            return None
        return self.value.median <= self.goal if self.at_most else self.value.median >= self.goal

    @property
    def verdict(self) -> str:
        """In words: a quartile on the other side of the goal is said."""
        if self.value is None:
            return "not measured"
        low, high = self.value.low, self.value.high
        astride = low <= self.goal <= high and low < high
        return ("met" if self.met else "missed") + (", its quartiles reach across the goal" if astride else "")

    @property
    def need(self) -> float | None:
        """The speed that the goal asks for, as a multiple of the speed measured: above 1 it is missed."""
        if self.value is None or not self.value.median > 0:
            return None
        return self.value.median / self.goal if self.at_most else self.goal / self.value.median


@dataclass(frozen=True)
class Check:
    """Numbers that were compared before anything was timed."""

    what: str
    error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the difference is within the tolerance; NaN is not."""
        return self.error <= self.tolerance


@dataclass
class Result:
    """One comparison."""

    name: str
    title: str
    group: str
    setting: str
    """Shapes, type, batch, threads, in one line."""
    unit: str
    rows: list[Row] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    more_is_better: bool = False
    limit: str = ""
    """What the limit is, in words."""
    rounds: int = 0
    failed: str = ""
    """Why there is nothing: the benchmark ended in this error."""
    pictures: list[dict[str, Any]] = field(default_factory=list)
    """For `assay.report.figure.draw`."""
    facts: dict[str, Any] = field(default_factory=dict)
    """How it was got: seconds, load, machine; and what the benchmark's own command line would write."""

    def row(self, who: str) -> Row | None:
        """By name."""
        return next((row for row in self.rows if row.who == who), None)

    @property
    def own(self) -> Row | None:
        """Assay's row that ratios are taken with; where none has that mark, its first with a number."""
        known = [row for row in self.rows if row.kind == "assay" and row.value]
        return next((row for row in known if row.ratio is None), known[0] if known else None)

    @property
    def best_peer(self) -> Row | None:
        """The peer that assay is least ahead of."""
        known = [row for row in self.rows if row.kind == "peer" and row.ratio is not None]
        return min(known, key=lambda row: row.ratio.median) if known else None  # type: ignore[union-attr]

    def aim(self, what: str, goal: float, value: Spread | float | None, *, at_most: bool = False) -> None:
        """Add a target."""
        known = Spread(value, value, value) if isinstance(value, int | float) else value
        self.targets.append(Target(what, goal, known, at_most))

    def aim_at_best(self, goal: float, what: str = "times the best peer") -> None:
        """A target against the best peer there is."""
        best = self.best_peer
        self.aim(f"{what}{f' ({best.who})' if best else ''}", goal, best.ratio if best else None)

    def aim_at(self, who: str, goal: float) -> None:
        """A target against one row."""
        row = self.row(who)
        self.aim(f"times {who}", goal, row.ratio if row else None)

    def aim_at_limit(self, who: str, goal: float) -> None:
        """A target as a share of the limit, spread as the row's value is."""
        row = self.row(who)
        share = None
        if row is not None and row.limit_share is not None and row.value is not None:
            share = row.value.inverse().times(row.limit_share * row.value.median)
            if self.more_is_better:
                share = row.value.times(row.limit_share / row.value.median)
        self.aim(f"of the limit, {who}", goal, share)

    def to_dict(self) -> dict[str, Any]:
        """Plain data; whether targets are met and checks passed is written too, for readers of the JSON."""
        found = asdict(self)
        for target, written in zip(self.targets, found["targets"], strict=True):
            written["met"] = target.met
        for check, written in zip(self.checks, found["checks"], strict=True):
            written["passed"] = check.passed
        return {"schema": SCHEMA, **_plain(found)}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Result:
        """Back from `to_dict`.

        Raises:
            ValueError: another schema.
        """
        if given.get("schema") != SCHEMA:
            raise ValueError(f"schema {given.get('schema')!r}: this reads {SCHEMA}")
        fields = {name: value for name, value in given.items() if name != "schema"}
        fields["rows"] = [
            Row(**{**row, "value": _spread(row["value"]), "ratio": _spread(row["ratio"])}) for row in fields["rows"]
        ]
        fields["targets"] = [
            Target(row["what"], row["goal"], _spread(row["value"]), row["at_most"]) for row in fields["targets"]
        ]
        fields["checks"] = [Check(row["what"], _number(row["error"]), row["tolerance"]) for row in fields["checks"]]
        return cls(**fields)


def _spread(given: Mapping[str, Any] | None) -> Spread | None:
    return None if given is None else Spread(*(_number(given[name]) for name in ("median", "low", "high")))


def _number(given: Any) -> float:
    return float(given)


def _plain(value: Any) -> Any:
    """JSON knows no infinity: numbers that are not finite become text, as `figure.draw` reads them."""
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
