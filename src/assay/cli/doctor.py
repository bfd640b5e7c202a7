"""`assay doctor`: what this machine can do, found by trying it."""

from __future__ import annotations

from typing import Annotated

import typer

from assay.cli.main import examples

EXAMPLES = examples(
    "assay doctor",
    "# measure again what was remembered",
    "assay doctor --fresh",
    "assay doctor --json",
)


def run(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Compile again instead of remembering how it went.")] = False,
) -> None:
    """Say what this machine can do.

    Versions, processor, compiler (by compiling something), accelerator, extras, measured speed, cache and disk.
    Missing parts come with the command that installs them. Always ends with status 0.
    """
    from assay.cli.machine import examine

    facts = examine(fresh=fresh)
    if as_json:
        import json

        print(json.dumps(facts, indent=2))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, said in facts.items():
        table.add_row(name, Text(said["said"]), style=None if said["fine"] else "yellow")
    Console(highlight=False).print(table)
