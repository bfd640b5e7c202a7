"""`assay emergence`: how much of a jump in anyone's results the metric makes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

import typer

from assay.cli.main import examples

EXAMPLES = examples(
    "assay emergence results.csv",
    "# results.csv has a row for each item, such as: model,scale,token_logprob,length,accuracy",
    "assay emergence results.csv --resamples 10000 --out my_analysis",
    "# sub-tasks: model,scale,subtask,score, where subtask 'whole' is all of them together",
    "assay emergence parts.csv --json",
    "# a family of sizes of our own, trained on a made task first; the same command goes on after Ctrl-C",
    "assay emergence made:addition:sizes=2 --widths 8,16,32,64 --steps 4000 --out addition",
)
FAMILY = "A family of our own (RESULTS is made:TASK:sizes=N)"

N = TypeVar("N", int, float)


def run(
    results: Annotated[
        str,
        typer.Argument(
            metavar="RESULTS.CSV",
            help="model, scale, and any of token_logprob(s), logprob, token_accuracy, length, accuracy, edit_distance, "
            "margin, subtask and score, items. Or made:TASK:sizes=N.",
        ),
    ],
    resamples: Annotated[int, typer.Option(metavar="N", help="Of the items, for the intervals.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of the resampling.")] = 0,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of emergence.json and report.html.")] = Path(
        "emergence"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    widths: Annotated[
        str, typer.Option(metavar="N,N", rich_help_panel=FAMILY, help="Sizes of the model, two or more.")
    ] = "8,16,24,32,48,64",
    layers: Annotated[int, typer.Option(min=1, metavar="N", rich_help_panel=FAMILY, help="Of every size.")] = 2,
    steps: Annotated[int, typer.Option(min=1, metavar="N", rich_help_panel=FAMILY, help="Of every run.")] = 4000,
    lr: Annotated[
        str, typer.Option(metavar="RATE,RATE", rich_help_panel=FAMILY, help="Peak rates; each size takes its best.")
    ] = "4e-3",
    seeds: Annotated[int, typer.Option(min=1, metavar="N", rich_help_panel=FAMILY, help="Repeats of a size.")] = 3,
    items: Annotated[int, typer.Option(min=1, metavar="N", rich_help_panel=FAMILY, help="Test items.")] = 400,
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", rich_help_panel=FAMILY, show_default=False, help="Default: cores.")
    ] = None,
) -> None:
    """Say how much of a jump in results the metric makes.

    Refits the smooth quantity (a token's log-probability), predicts exact match, edit distance and multiple choice
    from it, and compares: with intervals, and with what a test set of this size can tell. Sub-tasks are held against
    independence and Frechet's bounds.
    """
    from assay.cli.compare import forward
    from assay.errors import UserError
    from assay.report.emergence import DATA, write_emergence
    from assay.runs import provenance, write_json
    from assay.stats.emergence import analyse
    from assay.stats.results import read_results

    if out.is_file():
        raise UserError(f"{out}: is a file, and --out is a folder.", "Give another --out.")
    notes: list[str] = []
    if results.startswith("made:"):
        from assay.cli.render import LiveProgress
        from assay.runs import StudyFolder
        from assay.studies.sizes import FILE, Sizes, sizes

        task, size = _task(results)
        family = Sizes(
            task, size, widths=_numbers("--widths", widths, int), layers=layers, steps=steps,
            rates=_numbers("--lr", lr, float), seeds=seeds, test_items=items,
        )  # fmt: skip
        with LiveProgress() as view:
            notes = sizes(family, StudyFolder(out), workers=workers, progress=forward(view))
        results = str(out / FILE)
    found = analyse(read_results(results), resamples=resamples, seed=seed).to_dict()
    found["notes"] = [*found["notes"], *notes]
    write_json(out / DATA, {"schema_version": 1, "kind": "emergence", "emergence": found, "provenance": provenance()})
    page = write_emergence(out)
    if as_json:
        import json

        from assay.runs.files import plain

        print(json.dumps(plain(found), indent=2))
        return
    _show(found, page)


def _task(source: str) -> tuple[str, int]:
    """Task and size of "made:TASK:sizes=N".

    Raises:
        UserError: no such task, or not one size.
    """
    from assay.data.items import GENERATED
    from assay.errors import UserError, did_you_mean

    name, _, size = source.removeprefix("made:").partition(":sizes=")
    if name not in GENERATED:
        raise UserError(f"{source}: task {name!r} is not known.", did_you_mean(name, GENERATED))
    if not size.isascii() or not size.isdigit():
        raise UserError(
            f"{source}: one size of its items is wanted, so that all answers are alike.", f"Write made:{name}:sizes=3."
        )
    return name, GENERATED[name].check([int(size)])[0]


def _numbers(option: str, text: str, kind: type[N]) -> tuple[N, ...]:
    from assay.errors import UserError

    try:
        values = tuple(kind(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"{option} {text}: not numbers joined by commas.", f"Write {option} 1,2,3.") from None
    if min(values) <= 0:
        raise UserError(f"{option} {text}: a number that is not above 0.", f"Write {option} 1,2,3.")
    return values


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
