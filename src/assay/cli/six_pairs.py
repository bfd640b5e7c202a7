"""`assay six-pairs`: the study of Wang et al. 2022, at any budget."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assay.cli.main import examples, say
from assay.cli.where import On, Retries

if TYPE_CHECKING:
    from assay.spec.study import RunSpec

EXAMPLES = examples(
    "assay six-pairs --form quick",
    "assay six-pairs --form standard --out pairs",
    "# the same file scales up",
    "assay six-pairs my_pairs.toml --set tokens=2000000000 --set model.width=1024",
)


def run(
    study: Annotated[
        Path | None,
        typer.Argument(metavar="STUDY", show_default=False, help="A TOML file; the one that comes with assay."),
    ] = None,
    form: Annotated[
        str | None, typer.Option(metavar="NAME", show_default=False, help="Settings of the file: quick, standard.")
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", show_default=False, help="Change a field.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, show_default=False, help="Repeats of each run.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, show_default=False, help="Processes; one a core.")] = None,
    on: On = None,
    retries: Retries = 2,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The study's folder.")] = Path("six-pairs"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the runs and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Pretrain six pairs of family and objective, measure them zero-shot and after multitask tuning.

    Causal decoder with causal and masked LM, prefix decoder and encoder-decoder with prefix and masked LM, at equal
    tokens and at equal FLOPs; and the two adaptations. The same command goes on after Ctrl-C.
    """
    from assay.errors import UserError
    from assay.report.format import duration
    from assay.studies.six_pairs import load_study, plan_units, six_pairs
    from assay.training.text import load_text

    if out.is_file():
        raise UserError(f"{out}: is a file, and --out is a folder.", "Give another --out.")
    spec = load_study(study)
    if form is not None:
        spec = spec.form(form)
    fields = dict(map(_change, changes or []))
    if seeds is not None:
        fields["seeds"] = seeds
    spec = spec.with_(**fields) if fields else spec
    if dry_run:
        first, second = plan_units(spec, load_text(spec.data))
        for unit in {u.folder: u for u in (*first, *second)}.values():
            print(f"{unit.name:<45} equal {unit.equal:<10} seed {unit.seed}  {unit.folder}")
        print(_foretold([u.run for u in {u.folder: u for u in (*first, *second)}.values()], workers))
        return
    began = time.monotonic()

    def tell(what: str, done: int, total: int) -> None:
        left = duration((time.monotonic() - began) / done * (total - done)) if done else ""
        say(f"{done} of {total}  {what}" + (f"  (about {left} left)" if 0 < done < total else ""))

    found = six_pairs(spec, out, workers=workers, on=on, retries=retries, progress=tell)
    if as_json:
        import json

        from assay.runs.files import plain

        print(json.dumps(plain(found), indent=2))
        return
    for row in found["rows"]:
        cells = [f"{name} {row['measures'][name]['value']:.3f}" for name in ("zero", "tuned", "bits_per_byte")]
        print(f"equal {row['equal']:<7} {row['pair']:<26} {'  '.join(cells)}")
    print(f"report  {out / 'report.html'}")
    if found["failures"]:
        raise typer.Exit(1)


def _foretold(runs: list[RunSpec], workers: int | None) -> str:
    """How many runs, and what pretraining takes on this machine; tuning and measuring are not foretold."""
    from assay.report.format import duration
    from assay.studies.plan import EFFICIENCY, matmul_rate, step_flops
    from assay.studies.runner import default_workers
    from assay.training.text import resolve

    total = sum(run.train.budget or step_flops(resolve(run))[0] * (run.train.steps or 0) for run in runs)
    count = min(workers or default_workers(), len(runs))
    seconds = total / (matmul_rate() * EFFICIENCY) / count
    return (
        f"{len(runs)} runs, {count} at a time: pretraining takes about {duration(seconds)} ({total:.2g} FLOPs); "
        "tuning and measuring come on top, and the first finished runs tell the time left."
    )


def _change(text: str) -> tuple[str, object]:
    """A field and its value, read as in the file where it can be, else as plain text.

    Raises:
        UserError: not FIELD=VALUE.
    """
    import tomllib

    from assay.errors import UserError

    field, equals, value = text.partition("=")
    if not equals or not field.strip():
        raise UserError(f"--set {text}: not FIELD=VALUE.", "Write --set tokens=1000000.")
    try:
        return field.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return field.strip(), value
