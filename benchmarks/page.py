"""`benchmarks/report.html` and `results.json` from the parts that are there, with the report room's own tools."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from assay.report.figure import draw
from assay.report.format import significant
from assay.report.instrument import Section, Table, write_page
from assay.runs import provenance, write_json
from benchmarks.result import SCHEMA, Result, Row, Spread, Target
from benchmarks.suite import JOBS, load

__all__ = ["collect", "front", "write"]

GROUPS = {
    "training": "Training", "decoding": "Decoding", "parts": "Parts", "loading": "Opening and starting",
    "growth": "How cost grows", "failed": "What failed",
}  # fmt: skip
BUSY = 1.5
"""Load, in units of cores, above which a part's numbers are marked: someone else was at work."""


def said(value: Spread | None, digits: int = 3) -> str:
    """Median and quartiles; a single value alone."""
    if value is None:
        return ""
    middle = significant(value.median, digits)
    if value.low == value.high:
        return middle
    return f"{middle} [{significant(value.low, digits)}, {significant(value.high, digits)}]"


def collect(out: Path) -> tuple[list[Result], list[str], dict[str, dict[str, Any]]]:
    """All parts' results in the suite's order, what is wrong with them, and the settings of each part."""
    results: list[Result] = []
    warnings, settings = [], {}
    for job in JOBS:
        path = out / "results" / f"{job.name}.json"
        if not path.is_file():
            warnings.append(f"{job.title}: not run.")
            continue
        try:
            found, settings[job.name] = load(path)
        except ValueError as error:
            warnings.append(f"{job.title}: {error}")
            continue
        results += found
    for result in results:
        cores, load_before = result.facts.get("cores") or 1, result.facts.get("load_before", 0.0)
        if load_before > BUSY * cores:
            warnings.append(f"{result.title}: the machine was busy (load {load_before:.1f} on {cores} cores).")
        warnings += [
            f"{result.title}: not equal: {check.what} ({check.error:.2g} > {check.tolerance:g})."
            for check in result.checks
            if not check.passed
        ]
    return results, warnings, settings


def goal(target: Target) -> str:
    """A target in words."""
    return f"{'at most' if target.at_most else 'at least'} {target.goal:g} {target.what}"


def front(results: Sequence[Result]) -> list[list[str]]:
    """Rows of the front table: work, assay, the best peer, the limit's share, how many targets are met."""
    found = []
    for result in results:
        if result.failed:
            found.append([result.title, "failed", "", "", result.failed])
            continue
        own = result.own
        if own is None:
            continue
        best = result.best_peer
        share = "" if own.limit_share is None else significant(own.limit_share)
        peer = f"{said(best.ratio)} x {best.who}" if best else ""
        met = sum(target.met is True for target in result.targets)
        verdict = f"{met} of {len(result.targets)} met" if result.targets else "none"
        found.append([result.title, f"{said(own.value)} {result.unit}", peer, share, verdict])
    return found


def bars(results: Sequence[Result], title: str) -> dict[str, Any]:
    """A picture of speeds, assay's being 1: the best peer, the limit, and the speed that each target asks for."""
    series: dict[str, list[tuple[Result, Spread]]] = {
        name: [] for name in ("assay", "best peer", "limit", "hardest target")
    }
    for result in results:
        own = result.own
        if own is None:
            continue
        series["assay"].append((result, Spread(1, 1, 1)))
        if (best := result.best_peer) and best.ratio:
            series["best peer"].append((result, best.ratio.inverse()))
        if own.limit_share:
            series["limit"].append((result, Spread(*[1 / own.limit_share] * 3)))
        if needs := [target.need for target in result.targets if target.need]:
            series["hardest target"].append((result, Spread(*[max(needs)] * 3)))
    rows = [
        {"series": name, "x": result.title, "y": value.median, "low": value.low, "high": value.high}
        for name, values in series.items()
        for result, value in values
    ]
    return {"title": title, "x": "", "y": "speed, assay = 1", "kind": "bars", "rows": rows}


def cells(row: Row, unit: str) -> list[str]:
    """One contender in a section's table."""
    if row.cannot:
        return [row.who, "not run", "", "", row.cannot]
    share = "" if row.limit_share is None or row.kind == "limit" else significant(row.limit_share)
    return [row.who, said(row.value, 4), said(row.ratio), share, row.note]


def section(result: Result) -> Section:
    """One comparison."""
    part = Section(result.title)
    if result.failed:
        part.said.append(f"It failed: {result.failed}")
        return part
    part.said.append(f"{result.setting}. {result.rounds} rounds, interleaved; medians with quartiles.")
    if result.limit:
        part.said.append(f"Limit: {result.limit}.")
    if any(row.value and row.kind != "limit" for row in result.rows):
        rows = [row for row in result.rows if row.value]
        picture = {
            "title": f"{result.title}", "x": "", "y": result.unit,
            "kind": "points" if result.group == "growth" else "bars",
            "rows": [
                {"series": row.who, "x": row.who, "y": row.value.median, "low": row.value.low, "high": row.value.high}
                for row in rows if row.value
            ],
        }  # fmt: skip
        better = "more is better" if result.more_is_better else "less is better"
        part.draw(draw(picture, result.name), f"{result.unit}; {better}." if result.group != "growth" else result.unit)
    head = ["contender", result.unit, "assay is so many times as good", "share of the limit", "remarks"]
    part.tables.append(Table(head, [cells(row, result.unit) for row in result.rows]))
    for number, picture in enumerate(result.pictures):
        part.draw(draw(picture, f"{result.name}-{number}"), "Both axes are logarithmic.")
    if result.targets:
        rows = [[goal(target), said(target.value), target.verdict] for target in result.targets]
        part.tables.append(Table(["target", "measured", ""], rows))
    if result.checks:
        checks = [
            [check.what, f"{check.error:.2g}", f"{check.tolerance:g}", "equal" if check.passed else "NOT EQUAL"]
            for check in result.checks
        ]
        part.folded.append((
            "Numbers compared in the same run",
            Table(["what", "difference", "tolerance", ""], checks),
        ))  # fmt: skip
    part.said += result.notes
    if "took" in result.facts:
        began = time.strftime("%Y-%m-%d %H:%M", time.gmtime(result.facts["began"]))
        part.said.append(
            f"Measured {began} UTC in {result.facts['took']:.0f} s; load {result.facts['load_before']:.1f} before, "
            f"{result.facts['load_after']:.1f} after."
        )
    return part


def write(out: Path) -> Path:
    """Write `results.json` and `report.html`; the page's path."""
    results, warnings, settings = collect(out)
    came_from = provenance("make bench")
    light = [replace(result, facts={k: v for k, v in result.facts.items() if k != "raw"}) for result in results]
    write_json(out / "results.json", {
        "schema": SCHEMA, "provenance": came_from, "settings": settings, "warnings": warnings,
        "results": [result.to_dict() for result in light],
    })  # fmt: skip
    targets = [target for result in results for target in result.targets]
    met, known = sum(target.met is True for target in targets), sum(target.met is not None for target in targets)
    finding = [f"{met} of {known} targets that were measured are met."] if known else ["Nothing was measured."]
    if unknown := len(targets) - known:
        finding.append(f"{unknown} more could not be measured.")
    first = Section("All work")
    heads = ["work", "assay", "over the best peer", "of the limit", "targets"]
    note = "Medians with quartiles; ratios are taken round by round. Each part below has its targets."
    first.tables.append(Table(heads, front(results), note))
    groups: list[Section] = []
    for group, name in GROUPS.items():
        own = [result for result in results if result.group == group]
        if group not in ("growth", "failed"):
            first.draw(
                draw(bars(own, name), f"front-{group}"), f"{name}: longer is quicker. A target beyond 1 is missed."
            )
        groups += [section(result) for result in own]
    page = out / "report.html"
    write_page(
        page,
        title="assay, its peers, and the machine's limit",
        kicker="Benchmarks",
        finding=finding,
        said=[
            "Every comparison runs its contenders in turns in one process; a ratio is taken within a round, and "
            "medians stand with quartiles. Weights and numbers are held equal in the same run, before timing.",
        ],
        warnings=warnings,
        sections=[first, *groups],
        provenance=came_from,
        settings={name: ", ".join(f"{k} {v}" for k, v in had.items()) for name, had in settings.items()},
        source="results.json",
    )
    return page
