"""What `assay compare` says before it runs and when it has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from assay.cli.numbers import count, flops
from assay.report.format import duration

__all__ = ["show_plan", "show_results"]


def show_plan(plan: dict[str, Any]) -> None:
    """The runs that would be done; see `studies.plan.plan`."""
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("", overflow="fold", min_width=8)
    for head in ("seeds", "parameters", "per token", "steps", "tokens", "a run"):
        table.add_column(head, justify="right", no_wrap=True)
    for row in plan["rows"]:
        table.add_row(
            Text(row["name"]),
            str(row["seeds"]),
            count(row["parameters"]),
            flops(row["flops_per_token"]),
            f"{row['steps']:,}",
            count(row["tokens"]),
            duration(row["seconds"]),
        )
    console.print(table)
    workers = plan["workers"]
    console.print(
        f"\n{plan['runs']} run{'s' * (plan['runs'] != 1)}, {workers} at a time: about {duration(plan['seconds'])}, "
        f"foretold from {flops(plan['rate'])}/s of matrix products on one thread."
    )


def show_results(folder: Path, report: Path) -> None:
    """The table of results, and where the report lies."""
    from assay.cli.render import terminal_table
    from assay.report.rows import aggregate

    console = Console(highlight=False)
    console.print()
    console.print(terminal_table(aggregate(folder)))
    console.print()
    console.print(Text.assemble("Report: ", (str(report.resolve()), "bold")), soft_wrap=True)
