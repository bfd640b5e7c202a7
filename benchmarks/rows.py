"""From measurements to rows: times and rates of interleaved contenders, and the summaries of older benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.result import Row, Spread, pairwise

__all__ = ["cannot", "kind_of", "limit_row", "of_rate_summary", "of_rates", "of_summary", "of_times"]


def kind_of(who: str) -> str:
    """By the name's first word."""
    return "assay" if who.startswith("assay") else "peer"


def of_times(
    times: Mapping[str, Sequence[float]], reference: str, *, factor: float = 1e3, limit: float | None = None
) -> list[Row]:
    """Rows of seconds, interleaved; `factor` brings seconds to the unit that is shown.

    Args:
        times: seconds of every round, by contender.
        reference: assay's row, which ratios are taken against.
        factor: units in a second.
        limit: seconds at the least.
    """
    found = []
    for who, values in times.items():
        value = Spread.of(values)
        ratio = None if who == reference else pairwise(times[reference], values)
        share = None if limit is None else limit / value.median
        found.append(Row(who, kind_of(who), value.times(factor), ratio, share))
    return found


def of_rates(rates: Mapping[str, Sequence[float]], reference: str, *, limit: float | None = None) -> list[Row]:
    """The same of rates, where more is better."""
    found = []
    for who, values in rates.items():
        value = Spread.of(values)
        ratio = None if who == reference else pairwise(values, rates[reference])
        found.append(Row(who, kind_of(who), value, ratio, None if limit is None else value.median / limit))
    return found


def of_summary(summary: Mapping[str, Any], reference: str, limit: str | None = None) -> list[Row]:
    """Rows in milliseconds of `measure.summary`, whose ratios are the other way round."""
    return [
        Row(
            who,
            kind_of(who),
            Spread.read(row["seconds"]).times(1e3),
            None if who == reference else Spread.read(row["speed_ratio"]).inverse(),
            row["fraction"][limit] if limit else None,
        )
        for who, row in summary.items()
    ]


def of_rate_summary(summary: Mapping[str, Any], reference: str) -> list[Row]:
    """Rows in useful tokens a second of `uneven.rate_summary`."""
    return [
        Row(
            who,
            kind_of(who),
            Spread.read(row["useful_tokens_per_second"]),
            None if who == reference else Spread.read(row["times"]),
        )
        for who, row in summary.items()
    ]


def limit_row(who: str, value: float) -> Row:
    """The machine's own."""
    return Row(who, "limit", Spread(value, value, value), None, 1.0)


def cannot(reasons: Mapping[str, str]) -> list[Row]:
    """Peers that do not run, each with its reason in one line."""
    return [Row(who, kind_of(who), cannot=" ".join(reason.split())[:300]) for who, reason in reasons.items()]
