"""`assay emergence`: how much of a jump in anyone's results the metric makes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assay.cli.main import examples

EXAMPLES = examples(
    "assay emergence results.csv",
    "# results.csv has a row for each item, such as: model,scale,token_logprob,length,accuracy",
    "assay emergence results.csv --resamples 10000 --out my_analysis",
    "# sub-tasks: model,scale,subtask,score, where subtask 'whole' is all of them together",
    "assay emergence parts.csv --json",
)


def run(
    results: Annotated[
        Path,
        typer.Argument(
            metavar="RESULTS.CSV",
            help="model, scale, and any of token_logprob(s), logprob, token_accuracy, length, accuracy, edit_distance, "
            "margin, subtask and score, items.",
        ),
    ],
    resamples: Annotated[int, typer.Option(metavar="N", help="Of the items, for the intervals.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of the resampling.")] = 0,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of emergence.json and report.html.")] = Path(
        "emergence"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say how much of a jump in results the metric makes.

    Refits the smooth quantity (a token's log-probability), predicts exact match, edit distance and multiple choice
    from it, and compares: with intervals, and with what a test set of this size can tell. Sub-tasks are held against
    independence and Frechet's bounds.
    """
    from assay.errors import UserError
    from assay.report.emergence import DATA, write_emergence
    from assay.runs import provenance, write_json
    from assay.stats.emergence import analyse
    from assay.stats.results import read_results

    if out.is_file():
        raise UserError(f"{out}: is a file, and --out is a folder.", "Give another --out.")
    found = analyse(read_results(results), resamples=resamples, seed=seed).to_dict()
    write_json(out / DATA, {"schema_version": 1, "kind": "emergence", "emergence": found, "provenance": provenance()})
    page = write_emergence(out)
    if as_json:
        import json

        from assay.runs.files import plain

        print(json.dumps(plain(found), indent=2))
        return
    _show(found, page)


def _show(found: dict[str, object], page: Path) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from assay.report.emergence import composition_rows, curve_rows, findings

    console = Console(highlight=False)

    def tabled(title: str, heads: list[str], rows: list[list[str]]) -> None:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for i, head in enumerate(heads):
            table.add_column(head, justify="left" if i == 0 else "right", no_wrap=i > 0)
        for row in rows:
            table.add_row(*map(Text, row))
        console.print(Text(title, style="bold"))
        console.print(table)
        console.print()

    curves = found["curves"]
    assert isinstance(curves, list)
    for curve in curves:
        heads = ["model", "scale", "items", "observed", "predicted", "own"]
        tabled(curve["metric"], heads, curve_rows(found, curve))
    if found["compositions"]:
        heads = ["model", "scale", "sub-tasks", "whole", "if independent", "always between"]
        tabled("sub-tasks", heads, composition_rows(found))
    for sentence in findings(found):
        console.print(Text(sentence))
    resolution, notes = found["resolution"], found["notes"]
    assert isinstance(resolution, list) and isinstance(notes, list)
    for sentence in [*resolution, *notes]:
        console.print(Text(sentence, style="dim"))
    console.print(f"report  {page}", soft_wrap=True)
