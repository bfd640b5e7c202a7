"""The page of `assay lr-find`: loss against rate, where it diverged, and the suggestion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from assay.errors import UserError
from assay.report.format import scientific
from assay.report.instrument import Section, Table, write_page
from assay.report.lines import Line, Mark, lines
from assay.runs import read_json

__all__ = ["DATA", "FILE", "write_range_test"]

DATA, FILE = "lr-find.json", "report.html"


def write_range_test(folder: str | Path) -> Path:
    """Write `report.html` beside `lr-find.json`, from it alone; its path.

    Raises:
        UserError: there is no such file, or the disk is full.
    """
    folder = Path(folder)
    data = read_json(folder / DATA)
    if not isinstance(data, dict) or data.get("kind") != "lr-find":
        raise UserError(f"{folder / DATA}: holds no measurements of assay lr-find.")
    readings, found = data["readings"], data["found"]
    # A rise of many times the fall is cut: what is read is where it begins.
    best, start = min(min(r["smoothed"]) for r in readings), max(r["smoothed"][0] for r in readings)
    ceiling = start + 0.3 * (start - best) + 0.1
    # A line a seed: they diverge at different rates, and a mean over those that are left would mislead.
    given = [Line(f"seed {r['seed']}", r["rates"], [[min(v, ceiling) for v in r["smoothed"]]]) for r in readings]
    marks = []
    if found is not None:
        marks = [
            Mark(found["largest"], f"largest usable rate {found['largest']:.3g}"),
            Mark(found["suggestion"], f"suggestion {found['suggestion']:.3g}"),
        ]
    chart = lines(
        given,
        ("Learning rate", "Nats per target"),
        "Loss against the rising learning rate, with the suggestion and the largest usable rate",
        log_x=True,
        marks=marks,
    )
    section = Section("Loss against rate")
    section.draw(
        chart,
        f"The smoothed loss while the rate rises. Dashed: the suggestion (left) and the largest usable rate (right). "
        f"Losses above {ceiling:.2f} are cut. {data['rule']}",
    )
    rows = [
        [str(r["seed"]), scientific(r["largest"]), _end(r), f"{r['smoothed'][0]:.3f}", f"{min(r['smoothed']):.3f}"]
        for r in readings
    ]
    section.tables.append(Table(["Seed", "Largest usable", "Diverged at", "First loss", "Lowest loss"], rows))
    finding = (
        [f"Try a peak learning rate of {found['suggestion']:.2g}: {found['reason']}."]
        if found is not None
        else [f"No suggestion: {data['why_not']}"]
    )
    write_page(
        folder / FILE,
        title=f"Learning-rate range test of {data['name']}",
        kicker=f"assay lr-find · {data['provenance']['time'][:10]}",
        finding=finding,
        sections=[section],
        warnings=[] if data["complete"] else ["It was interrupted: what is shown is what had been measured by then."],
        provenance=data["provenance"],
        settings=data["settings"],
        source=DATA,
    )
    return folder / FILE


def _end(reading: dict[str, Any]) -> str:
    at = reading["diverged_at"]
    return "not within the range" if at is None else scientific(reading["rates"][at])
