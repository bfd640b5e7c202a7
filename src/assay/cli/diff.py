"""`assay diff`: what sets two models apart, from their descriptions alone."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from assay.cli.main import examples
from assay.errors import UserError

if TYPE_CHECKING:
    from assay.cli.differences import Difference
    from assay.spec.model import ModelSpec

EXAMPLES = examples(
    "assay diff llama-7b llama3-8b",
    "assay diff chatglm-6b chatglm2-6b",
    "assay diff path/to/downloaded-model mistral-7b",
    "assay diff OUT/runs/1a2b3c4d5e6f7788 my_model.toml --full",
    "assay diff gpt2 opt-125m --format json",
)


class Form(StrEnum):
    """How to print."""

    table = "table"
    json = "json"
    csv = "csv"


def run(
    a: Annotated[
        str,
        typer.Argument(
            metavar="A", help="A preset, a spec file, a run's folder, a published checkpoint's, a .gguf file, a hub id."
        ),
    ],
    b: Annotated[str, typer.Argument(metavar="B", help="Another.")],
    form: Annotated[Form, typer.Option("--format", help="For people or for programs.")] = Form.table,
    full: Annotated[bool, typer.Option("--full", help="Also print what is equal.")] = False,
    hint: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            show_default=False,
            help="What a published configuration cannot tell; for the side that takes it.",
        ),
    ] = None,
) -> None:
    """Show in what two models differ.

    Every field that has an effect, by axis, with defaults worked out: head width, feed-forward width, residual scale,
    parameters by part. No weights are read.
    """
    from assay.cli.differences import differences

    refused: list[str] = []
    first, second = (describe(source, hint, refused) for source in (a, b))
    if len(refused) == 2:
        raise UserError(refused[0])
    rows = differences(first, second, equal=full)
    if form is Form.table:
        show(first, second, rows)
    elif form is Form.csv:
        import csv
        import sys

        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(("group", "field", "a", "b"))
        writer.writerows((row.group, row.field, _cell(row.a), _cell(row.b)) for row in rows)
    else:
        import json
        from dataclasses import asdict

        sides = [
            {"source": source, "name": spec.name, "hash": spec.hash, "parameters": int(spec.parameters())}
            for source, spec in ((a, first), (b, second))
        ]
        equal = not any(row.a != row.b for row in rows)
        data = {"a": sides[0], "b": sides[1], "equal": equal, "same_function": same_function(first, second)}
        print(json.dumps({**data, "differences": [asdict(row) for row in rows if row.a != row.b]}, indent=2))


def describe(source: str, hint: list[str] | None, refused: list[str]) -> ModelSpec:
    """The model of a SOURCE, with a name to put over its column; a hint that it does not take goes to `refused`.

    Raises:
        UserError: there is none.
    """
    from assay.cli.source import hints
    from assay.published.summary import look

    given = hints(hint)
    try:
        spec, files = look(source, given)
    except UserError as error:
        if not given or not str(error).startswith("hint"):
            raise
        refused.append(str(error))
        spec, files = look(source)  # the hint is for the other side
    name = spec.name or (files.name if files else "") or source
    return spec.model_copy(update={"name": name})


def same_function(a: ModelSpec, b: ModelSpec) -> bool:
    """Whether two descriptions compute the same from the same weights."""
    from assay.published.compare import meaning

    return meaning(a) == meaning(b)


def show(a: ModelSpec, b: ModelSpec, rows: list[Difference]) -> None:
    """The table, grouped by axis, and a sentence."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from assay.cli.differences import said

    console = Console(highlight=False)
    differing = [row for row in rows if row.a != row.b]
    if rows:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        table.add_column("", overflow="fold", min_width=14)
        for spec in (a, b):
            table.add_column(Text(spec.name), overflow="fold")
        group = ""
        for row in rows:
            if row.group != group:
                if group:
                    table.add_row()
                group = row.group
                table.add_row(Text(group, style="dim"))
            style = "" if row.a != row.b else "dim"
            values = (Text(said(value, group), style=style) for value in (row.a, row.b))
            table.add_row(Text(f"  {row.field}", style=style), *values)
        console.print(table)
        console.print()
    if not differing:
        total = int(a.parameters())
        console.print(f"{a.name} and {b.name} are equal: every field, {total:,} parameters.", markup=False)
    elif same_function(a, b):
        console.print("The same function of the same weights: what differs concerns training or special tokens.")
    else:
        fields = [row for row in differing if row.group != "parameters"]
        groups = ", ".join(dict.fromkeys(row.group for row in fields))
        console.print(
            f"{len(fields)} field{' differs' if len(fields) == 1 else 's differ'}, in {groups}.", markup=False
        )


def _cell(value: object) -> object:
    return "" if value is None else " + ".join(map(str, value)) if isinstance(value, list) else value
