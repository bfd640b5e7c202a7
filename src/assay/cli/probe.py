"""`assay probe`: instruments that look into models. One command an instrument."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from assay.cli import probe_rank
from assay.cli.main import INTERRUPTED, SETTINGS, examples, say
from assay.errors import UserError

EXAMPLES = examples(
    "assay probe stability tiny --vary placement=post,pre,deepnorm,sandwich",
    "# any checkpoint, by its own weights",
    "assay probe stability ./llama-folder --data my_texts/",
    'assay probe rank ./llama-folder --text "some words"',
    "assay probe COMMAND --help",
)

STABILITY_EXAMPLES = examples(
    "assay probe stability tiny",
    "assay probe stability tiny --vary placement=post,pre,deepnorm,sandwich --seeds 10",
    "# the update of the function against depth",
    "assay probe stability tiny --set width=32 --vary placement=post,deepnorm --depth 12,48,192",
    "# train 200 steps without warmup; spikes and failures are counted",
    "assay probe stability tiny --vary placement=post,pre --depth 24 --steps 200 --lr 3e-3",
    "# two models, one of them with its weights",
    "assay probe stability gpt2-folder/ runs/first --data random",
)

app = typer.Typer(
    name="probe", no_args_is_help=True, add_completion=False, rich_markup_mode="rich", context_settings=SETTINGS,
    pretty_exceptions_enable=False, epilog=EXAMPLES,
)  # fmt: skip


@app.callback()
def front() -> None:
    """Look into models: gradients, activations, attention, updates, layer by layer.

    Any model will do, described or loaded. Nothing is changed in it.
    """


probe_rank.register(app)


@app.command("stability", epilog=STABILITY_EXAMPLES, context_settings=SETTINGS)
def stability(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE ...", help="Presets, spec files, or folders with weights."),
    ],
    data: Annotated[
        str, typer.Option(metavar="PATH", help="Text; stdlib: the running Python's own prose; random: random tokens.")
    ] = "stdlib",
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="AXIS=V,V", show_default=False, help="A field of the model and its values; all combinations."
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="AXIS=VALUE", show_default=False, help="Change a field in all of them."),
    ] = None,
    depth: Annotated[
        str | None, typer.Option(metavar="N,N", show_default=False, help="Numbers of layers; as --vary layers=N,N.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="Of weights and batches.")] = 3,
    batch_size: Annotated[int, typer.Option(min=1, metavar="N", help="Examples.")] = 8,
    length: Annotated[int, typer.Option(min=1, metavar="N", help="Tokens of an example.")] = 64,
    lr: Annotated[float, typer.Option(metavar="RATE", help="Of the step whose update is measured.")] = 1e-3,
    optimizer: Annotated[str, typer.Option(help="Of that step: adamw or sgd.")] = "adamw",
    clip: Annotated[float, typer.Option(min=0, metavar="NORM", help="Largest gradient norm; 0: no clipping.")] = 1.0,
    steps: Annotated[int, typer.Option(min=0, metavar="N", help="Train so many steps, then measure again.")] = 0,
    warmup: Annotated[int, typer.Option(min=0, metavar="N", help="Steps of warmup.")] = 0,
    sharpness: Annotated[bool, typer.Option("--sharpness", help="The Hessian's largest eigenvalue too.")] = False,
    objective: Annotated[
        str | None, typer.Option(show_default=False, help="causal_lm, prefix_lm ... Default: the family's.")
    ] = None,
    tokenizer: Annotated[str, typer.Option(help="bpe or bytes; a checkpoint brings its own.")] = "bpe",
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of stability.json and report.html.")] = Path(
        "stability"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON in place of the tables.")] = False,
) -> None:
    """Gradients, activations, attention and the update of the function, layer by layer.

    Prints a line a layer, and writes the pictures: depth on the x axis, all models laid over each other, with
    intervals over seeds. The models stay as they are.
    """
    if out.is_file():
        raise UserError(f"{out}: is a file, and --out is a folder.", "Give another --out.")
    if not lr > 0:
        raise UserError(f"--lr {lr:g}: a learning rate is positive.")
    from assay.report.stability import DATA, write_stability
    from assay.runs import write_json
    from assay.studies.stability import Settings, stability_study, subjects
    from assay.training.signals import Interrupt

    settings = Settings(
        data=data, tokenizer=tokenizer, batch_size=batch_size, length=length, seeds=seeds, optimizer=optimizer,
        learning_rate=lr, clip=clip, steps=steps, warmup=warmup, sharpness=sharpness,
    )  # fmt: skip
    models = subjects(sources, axes(vary, changes, depth), settings, objective)
    _check_memory(models)
    with Interrupt() as interrupt, _Line(as_json) as line:
        found = stability_study(models, settings, progress=line.update, stop=lambda: interrupt.happened)
    if not found["models"]:
        raise KeyboardInterrupt("nothing had been measured yet.")
    write_json(out / DATA, found)
    page = write_stability(out)
    if as_json:
        import json

        from assay.runs.files import plain

        print(json.dumps(plain(found), indent=2))
    else:
        from assay.cli.probe_view import show

        show(found, page)
    if not found["complete"]:
        say(f"Interrupted: {page} shows what had been measured.")
        raise typer.Exit(INTERRUPTED)


def axes(vary: Sequence[str] | None, changes: Sequence[str] | None, depth: str | None) -> dict[str, Any]:
    """The axes that the options describe; those set to one value change the models and are not in their names.

    Raises:
        UserError: an unknown axis or value, or one that is no field of the model.
    """
    from assay.studies.vary import parse_vary

    given = [*(changes or []), *(vary or []), *([f"layers={depth}"] if depth else [])]
    found = parse_vary(given)
    for name in found:
        if name.partition(".")[0] in ("train", "objective", "data"):
            raise UserError(f"{name}: probes vary the model.", "Give it by its own option: --lr, --objective, --data.")
    return found


def _check_memory(models: Sequence[Any]) -> None:
    from assay.cli.train import check_memory

    for model in models:
        check_memory(model.run)


class _Line:
    """A live line in a terminal; elsewhere a line at every model."""

    def __init__(self, quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self.console = Console(stderr=True, highlight=False, quiet=quiet)
        self.live = Progress(
            BarColumn(bar_width=20), TextColumn("{task.description}"), console=self.console,
            disable=quiet or not self.console.is_terminal,
        )  # fmt: skip
        self.task = self.live.add_task("starting", total=1.0)

    def __enter__(self) -> _Line:
        self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.live.stop()

    def update(self, event: dict[str, Any]) -> None:
        """After a step, or a model."""
        from rich.markup import escape

        part = 1.0 if event.get("finished") else event["step"] / event["steps"]
        words = f"{event['name']}, seed {event['seed']}"
        if not event.get("finished"):
            words += f", step {event['step']} of {event['steps']}, loss {event['loss']:.3f}"
        elif not self.console.is_terminal:
            self.console.print(f"measured {words}", markup=False)
        self.live.update(self.task, completed=(event["done"] + part) / event["total"], description=escape(words))
