"""What `assay claims` says: the list, the progress, verdicts, a page."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from assay.cli.where import retried
from assay.report.format import duration

__all__ = ["BookProgress", "show_list", "show_page", "show_verdicts"]

MARKS = {
    "supported": ("✓", "green"),
    "refuted": ("✗", "red"),
    "depends": ("±", "yellow"),
    "undecided": ("?", "blue"),
    None: ("·", "dim"),
}
PLAIN_SECONDS = 30.0


def _marked(verdict: str | None) -> Text:
    mark, style = MARKS[verdict]
    return Text(f"{mark} {verdict or 'not run'}", style=style)


def show_list(last: dict[str, Any], lang: str) -> None:
    """All claims with their last verdicts."""
    from assay.claims.catalogue import claims

    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for claim in claims():
        entry = last["claims"].get(claim.key, {})
        table.add_row(claim.key, _marked(entry.get("verdict")), Text(getattr(claim.title, lang)))
    console.print(table)
    if last.get("provenance"):
        where = last["provenance"]
        cpu = where["hardware"].get("cpu") or "unknown CPU"
        console.print(Text(f"\n{last['tier']} tier, {where['time'][:10]}, {cpu}", style="dim"))
    console.print(Text("Run one: assay claims run C9. Read one: assay claims show C9.", style="dim"))


def show_verdicts(pages: list[dict[str, Any]], report: Path) -> None:
    """The verdicts of a finished run, and where the book lies."""
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for page in pages:
        if page["status"] == "done":
            table.add_row(page["key"], _marked(page["verdict"]), Text(page["title"]["en"]))
        else:
            table.add_row(page["key"], Text("failed", style="bold red"), Text(page["reason"]))
    console.print()
    console.print(table)
    console.print()
    console.print(Text.assemble("Book: ", (str(report.resolve()), "bold")), soft_wrap=True)


def show_page(page: dict[str, Any], lang: str, last: dict[str, Any] | None) -> None:
    """One claim in words."""
    console = Console(highlight=False)
    names = {
        "en": ("Claim", "Published", "Experiment", "Rule", "What would change it", "Sources", "Run it"),
        "zh": ("论断", "文献", "实验", "判定规则", "什么会改变结论", "来源", "重新运行"),
    }[lang]
    console.print(Text(f"{page['key']}  {page['title'][lang]}", style="bold"))
    for name, field in zip(names, ("says", "literature", "experiment", "rule", "changes"), strict=False):
        console.print()
        console.print(Text.assemble((f"{name}. ", "bold"), page[field][lang]))
    console.print()
    console.print(Text.assemble((f"{names[5]}. ", "bold"), "; ".join(page["sources"])))
    console.print(Text.assemble((f"{names[6]}. ", "bold"), page["command"]), soft_wrap=True)
    console.print()
    if page["status"] == "done":
        console.print(_marked(page["verdict"]))
        for question in page["questions"]:
            answer = question["answer"]
            said = f"{answer['estimate']:.4g}"
            if answer["n"] is not None:
                said += f" [{answer['low']:.4g}, {answer['high']:.4g}], {answer['method']}"
            console.print(Text(f"  {question['asks'][lang]}: {said} {question['unit']} ({question['verdict']})"))
        for remark in page["remarks"]:
            console.print(Text(f"  {remark[lang]}", style="dim"))
    elif page["status"] == "failed":
        console.print(Text(f"failed: {page['reason']}", style="bold red"))
    elif last:
        console.print(_marked(last["verdict"]))
        for figure in last["figures"]:
            console.print(Text(f"  {figure}"))
    else:
        console.print(_marked(None))


class BookProgress:
    """A live bar of runs and of claims; a line for every verdict; plain occasional lines where there is no terminal."""

    def __init__(self, console: Console | None = None) -> None:
        """Args: console: where to draw; None: standard error."""
        self.console = console or Console(stderr=True, highlight=False)
        self._began = self._told = time.monotonic()
        self._runs = self._ended = self._claims = self._measured = self._wave = 0
        self._failed = 0
        self._live = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            console=self.console, disable=not self.console.is_terminal,
        )  # fmt: skip

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._bar_runs = self._live.add_task("runs", total=None)
        self._bar_claims = self._live.add_task("claims", total=None)
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last state on the screen."""
        self._live.stop()

    def __call__(self, event: dict[str, Any]) -> None:
        """Take an event in."""
        kind = event.get("event")
        if kind == "book":
            self._claims = len(event["claims"])
            self._live.update(self._bar_claims, total=self._claims)
            if event["kept"]:
                self._say(f"{len(event['kept'])} claims were finished before and are kept")
        elif kind == "wave":
            self._wave += 1
            self._runs += event["runs"]
            self._live.update(self._bar_runs, total=self._runs, description=f"runs, wave {self._wave}")
            self._say(f"wave {self._wave}: {event['runs']} runs", always=not self.console.is_terminal)
        elif kind in ("finished", "reused", "failed"):
            self._ended += 1
            self._failed += kind == "failed"
            lost = f", {self._failed} diverged or failed" if self._failed else ""
            self._live.update(
                self._bar_runs, completed=self._ended, description=f"runs, wave {self._wave}{lost}"
            )  # fmt: skip
            self._say(f"{self._ended} of {self._runs} runs{lost}", always=False)
        elif kind == "retried":
            self._say(f"{event['name'] or event['run']}, seed {event['seed']}: {retried(event)}")
        elif kind == "again":
            self._say(f"{event['key']}: its measuring's worker died; again ({event['attempt']} of {event['of']})")
        elif kind == "measuring":
            self._live.update(self._bar_claims, description=f"measuring {event['key']}")
        elif kind == "verdict":
            self._measured += 1
            self._live.update(self._bar_claims, completed=self._measured)
            word = event["verdict"] if event["status"] == "done" else f"failed: {event['reason']}"
            self._say(f"{event['key']} {word}: {event['title']}")

    def _say(self, words: str, *, always: bool = True) -> None:
        now = time.monotonic()
        if not always and (self.console.is_terminal or now - self._told < PLAIN_SECONDS):
            return
        self._told = now
        passed = duration(now - self._began)
        self._live.console.print(Text(f"{passed:>8}  {words}"), soft_wrap=True)
