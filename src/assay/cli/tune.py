"""`assay tune`: labelled data, prompts and answers, several tasks at stated rates; label-efficiency curves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli.device import device_option
from assay.cli.main import INTERRUPTED, examples, say
from assay.errors import UserError

if TYPE_CHECKING:
    from assay.evaluation.tasks import Task, Three
    from assay.spec.data import TokenizerSpec
    from assay.training.tuning_spec import TuneSpec

EXAMPLES = examples(
    "assay tune OUT/runs/1a2b3c4d5e6f7788 --data labels.csv",
    'assay tune path/to/model --data reviews.jsonl --prompt "{review}\\nGood or bad?" --answer " {verdict}"',
    "# several tasks at stated rates",
    "assay tune path/to/model --data reviews.csv --data questions.jsonl --data copy --rates 0.5,0.3,0.2",
    "# after Ctrl-C",
    "assay tune path/to/model --data labels.csv --resume",
    "# how many labels pretraining saves",
    "assay tune path/to/model --data labels.csv --labels 8,32,128,512 --seeds 3",
    '# adapters alone: pip install "assay\\[peft]"',
    "assay tune path/to/model --data labels.csv --rank 8",
)
DATA, HOW = "Data", "Tuning"


def run(
    source: Annotated[
        str, typer.Argument(metavar="MODEL", help="A folder with weights, or a preset or spec file, from scratch.")
    ],
    data: Annotated[
        list[str],
        typer.Option(
            metavar="FILE",
            rich_help_panel=DATA,
            help="CSV, JSON Lines or Parquet, or a made task (copy, reverse, lookup, addition, compose). May repeat.",
        ),
    ],
    rates: Annotated[
        str | None,
        typer.Option(metavar="R,R", rich_help_panel=DATA, show_default=False, help="Share of each --data; equal."),
    ] = None,
    test: Annotated[
        str | None,
        typer.Option(metavar="FILE", rich_help_panel=DATA, show_default=False, help="Test on this; else a fifth."),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(metavar="COL", rich_help_panel=DATA, show_default=False, help="Column in place of text."),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(metavar="COL", rich_help_panel=DATA, show_default=False, help="Column in place of label."),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            metavar="TEMPLATE", rich_help_panel=DATA, show_default=False, help="Columns in braces: '{text} Label:'."
        ),
    ] = None,
    answer: Annotated[
        str | None, typer.Option(metavar="TEMPLATE", rich_help_panel=DATA, show_default=False, help="' {label}'.")
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Option("--name", metavar="V=WORD", rich_help_panel=DATA, show_default=False, help="Call a label so."),
    ] = None,
    items: Annotated[int, typer.Option(min=8, rich_help_panel=DATA, help="Training items of a made task.")] = 2000,
    test_items: Annotated[int, typer.Option(min=1, rich_help_panel=DATA, help="Test items of a task at most.")] = 500,
    labels: Annotated[
        str | None,
        typer.Option(metavar="N,N", show_default=False, help="A curve over so many labels, against fresh weights."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="Repeats of each point of the curve.")] = 3,
    steps: Annotated[int | None, typer.Option(rich_help_panel=HOW, show_default=False, help="At most; 300.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(rich_help_panel=HOW, show_default=False, help="Examples a step; 16.")
    ] = None,
    length: Annotated[
        int | None, typer.Option(rich_help_panel=HOW, show_default=False, help="Tokens of a window; 256.")
    ] = None,
    lr: Annotated[
        float | None, typer.Option(rich_help_panel=HOW, show_default=False, help="Peak learning rate; 5e-4.")
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=HOW, show_default=False, help="Evaluations without improvement until it stops; 3."
        ),
    ] = None,
    rank: Annotated[
        int | None, typer.Option(rich_help_panel=HOW, show_default=False, help="LoRA's rank; 0: tune all weights.")
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(rich_help_panel=HOW, show_default=False, help="From scratch: bpe or bytes.")
    ] = None,
    vocab_size: Annotated[
        int | None, typer.Option(rich_help_panel=HOW, show_default=False, help="From scratch: of bpe; 2048.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, rich_help_panel=HOW, help="Of order and fresh weights.")] = 0,
    device: Annotated[str, device_option()] = "cpu",
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of tune.json (labels.json), report.html and model/.")
    ] = Path("tuned"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what --out holds; same options.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON in place of the table.")] = False,
) -> None:
    """Tune a model on labelled data or on prompts and answers, with loss on the answer alone.

    A tenth of each file is held out for early stopping and a fifth for the test, by content. The tuned model, in
    DIR/model, is a SOURCE like any other. Ctrl-C keeps what is done; the same command with --resume goes on.
    """
    from assay.cli.tasks import template_of
    from assay.spec.data import TokenizerSpec
    from assay.training.tuning_spec import TuneSpec

    if out.is_file():
        raise UserError(f"{out}: is a file, and --out is a folder.", "Give another --out.")
    given = {
        "steps": steps, "batch_size": batch_size, "length": length, "optimizer.learning_rate": lr,
        "patience": patience, "rank": rank,
    }  # fmt: skip
    spec = TuneSpec().with_(**{name: value for name, value in given.items() if value is not None})
    kind = {name: value for name, value in (("kind", tokenizer), ("vocab_size", vocab_size)) if value is not None}
    tokens = TokenizerSpec.model_validate(kind) if kind else None
    template = template_of(prompt, answer, names or [])
    parts = [_parts(name, template, text, label, items, test_items) for name in data]
    if test is not None:
        if len(parts) > 1:
            raise UserError(f"--test {test}: with {len(parts)} tasks it is not clear whose.", "Leave it out.")
        parts = [_tested(parts[0], test, template, text, label, test_items)]
    shares = _rates(rates, len(parts))
    settings = {
        "model": source, "data": ", ".join(data), "rates": ", ".join(f"{s:g}" for s in shares), "test": test,
        "prompt": prompt, "answer": answer, "labels": labels, "seeds": seeds if labels else None, "seed": seed,
        **{name: str(value) for name, value in spec.to_dict(full=True).items()},
    }  # fmt: skip
    if labels is not None:
        from assay.cli.tune_curve import draw_curve

        draw_curve(source, parts, spec, tokens, labels, seeds, out, settings, device, as_json, resume)
    else:
        _tune(source, parts, shares, spec, tokens, seed, out, settings, device, as_json, resume)


def _tune(
    source: str, parts: list[Three], shares: list[float], spec: TuneSpec, tokens: TokenizerSpec | None, seed: int,
    out: Path, settings: dict[str, Any], device: str, as_json: bool, resume: bool,
) -> None:  # fmt: skip
    from dataclasses import asdict

    from assay.evaluation.evaluate import evaluate
    from assay.evaluation.pairs import Codec
    from assay.report.tasks import TUNING, write_tuning
    from assay.runs import provenance, read_json, write_json
    from assay.training.opening import open_model
    from assay.training.signals import Interrupt
    from assay.training.start import weights_identity
    from assay.training.tuning import Part, tune
    from assay.training.tuning_state import TuningState, tuning_key

    model = open_model(source, texts_of(parts), tokenizer=tokens, seed=seed, device=device)
    tasks = [(task, share) for part, share in zip(parts, shares, strict=True) for task in (part.train, part.valid)]
    state = TuningState(out / "state", tuning_key(spec, tasks, seed, weights_identity(model)))
    if state.there and not resume:
        raise UserError(f"{out}: holds an unfinished tuning.", "Go on with it with --resume, or give another --out.")
    state.check()
    if resume and not state.there and (out / TUNING).is_file():
        done = read_json(out / TUNING)
        if done.get("key") != state.key:
            raise UserError(
                f"{out}: holds another tuning than these options, data and weights describe.",
                "Give the options that it was done with, or another --out.",
            )
        _tell(done, out, out / "report.html", as_json)
        return
    tests, codec = [part.test for part in parts], Codec(model, length=spec.length)
    before = evaluate(codec, tests, end=True, written=False)
    mixture = [Part(part.train, part.valid, share) for part, share in zip(parts, shares, strict=True)]
    with Interrupt() as interrupt, _Line(as_json) as line:
        tuned = tune(
            model, mixture, spec, seed=seed, progress=line.update, stop=lambda: interrupt.happened, state=state
        )
    rows = evaluate(codec, tests, end=True)
    model.save(out / "model")
    told = {name: value for name, value in asdict(tuned).items() if name != "history"}
    cut = [f"{name}: {count} training prompts lost their beginning." for name, count in tuned.cut.items() if count]
    if tuned.stopped == "diverged":
        cut.append(f"The loss was no longer finite after step {tuned.step}; the weights of the best step are kept.")
    result = {
        "schema_version": 1, "kind": "tune", "key": state.key, "name": model.spec.name or source, "tuned": told,
        "history": tuned.history, "tasks": rows, "before": before, "spec": model.spec.to_dict(full=True),
        "settings": settings, "provenance": provenance(), "warnings": cut, "complete": not interrupt.happened,
    }  # fmt: skip
    write_json(out / TUNING, result)
    _tell(result, out, write_tuning(out), as_json)
    if interrupt.happened:
        say(f"Interrupted after step {tuned.step}; the same command with --resume goes on from there.")
        raise typer.Exit(INTERRUPTED)
    state.remove()


def _tell(result: dict[str, Any], out: Path, page: Path, as_json: bool) -> None:
    """What a tuning came to."""
    from assay.cli.tasks import show

    tuned, model = result["tuned"], out / "model"
    if as_json:
        as_plain({"tuned": tuned, "tasks": result["tasks"], "before": result["before"], "report": str(page),
                  "model": str(model)})  # fmt: skip
        return
    show(result["tasks"])
    print(f"kept step {tuned['best_step']} of {tuned['step']}, held-out loss {tuned['best_loss']:.4f} nats a token")
    print(f"model   {model}\nreport  {page}")


def _parts(name: str, template: Any, text: str | None, label: str | None, items: int, most: int) -> Three:
    from assay.cli.tasks import file_task, is_generated
    from assay.evaluation.generated import generated_task
    from assay.evaluation.tasks import Three, three_parts

    if is_generated(name):
        made = (generated_task(name, n, part=p) for p, n in (("train", items), ("valid", 200), ("test", most)))
        return Three(*made)
    found = three_parts(file_task(name, template, text, label))
    return Three(found.train, found.valid, _first(found.test, most))


def _tested(found: Three, path: str, template: Any, text: str | None, label: str | None, most: int) -> Three:
    """The parts with another file for the test; its examples are in no other part.

    Raises:
        UserError: answers that the training file does not have.
    """
    from dataclasses import replace

    from assay.cli.tasks import file_task
    from assay.evaluation.tasks import Three

    test = file_task(path, template, text, label)
    strange = sorted(set(test.labels) - set(found.train.labels)) if found.train.labels else []
    if strange:
        raise UserError(f"{path}: the label {strange[0].strip()!r} is not in the training file.", "Mend one of them.")
    prompts = {item.prompt for item in test.items}
    whole = [item for part in (found.train, found.test) for item in part.items if item.prompt not in prompts]
    valid = [item for item in found.valid.items if item.prompt not in prompts]
    return Three(
        replace(found.train, items=tuple(whole)), replace(found.valid, items=tuple(valid)), _first(test, most)
    )  # fmt: skip


def _first(task: Task, most: int) -> Task:
    from dataclasses import replace

    return replace(task, items=task.items[:most])


def _rates(rates: str | None, count: int) -> list[float]:
    if rates is None:
        return [1 / count] * count
    try:
        found = [float(rate) for rate in rates.split(",")]
    except ValueError:
        raise UserError(f"--rates {rates}: not numbers.", "Write --rates 0.5,0.3,0.2.") from None
    if len(found) != count:
        raise UserError(f"--rates {rates}: {len(found)} rates for {count} tasks.", "Give one for each --data.")
    return found


def texts_of(parts: list[Three]) -> list[str]:
    """Training texts, for a fresh model's tokenizer."""
    return [item.prompt + item.answer for part in parts for item in part.train.items]


def as_plain(data: dict[str, Any]) -> None:
    """Print data as JSON."""
    import json

    from assay.runs.files import plain

    print(json.dumps(plain(data), indent=2))


class _Line:
    """A live line in a terminal."""

    def __init__(self, silent: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        console = Console(stderr=True, highlight=False)
        self.live = Progress(
            BarColumn(bar_width=20), TextColumn("{task.description}"), console=console,
            disable=silent or not console.is_terminal,
        )  # fmt: skip
        self.task, self.held = self.live.add_task("starting", total=1.0), float("nan")

    def __enter__(self) -> _Line:
        self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.live.stop()

    def update(self, row: dict[str, Any]) -> None:
        """A row of metrics."""
        if row["kind"] == "eval":
            self.held = row["loss"]
            return
        words = f"step {row['step']}, loss {row['loss']:.3f}, held out {self.held:.3f}"
        self.live.update(self.task, completed=row["progress"], description=words)
