"""What `tune` and `eval` share: tasks from files and names, and their tables in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from assay.evaluation.tasks import Task
    from assay.evaluation.templates import Template

__all__ = ["file_task", "is_generated", "show", "template_of"]

FOLDED = ("accuracy_by_byte", "edit_similarity")
"""Measures that the page alone shows."""


def is_generated(name: str) -> bool:
    """Whether a name is a made task's and no file's."""
    from assay.evaluation.generated import GENERATED

    return name in GENERATED and not Path(name).is_file()


def template_of(prompt: str | None, answer: str | None, names: Sequence[str]) -> Template | None:
    """The template that options describe; None: by the file's columns. `\\n` in an option is a line break.

    Raises:
        UserError: a name that is not VALUE=WORD.
    """
    from assay.evaluation.templates import Template

    given = {}
    for name in names:
        value, equals, word = name.partition("=")
        if not equals or not word:
            raise UserError(f"--name {name}: not VALUE=WORD.", "Write --name 0=negative --name 1=positive.")
        given[value] = word
    if prompt is None and answer is None and not given:
        return None
    return Template((prompt or "").replace("\\n", "\n"), (answer or "").replace("\\n", "\n"), given)


def file_task(path: str, template: Template | None, text: str | None, label: str | None) -> Task:
    """A labelled file's task.

    Raises:
        UserError: no such file or made task, or a file that does not fit.
    """
    from assay.evaluation.generated import GENERATED
    from assay.evaluation.labelled import labelled_task, read_table

    if not Path(path).expanduser().is_file() and not Path(path).suffix:
        raise UserError(f"{path}: neither a file nor a made task.", did_you_mean(path, GENERATED))
    return labelled_task(read_table(path), template=template, text=text, label=label)


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Results by task as a table, with standard errors."""
    from rich.console import Console
    from rich.table import Table

    from assay.report.tasks import SHOWN

    present = [name for name in SHOWN if name not in FOLDED and any(name in row for row in rows)]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("task", style="bold", no_wrap=True)
    table.add_column("items", justify="right")
    table.add_column("chance", justify="right")
    for name in present:
        table.add_column(SHOWN[name].lower(), justify="right", no_wrap=True)

    def line(name: str, row: dict[str, Any], chance: float | None) -> None:
        cells = [name, f"{row['items']:,}", "" if chance is None else f"{chance:.3f}"]
        table.add_row(*cells, *(_cell(row.get(measure)) for measure in present))

    for row in rows:
        line(row["task"], row, row["chance"])
        for group in row["groups"] if len(row["groups"]) > 1 else []:
            line(f"  {group['group']}", group, None)
    console = Console(highlight=False)
    # In a file or a pipe nothing is cut to a terminal's width.
    console.print(table, width=None if console.is_terminal else 200, no_wrap=True, crop=console.is_terminal)


def _cell(found: dict[str, Any] | None) -> str:
    if not found:
        return ""
    error = found.get("standard_error")
    return f"{found['value']:.3f}" + ("" if error is None else f" ± {error:.3f}")
