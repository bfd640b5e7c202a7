"""How `assay probe` prints what it measured: a line a layer."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from assay.report.stability import COLUMNS, layer_means, summary
from assay.stats import Interval

__all__ = ["show"]

MOST = 16
"""Layers of one model that are printed; of deeper ones evenly chosen ones, the first and last among them."""


def show(found: dict[str, Any], page: Path) -> None:
    """Tables of all models, and where the pictures are."""
    console = Console(highlight=False)
    for model in found["models"]:
        _show_model(console, model)
    console.print(f"report  {page}", soft_wrap=True)


def _show_model(console: Console, model: dict[str, Any]) -> None:
    moment = "end" if all("end" in seed["at"] for seed in model["seeds"]) else "start"
    rows = layer_means(model, moment)
    n = len(model["seeds"])
    head = Text(model["name"] or "the model", style="bold")
    head.append(
        f"  means over {n} seed{'s' * (n != 1)}, {'after' if moment == 'end' else 'before'} training", style="dim"
    )
    console.print(head)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("layer", no_wrap=True)
    for _, name, *_ in COLUMNS:
        table.add_column(name, justify="right")
    step = (len(rows) - 1) / (MOST - 1) if len(rows) > MOST else 1
    chosen = sorted({round(i * step) for i in range(min(len(rows), MOST))})
    several = len({row["stack"] for row in rows}) > 1
    for index in chosen:
        row = rows[index]
        name = f"{row['stack'][:3]} {row['layer']}" if several else str(row["layer"])
        table.add_row(name, *(_number(row[column]) for column, *_ in COLUMNS))
    console.print(table)
    if len(chosen) < len(rows):
        console.print(Text(f"{len(chosen)} of {len(rows)} layers shown; stability.json has all", style="dim"))
    said = summary(model, "start")
    words = [
        f"before training: last / first gradient {_interval(said['ratio'])}",
        f"largest / smallest {_interval(said['spread'])}",
        f"update of the output {_interval(said['output_update'])}",
    ]
    if said["sharpness"]:
        words.append(f"sharpness {_interval(said['sharpness'])}")
    console.print(Text(", ".join(words)))
    if any(seed["losses"] or seed["failed"] for seed in model["seeds"]):
        failed = [seed for seed in model["seeds"] if seed["failed"]]
        spikes = sum(len(seed["spikes"]) for seed in model["seeds"])
        console.print(f"training: {len(failed)} of {n} failed, {spikes} spike{'s' * (spikes != 1)}")
        for seed in failed:
            console.print(Text(f"  seed {seed['seed']}: {seed['failed']}", style="#d55e00"))
    console.print()


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    if not math.isfinite(value):
        return str(value)
    if not value or 1e-3 <= abs(value) < 1e4:
        return f"{value:.3g}"
    digits, _, exponent = f"{value:.1e}".partition("e")
    return f"{digits}e{int(exponent)}"


def _interval(value: Interval | None) -> str:
    if value is None:
        return "–"
    if not math.isfinite(value.low):
        return _number(value.estimate)
    return f"{_number(value.estimate)} [{_number(value.low)}, {_number(value.high)}]"
