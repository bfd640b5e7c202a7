"""How `assay cost` prints an estimate: what it costs, then everything that was assumed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from assay.report.cost import assumption_rows, inference_rows, memory_rows, training_rows
from assay.report.format import scientific, signed
from assay.spec.cost import Cost
from assay.spec.cost_check import Comparison

__all__ = ["show", "show_check"]


def show(found: Cost, page: Path | None) -> None:
    """Every number of an estimate."""
    console = Console(highlight=False)
    data = found.to_dict()
    head = Text(found.model, style="bold")
    head.append(f"  {found.family}, on {found.devices} x {found.hardware}, {found.dtype}", style="dim")
    console.print(head)
    for title, rows in (
        ("training", training_rows(data)),
        ("memory", memory_rows(data)),
        ("inference", inference_rows(data)),
    ):
        if rows:
            _rows(console, title, rows)
    console.print()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("assumed", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("source", overflow="fold", style="dim")
    for row in assumption_rows(data):
        table.add_row(*map(Text, row))
    console.print(table)
    for note in found.notes:
        console.print(Text(f"\n{note}", style="dim"), soft_wrap=False)
    if page is not None:
        console.print(f"\nreport  {page}", soft_wrap=True)


def _rows(console: Console, title: str, rows: Sequence[Sequence[str]]) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="dim", no_wrap=True, min_width=22)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(Text(f"\n{title}", style="bold"))
    console.print(table)


def show_check(rows: Sequence[Comparison]) -> None:
    """Published runs beside their estimates."""
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("model", no_wrap=True)
    table.add_column("quantity", no_wrap=True)
    for name in ("published", "estimate", "off by", "blind", "off by"):
        table.add_column(name, justify="right", no_wrap=True)
    sources, last = {}, ""
    for row in rows:
        sources[row.model] = row.source
        table.add_row(
            row.model if row.model != last else "", row.quantity, scientific(row.published),
            scientific(row.estimate), f"{signed(100 * row.deviation, 1)}%",
            scientific(row.blind), f"{signed(100 * row.blind_deviation, 1)}%",
        )  # fmt: skip
        last = row.model
    console.print(table)
    console.print(
        Text(
            "\nestimate: with the run's own published throughput, power, PUE and grid. blind: with the machine's "
            "defaults.\nThroughput is that of a running step; hours as published hold downtime and repeated steps too.",
            style="dim",
        )
    )
    for model, source in sources.items():
        console.print(Text(f"{model}: {source}", style="dim"))
