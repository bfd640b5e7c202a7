"""`assay eval`: tasks on any model that writes, with standard errors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from assay.cli.device import device_option
from assay.cli.main import examples

EXAMPLES = examples(
    "assay eval OUT/runs/1a2b3c4d5e6f7788 --tasks copy,reverse,lookup,addition,compose",
    "# your own labelled file: columns text and label, or prompt and answer",
    "assay eval path/to/model --tasks reviews.csv",
    'assay eval path/to/model --tasks reviews.csv --prompt "{review}\\nSentiment:" --answer " {stars}"',
    "# which of four words, and of four passages, goes on your text",
    "assay eval path/to/model --tasks cloze,continuation --text my_texts/",
    '# tasks of lm-evaluation-harness, which download their data: pip install "assay\\[eval]"',
    "assay eval path/to/model --tasks arc_easy,hellaswag --limit 200",
)


def run(
    source: Annotated[
        str, typer.Argument(metavar="MODEL", help="A folder with weights (published, saved, a run's), .gguf or hub id.")
    ],
    tasks: Annotated[
        str,
        typer.Option(
            metavar="T,T",
            show_default=False,
            help="copy, reverse, lookup, addition, compose (the default), cloze, continuation, labelled files, or "
            "names that lm-eval knows.",
        ),
    ] = "copy,reverse,lookup,addition,compose",
    items: Annotated[int, typer.Option(min=1, metavar="N", help="Items of a made task.")] = 200,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", show_default=False, help="Items of any other task at most.")
    ] = None,
    shots: Annotated[
        int | None, typer.Option(min=0, metavar="N", show_default=False, help="Examples before each: harness tasks.")
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            metavar="COL", show_default=False, help="A file's text column; for cloze and continuation: a path to text."
        ),
    ] = None,
    label: Annotated[str | None, typer.Option(metavar="COL", show_default=False, help="A file's label column.")] = None,
    prompt: Annotated[
        str | None, typer.Option(metavar="TEMPLATE", show_default=False, help="Columns in braces: '{text} Label:'.")
    ] = None,
    answer: Annotated[str | None, typer.Option(metavar="TEMPLATE", show_default=False, help="' {label}'.")] = None,
    names: Annotated[
        list[str] | None, typer.Option("--name", metavar="V=WORD", show_default=False, help="Call a label so.")
    ] = None,
    ends: Annotated[bool, typer.Option("--ends", help="The end token is part of an answer, as after tuning.")] = False,
    written: Annotated[bool, typer.Option("--write/--choose", help="Let it write answers too, or only choose.")] = True,
    length: Annotated[
        int | None, typer.Option(min=2, metavar="N", show_default=False, help="Tokens of a window; the model's own.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, metavar="N", help="At a time.")] = 32,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of made items.")] = 0,
    device: Annotated[str, device_option()] = "cpu",
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of eval.json and report.html.")] = Path("eval"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON in place of the table.")] = False,
) -> None:
    """Measure a model on tasks: accuracy, F1, calibration, exact match, with standard errors.

    A causal decoder reads the prompt from the left, a prefix decoder sees it whole, an encoder-decoder encodes it.
    """
    from assay.cli.tasks import file_task, is_generated, show, template_of
    from assay.errors import UserError
    from assay.evaluation.cloze import cloze_task
    from assay.evaluation.evaluate import evaluate
    from assay.evaluation.generated import continuation_task, generated_task
    from assay.evaluation.harness import run_harness
    from assay.evaluation.pairs import Codec
    from assay.evaluation.tasks import Task
    from assay.report.tasks import EVALUATION, write_evaluation
    from assay.runs import provenance, write_json
    from assay.training.opening import has_weights, open_model

    if out.is_file():
        raise UserError(f"{out}: is a file, and --out is a folder.", "Give another --out.")
    wanted = [name.strip() for name in tasks.split(",") if name.strip()]
    if not wanted:
        raise UserError("--tasks: names no task.", "Give at least one, such as copy.")
    template, made, others = template_of(prompt, answer, names or []), [], []
    for name in wanted:
        if is_generated(name):
            made.append(generated_task(name, items, seed=seed))
        elif name in ("continuation", "cloze"):
            maker = continuation_task if name == "continuation" else cloze_task
            made.append(maker(_texts(text), items, seed=seed))
        elif Path(name).suffix or Path(name).is_file():
            task = file_task(name, template, text, label)
            made.append(
                Task(task.name, task.items[:limit], task.description, task.labels, task.stop, task.written, task.facts)
            )
        else:
            others.append(name)
    if not has_weights(source):
        raise UserError(f"{source}: has no weights to evaluate.", "Give a run's folder, or a published or saved model.")
    model = open_model(source, (), device=device)
    codec = Codec(model, length=length)
    rows = evaluate(codec, made, end=ends, written=written, batch_size=batch_size)
    harness = run_harness(model, others, limit=limit, shots=shots, batch_size=batch_size) if others else None
    result: dict[str, Any] = {
        "schema_version": 1, "kind": "eval", "name": model.spec.name or source, "tasks": rows, "harness": harness,
        "spec": model.spec.to_dict(full=True), "provenance": provenance(),
        "settings": {
            "model": source, "tasks": tasks, "items": items, "limit": limit, "seed": seed, "ends": ends,
            "length": codec.length, "prompt": prompt, "answer": answer,
        },
        "warnings": [f"{r['task']}: {r['cut']} prompts lost their beginning to the window." for r in rows if r["cut"]],
    }  # fmt: skip
    write_json(out / EVALUATION, result)
    page = write_evaluation(out)
    if as_json:
        import json

        from assay.runs.files import plain

        print(json.dumps(plain({"tasks": rows, "harness": harness, "report": str(page)}), indent=2))
        return
    if rows:
        show(rows)
    if harness:
        _tell(harness)
    print(f"report  {page}")


def _texts(path: str | None) -> list[str]:
    """Held-out documents of a text."""
    from assay.data.sources import read
    from assay.data.split import split

    return list(split(read(path or "stdlib"), 0.1).heldout.documents)


def _tell(harness: dict[str, Any]) -> None:
    for task, found in harness["results"].items():
        for name, number in found.items():
            if isinstance(number, int | float) and "stderr" not in name:
                error = found.get(name.replace(",", "_stderr,", 1))
                shown = f" ± {error:.4f}" if isinstance(error, int | float) else ""
                print(f"{task}  {name.partition(',')[0]}  {number:.4f}{shown}")
