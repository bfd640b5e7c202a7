"""How `assay train` looks while it runs, and what it says at the end."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from assay.cli.numbers import count, flops
from assay.report.format import duration, memory

__all__ = ["TrainingLine", "summary"]

AT_LEAST = 0.1  # share of a run before its end can be foretold


class TrainingLine:
    """A live line in a terminal; elsewhere a line at every evaluation.

    Args:
        title: what is trained.
    """

    def __init__(self, title: str) -> None:
        """See the class."""
        self.console = Console(highlight=False, stderr=True)
        self.console.print(f"[bold]{title}[/bold]", markup=True, soft_wrap=True)
        self.live = Progress(
            BarColumn(bar_width=20),
            TextColumn("{task.percentage:3.0f}%"),
            TextColumn("{task.description}"),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.task = self.live.add_task("starting", total=1.0)
        self.began: tuple[float, float] | None = None
        self.held = ""

    def __enter__(self) -> Self:
        """Show it."""
        self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take it away."""
        self.live.stop()

    def update(self, row: dict[str, Any]) -> None:
        """Take a row of metrics."""
        if row["kind"] == "eval":
            long, self.held = heldout(row, 3), heldout(row, 3, short=True)
            if not self.console.is_terminal:
                self.console.print(f"step {row['step']:,}: {long} held out")
        elif row["kind"] == "train":
            self.live.update(self.task, completed=row["progress"], description=self._sentence(row))
        elif row.get("event") == "eager":
            self.console.print(f"Not compiled: {row['reason']}.")
        elif row.get("event") == "skipped":
            self.console.print(f"Step {row['step']:,} left out: {row['reason']}; kept in {row['batch']}.")

    def _sentence(self, row: dict[str, Any]) -> str:
        said = [f"step {row['step']:,}", f"loss {row['loss']:.3f}"]
        if self.held:
            said.append(self.held)
        said.append(f"{count(row['tokens_per_second'])} tokens/s")
        now, done = time.monotonic(), float(row["progress"])
        if self.began is None:
            self.began = now, done
        since = done - self.began[1]
        if since > 0 and (now - self.began[0] > 2 or since > AT_LEAST):
            said.append(f"{duration((now - self.began[0]) * max(1 - done, 0) / since)} left")
        return ", ".join(said)


def heldout(row: dict[str, Any], digits: int, *, short: bool = False) -> str:
    """The held-out measure with its unit: continuation bits per byte, or an encoder's nats a masked token."""
    if "bits_per_byte" in row:
        return f"{row['bits_per_byte']:.{digits}f} {'bits/byte' if short else 'bits per byte'}"
    return f"{row['masked_nats_per_token']:.{digits}f} {'nats/mask' if short else 'nats a masked token'}"


def summary(folder: Path, outcome: dict[str, Any]) -> None:
    """Say what came out."""
    console = Console(highlight=False)
    if outcome["status"] != "done":
        console.print(f"The run {outcome['status']}: {outcome.get('failed', 'see its folder')}.")
        console.print("A lower --lr or a longer --warmup often mends that.")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    if "bits_per_byte" in outcome:
        table.add_row("held out", f"{heldout(outcome, 4)}, continuation")
    else:
        table.add_row("held out", f"{heldout(outcome, 4)}, mean of {outcome['masked_tokens']:,}")
    table.add_row("trained", f"{outcome['steps']:,} steps, {count(outcome['supervised_tokens'])} supervised tokens")
    table.add_row("compute", f"{flops(outcome['flops'])} in {duration(outcome['seconds'])}")
    table.add_row("speed", f"{count(outcome['tokens_per_second'])} tokens/s")
    table.add_row("memory", f"{memory(outcome['peak_bytes'])} of tensors at the peak")
    table.add_row("parameters", f"{sum(outcome['parameters'].values()):,}")
    table.add_row("folder", str(folder))
    console.print(table)
