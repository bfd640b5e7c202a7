"""`assay probe rank`: ranks of attention matrices and representations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from assay.cli.main import INTERRUPTED, SETTINGS, examples, say

__all__ = ["register"]

EXAMPLES = examples(
    'assay probe rank ./smollm2-folder --text "Once upon a time there was a model of language."',
    "# families laid over each other, at equal length and head width",
    "assay probe rank tiny --vary family=causal,prefix,encoder --seeds 3",
    "# what keeps tokens apart: pure attention beside the whole model",
    "assay probe rank tiny --without skip --without feedforward --without skip,feedforward",
    "assay probe rank ./model-a ./model-b --text book.txt --length 512",
)


def register(app: typer.Typer) -> None:
    """Add the command to the group of probes."""
    app.command("rank", epilog=EXAMPLES, context_settings=SETTINGS)(rank)


def rank(
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE ...", help="Presets, spec files, or folders with weights.")
    ],
    text: Annotated[
        str | None,
        typer.Option(metavar="TEXT", show_default=False, help="Words, or a file. Default: the running Python's prose."),
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(metavar="AXIS=V,V", show_default=False, help="A field of the model and its values."),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(metavar="PART,PART", show_default=False, help="Also without skip, feedforward, norm."),
    ] = None,
    length: Annotated[int, typer.Option(min=2, metavar="N", help="Tokens of a row, at most.")] = 128,
    rows: Annotated[int, typer.Option(min=1, metavar="N", help="Rows, at most.")] = 4,
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="Of the weights of descriptions.")] = 1,
    prefix: Annotated[float, typer.Option(min=0, max=1, metavar="SHARE", help="Of a prefix decoder's row.")] = 0.5,
    dtype: Annotated[str, typer.Option(help="float64 resolves large condition numbers.")] = "float32",
    no_attention: Annotated[bool, typer.Option("--no-attention", help="Representations alone.")] = False,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of rank.json and report.html.")] = Path("rank"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON in place of the tables.")] = False,
) -> None:
    """Exact, effective and stable rank of every head's attention, and how alike tokens grow, layer by layer.

    Prints a line a layer, and writes the pictures, all models laid over each other. The models stay as they are.
    """
    from assay.errors import UserError

    if out.is_file():
        raise UserError(f"{out}: is a file, and --out is a folder.", "Give another --out.")
    if dtype not in ("float32", "float64"):
        raise UserError(f"--dtype {dtype}: ranks are measured in float32 or float64.", "Give one of the two.")
    from assay.cli.probe import axes
    from assay.report.rank import DATA, write_rank
    from assay.runs import write_json
    from assay.studies.rank import RankSettings, rank_study, subjects
    from assay.training.signals import Interrupt

    parts = [tuple(p.strip() for p in given.split(",") if p.strip()) for given in without or []]
    models = subjects(sources, axes(vary, None, None), parts)
    settings = RankSettings(text, length, rows, seeds, prefix, dtype, not no_attention)
    with Interrupt() as interrupt:
        found = rank_study(models, settings, stop=lambda: interrupt.happened)
    if not found["models"]:
        raise KeyboardInterrupt("nothing had been measured yet.")
    write_json(out / DATA, found)
    page = write_rank(out)
    if as_json:
        import json

        from assay.runs.files import plain

        print(json.dumps(plain(found), indent=2))
    else:
        for model in found["models"]:
            _show(model)
        print(f"report  {page}")
    if not found["complete"]:
        say(f"Interrupted: {page} shows what had been measured.")
        raise typer.Exit(INTERRUPTED)


def _show(model: dict[str, Any]) -> None:
    import math
    from statistics import fmean

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from assay.report.format import scientific
    from assay.report.rank import HEADS, LAYERS, head_means, layer_means

    console, seeds = Console(highlight=False), model["seeds"]
    head = Text(model["name"], style="bold")
    head.append(f"  {model['tokens'][0]} x {model['tokens'][1]} tokens, {len(seeds)} seed", style="dim")
    console.print(head)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("layer", no_wrap=True)
    names = [*(words.lower() for _, words, *_ in LAYERS)]
    if seeds[0]["heads"]:
        names += [f"attention: {words.lower()}" for _, words, *_ in HEADS]
    for name in names:
        table.add_column(name, justify="right")
    streams = {f: [layer_means(seed, f) for seed in seeds] for f, *_ in LAYERS}
    matrices = {f: [head_means(seed, f) for seed in seeds] for f, *_ in HEADS}

    def said(values: list[float]) -> str:
        return scientific(fmean(values)) if all(map(math.isfinite, values)) else "beyond"

    for stack, first in streams["effective"][0].items():
        for layer in first:
            row = [f"{stack[:3]} {layer}" if len(streams["effective"][0]) > 1 else str(layer)]
            row += [said([by[stack][layer] for by in streams[f]]) for f, *_ in LAYERS]
            if seeds[0]["heads"]:
                row += [said([by[stack, "attention"][layer] for by in matrices[f]]) if layer else "" for f, *_ in HEADS]
            table.add_row(*row)
    console.print(table)
    console.print()
