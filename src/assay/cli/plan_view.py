"""How `assay plan` prints a layout: what to do and why, then everything that was assumed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from assay.report.cost import assumption_rows
from assay.report.format import count
from assay.report.plan import (
    CHECKED,
    SWEPT,
    check_rows,
    limit_rows,
    memory_rows,
    message_rows,
    option_rows,
    said,
    sweep_rows,
    time_rows,
)  # fmt: skip

__all__ = ["show", "show_check", "show_sweep"]


def show(plan: dict[str, Any], page: Path | None) -> None:
    """One plan."""
    console = Console(highlight=False)
    _head(console, plan)
    layout = plan["chosen"]["layout"]
    console.print(Text.assemble(("\nlayout  ", "dim"), (plan["chosen"]["kind"], "bold"), f": {said(layout)}"))
    if plan["chosen"]["trainable"]:
        console.print(Text.assemble(("train   ", "dim"), _command(plan)), soft_wrap=True)
    for reason in plan["reasons"]:
        console.print(Text(f"  {reason}"))
    three = ["", "", ""]
    _table(console, "a step", three, time_rows(plan))
    _table(console, "memory of a GPU", three, memory_rows(plan))
    _table(console, "messages of a step", ["what", "over", "count", "size", "each"], message_rows(plan))
    _table(console, "other layouts", ["kind", "layout", "step", "MFU", "memory", ""], option_rows(plan))
    _table(console, "batch and failures", three, limit_rows(plan))
    _foot(console, plan, page)


def show_sweep(points: Sequence[dict[str, Any]], page: Path | None) -> None:
    """One row a number of GPUs."""
    console = Console(highlight=False)
    first = next(point for point in points if "refused" not in point)
    _head(console, {**first, "gpus": None})
    _table(console, "", SWEPT, sweep_rows(points))
    for point in points:
        if "refused" in point:
            console.print(Text(f"\n{point['gpus']:,}: {point['refused']}"))
    _foot(console, first, page)


def show_check(rows: Sequence[dict[str, Any]]) -> None:
    """Published runs beside their estimates, in tokens a second on a GPU."""
    console = Console(highlight=False)
    _table(console, "tokens a second on a GPU", CHECKED, check_rows(rows))
    console.print()
    told = (f"{row['model']}: {row['source']}. Layout: {row['laid_out']}." for row in rows)
    for words in dict.fromkeys(told):
        console.print(Text(words, style="dim"))
    console.print(
        Text(
            "\nNothing is fitted to these runs. 'Not published' parts of a layout are assumed as said. MFU counts "
            "attention over visible pairs, in both columns.",
            style="dim",
        )
    )


def _command(plan: dict[str, Any]) -> str:
    layout = plan["chosen"]["layout"]
    parts = plan["sequences"] // (layout["replicate"] * layout["shard"] * layout["micro"])
    node = int(next(a["value"] for a in plan["assumptions"] if a["name"] == "node"))
    nodes, each = -(-plan["gpus"] // node), min(plan["gpus"], node)
    kind = "ddp" if layout["shard"] == 1 else "fsdp" if layout["replicate"] == 1 else "hsdp"
    words = [f"assay train {plan['model']}"]
    if plan["gpus"] > 1:
        many = f"--nnodes {nodes} " if nodes > 1 else ""
        words = [f"torchrun {many}--nproc-per-node {each} -m assay train {plan['model']} --parallel {kind}"]
        words += [f"--shard {layout['shard']}"] * (kind == "hsdp")
    words.append(f"--length {plan['length']} --batch-size {plan['sequences']} --accumulation {parts}")
    words += ["--set train.checkpointing=true"] * bool(layout["checkpointing"])
    return " ".join(words)


def _head(console: Console, plan: dict[str, Any]) -> None:
    head = Text(plan["model"], style="bold")
    on = f"on {plan['gpus']:,} x {plan['hardware']}" if plan["gpus"] else f"on {plan['hardware']}"
    head.append(f"  {plan['family']}, {count(plan['parameters'])} parameters, {on}, {plan['dtype']}", style="dim")
    console.print(head)


def _foot(console: Console, plan: dict[str, Any], page: Path | None) -> None:
    _table(console, "", ["assumed", "value", "source"], assumption_rows(plan), fold=True)
    for note in plan["notes"]:
        console.print(Text(f"\n{note}", style="dim"))
    if page is not None:
        console.print(f"\nreport  {page}", soft_wrap=True)


def _table(
    console: Console, title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], *, fold: bool = False
) -> None:
    if not rows:
        return
    console.print(Text(f"\n{title}", style="bold") if title else "")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_header=any(heads))
    for index, head in enumerate(heads):
        last = index == len(heads) - 1
        table.add_column(head, overflow="fold", style="dim" if last and (fold or not any(heads)) else None)
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)
