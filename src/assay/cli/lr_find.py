"""`assay lr-find`: a range test, its picture, a suggestion and the reason for it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from assay.cli.main import INTERRUPTED, examples, say

EXAMPLES = examples(
    "assay lr-find tiny",
    "assay lr-find tiny-t5 --data my_texts/ --seeds 3",
    "assay lr-find model.toml --set placement=post --lowest 1e-6 --highest 0.3 --steps 200",
    "# then",
    "assay train tiny --lr SUGGESTION",
)


def run(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A preset (tiny, gpt2 ...), a TOML or JSON spec, a run's folder.")
    ],
    data: Annotated[
        str,
        typer.Option(
            metavar="PATH",
            help="Text, JSON Lines, Parquet, or a folder of them. stdlib: the running Python's own prose.",
        ),
    ] = "stdlib",
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="AXIS=VALUE", show_default=False, help="Change a field, as compare --vary."),
    ] = None,
    objective: Annotated[
        str | None, typer.Option(show_default=False, help="causal_lm, prefix_lm, span_corruption ...")
    ] = None,
    lowest: Annotated[float, typer.Option(metavar="RATE", help="Where the rate begins.")] = 1e-5,
    highest: Annotated[float, typer.Option(metavar="RATE", help="Where it ends.")] = 1.0,
    steps: Annotated[int, typer.Option(metavar="N", help="Steps of one test.")] = 100,
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="Tests, each with weights of its own.")] = 1,
    batch_size: Annotated[int, typer.Option(metavar="N", help="Rows a step.")] = 16,
    length: Annotated[int, typer.Option(metavar="N", help="Tokens a row.")] = 128,
    tokenizer: Annotated[
        str | None, typer.Option(show_default=False, help="bpe, trained on the text, or bytes. Default: bpe.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of lr-find.json and report.html.")] = Path("lr-find"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find a learning rate by a range test.

    The rate rises over one short run until the loss diverges. The largest usable rate lies just under
    divergence. Ctrl-C keeps what was measured, and says what it shows.
    """
    from dataclasses import asdict
    from functools import partial

    from assay.cli.train import check_memory, describe, given
    from assay.errors import UserError
    from assay.report.range_test import DATA, write_range_test
    from assay.runs import provenance, write_json
    from assay.training.range_test import RULE, range_test, suggest
    from assay.training.signals import Interrupt
    from assay.training.text import load_text

    if out.is_file():
        raise UserError(f"{out}: is a file, and --out is a folder.", "Give another --out.")
    wanted = describe(
        source, changes or [], {"batch_size": batch_size, "length": length},
        given(source=data, tokenizer=None if tokenizer is None else {"kind": tokenizer}),
        objective=objective, seed=0, budget=None, steps=steps,
    )  # fmt: skip
    check_memory(wanted)
    text, readings, why_not, found = load_text(wanted.data), [], "", None
    with Interrupt() as interrupt, _Bar() as bar:
        for seed in range(seeds):
            readings.append(
                range_test(
                    wanted.model_copy(update={"seed": seed}), text, lowest=lowest, highest=highest, steps=steps,
                    progress=partial(bar.update, seed, seeds), stop=lambda: interrupt.happened,
                )
            )  # fmt: skip
            if interrupt.happened:
                break
    try:
        found = suggest(readings)
    except UserError as error:
        why_not = str(error)
    result: dict[str, Any] = {
        "schema_version": 1,
        "kind": "lr-find",
        "name": wanted.model.name or source,
        "settings": {
            "data": data, "objective": str(wanted.objective.kind), "lowest": lowest, "highest": highest, "steps": steps,
            "seeds": seeds, "batch_size": batch_size, "length": length,
        },
        "spec": wanted.model.to_dict(full=True),
        "train": wanted.train.to_dict(full=True),
        "data": text.facts,
        "readings": [{**asdict(reading), "largest": reading.largest} for reading in readings],
        "found": None if found is None else asdict(found),
        "why_not": why_not,
        "rule": str(RULE),
        "complete": not interrupt.happened,
        "provenance": provenance(),
    }  # fmt: skip
    write_json(out / DATA, result)
    page = write_range_test(out)
    _tell(readings, found, why_not, page, result, as_json)
    if interrupt.happened:
        say(f"Interrupted: {page} shows what had been measured.")
        raise typer.Exit(INTERRUPTED)
    if found is None:
        raise typer.Exit(1)


def _tell(readings: list[Any], found: Any, why_not: str, page: Path, result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        import json

        from assay.runs.files import plain

        print(json.dumps(plain({"found": result["found"], "why_not": why_not, "report": str(page)}), indent=2))
        return
    from rich.console import Console

    console = Console(highlight=False)
    for reading in readings:
        at = reading.diverged_at
        end = "not within the range" if at is None else f"at {reading.rates[at]:.2e}"
        console.print(f"seed {reading.seed}: largest usable rate {reading.largest:.2e}, diverged {end}")
    if found is None:
        console.print(f"No suggestion: {why_not}")
    else:
        console.print(f"[bold]Try --lr {found.suggestion:.2g}[/bold]: {found.reason}.")
    console.print(f"report  {page}", soft_wrap=True)


class _Bar:
    """A live line in a terminal; elsewhere nothing, since a test takes seconds."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        console = Console(stderr=True, highlight=False)
        self.live = Progress(
            BarColumn(bar_width=20), TextColumn("{task.description}"), console=console, disable=not console.is_terminal
        )
        self.task = self.live.add_task("starting", total=1.0)

    def __enter__(self) -> _Bar:
        self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.live.stop()

    def update(self, seed: int, seeds: int, row: dict[str, Any]) -> None:
        """After a step."""
        done = (seed + row["step"] / row["steps"]) / seeds
        words = f"seed {seed}, step {row['step']} of {row['steps']}, rate {row['lr']:.1e}, loss {row['loss']:.3f}"
        self.live.update(self.task, completed=done, description=words)
