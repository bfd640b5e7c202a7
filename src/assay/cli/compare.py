"""`assay compare`: a study from its description to its report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli.main import examples
from assay.cli.where import On, Retries, Together
from assay.errors import UserError

if TYPE_CHECKING:
    from assay.cli.render import LiveProgress
    from assay.spec.study import StudySpec

EXAMPLES = examples(
    "# three families, three seeds, 3e12 FLOPs a run",
    "assay compare",
    "# what would run, and for how long",
    "assay compare --vary norm=layer,rms --dry-run",
    "assay compare --vary placement=pre,post,deepnorm --data my_texts/",
    "assay compare --spec tiny-llama --vary attention.kv_heads=1,4",
    "assay compare study.toml --out results",
    "# after Ctrl-C, or to add seeds",
    "assay compare --out results --resume --seeds 5",
    "# on a Ray cluster, eight runs at a time",
    "assay compare --on ray://head:10001 --workers 8",
)


def run(
    study: Annotated[
        str | None,
        typer.Argument(metavar="STUDY", show_default=False, help="A study's TOML or JSON file; the same as --spec."),
    ] = None,
    spec: Annotated[
        str | None,
        typer.Option(
            metavar="S", show_default=False, help="A study's file, or a SOURCE: the model that the axes vary."
        ),
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="AXIS=V,V",
            show_default=False,
            help="A field of the model, or of train., objective, data., and its values. Again for more axes: all "
            "combinations run. Default: the three families.",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            show_default=False,
            help="Text, JSON Lines, Parquet, or a folder of them. Default: the running Python's own prose.",
        ),
    ] = None,
    text_field: Annotated[
        str | None,
        typer.Option(metavar="NAME", show_default=False, help="Field of JSON Lines, column of Parquet. Default: text."),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", show_default=False, help="Runs of each combination. Default: 3."),
    ] = None,
    budget: Annotated[
        float | None, typer.Option(metavar="FLOPS", show_default=False, help="Training FLOPs a run. Default: 3e12.")
    ] = None,
    match: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            show_default=False,
            help="Held equal between families besides the budget: parameters or flops (a token). Default: parameters.",
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", show_default=False, help="Runs at a time. Default: as cores.")
    ] = None,
    on: On = None,
    retries: Retries = 2,
    together: Together = "auto",
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", show_default=False, help="Folder of report and runs. Default: compare-HASH."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the study in --out, changed by the options given.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the runs, their parameters and the predicted time.")
    ] = False,
) -> None:
    """Train models that differ along chosen axes, at equal compute, and compare them.

    Ends with a table and report.html: held-out loss against compute with intervals, speed, memory, parameters,
    pictures of masks and blocks, and all that is needed to do it again. Finished runs are never done twice.
    """
    wanted = describe(study, spec, vary, data, seeds, budget, match, out if resume else None, text_field)
    folder = out if out is not None else Path(f"compare-{wanted.hash}")
    if dry_run:
        from assay.cli.compare_view import show_plan
        from assay.studies.plan import plan

        show_plan(plan(wanted, workers=workers))
        return
    if not resume:
        refuse_another(folder, wanted)

    from assay.cli.compare_view import show_results
    from assay.cli.render import LiveProgress
    from assay.studies.compare import compare

    with LiveProgress() as view:
        done = compare(
            wanted, out=folder, resume=resume, workers=workers, on=on, retries=retries, together=together,
            progress=forward(view, together),
        )  # fmt: skip
    show_results(folder, done.report)
    if done.failures:
        raise typer.Exit(1)


def describe(
    study: str | None,
    spec: str | None,
    vary: list[str] | None,
    data: str | None,
    seeds: int | None,
    budget: float | None,
    match: str | None,
    resumed: Path | None,
    text_field: str | None = None,
) -> StudySpec:
    """The study that the options ask for, begun from a file, a model, or the study in the folder resumed."""
    from assay.published.source import resolve_study
    from assay.studies.compare import describe as changed

    if study is not None and spec is not None:
        raise UserError(f"STUDY {study} and --spec {spec} are both given.", "Give one of them.")
    given = study if study is not None else spec
    if given is None and resumed is not None:
        if not (resumed / "study.toml").is_file():
            raise UserError(f"{resumed}: there is no study to resume (no study.toml).", "Start one without --resume.")
        given = str(resumed)
    begun = resolve_study(given) if given is not None else None
    wanted = changed(begun, data=data, vary=vary, seeds=seeds, budget=budget)
    more = {"match": match, "data.text_field": text_field}
    return wanted.with_(**{name: value for name, value in more.items() if value is not None})


def refuse_another(folder: Path, wanted: StudySpec) -> None:
    """Keep a study from being mixed into another's folder by mistake.

    Raises:
        UserError: the folder holds a study that is not the one wanted, or is a file.
    """
    from assay.spec.study import StudySpec

    if folder.is_file():
        raise UserError(f"{folder}: is a file, and --out is a folder.", "Give another --out.")
    if (folder / "study.toml").is_file() and StudySpec.from_toml(folder / "study.toml").hash != wanted.hash:
        raise UserError(
            f"{folder}: holds another study.",
            "Give another --out, or --resume to go on in this folder, where runs that both share are used again.",
        )


def forward(view: LiveProgress, together: str = "never") -> Callable[[dict[str, Any]], None]:
    """What runs report, as the live view takes it; where `together` is always, why some are not is said."""

    def tell(event: dict[str, Any]) -> None:
        if event["event"] == "study":
            view.total = len(event["runs"])
            for reason, number in event.get("apart", {}).items() if together == "always" else ():
                view.console.print(
                    f"{number} run{'s' * (number != 1)} not trained together: {reason}.", highlight=False
                )
            return
        result = event.get("result") or {}
        bits = event.get("bits_per_byte", result.get("bits_per_byte"))
        view({**event, "label": event.get("name") or "run", "bits_per_byte": bits})

    return tell
