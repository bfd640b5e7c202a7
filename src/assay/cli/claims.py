"""`assay claims`: the book of claims, listed, run and shown."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from assay.cli.main import SETTINGS, examples
from assay.cli.where import On, Retries, Together
from assay.errors import UserError

EXAMPLES = examples(
    "assay claims",
    "assay claims run C9",
    "assay claims run --all --tier quick",
    "# what a finished run says, in Chinese",
    "assay claims show C9 --out claims-quick --lang zh",
    "# another verdict at another size: same code, other numbers",
    "assay claims run C12 C13 --tier full --out claims-full",
)
RUN_EXAMPLES = examples(
    "assay claims run C9",
    "assay claims run C12 C13 C14 --workers 2",
    "assay claims run --all --tier quick --out claims-quick",
    "# what would be trained",
    "assay claims run --all --dry-run",
    "# on a Ray cluster",
    "assay claims run --all --tier full --on ray://head:10001 --workers 64",
)

app = typer.Typer(
    name="claims", add_completion=False, rich_markup_mode="rich", context_settings=SETTINGS,
    pretty_exceptions_enable=False, epilog=EXAMPLES, invoke_without_command=True,
)  # fmt: skip

Language = Annotated[str, typer.Option("--lang", metavar="en|zh", help="Language of the texts.")]
Book = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", show_default=False, help="A book's folder. Default: the verdicts shipped."),
]


@app.callback()
def front(context: typer.Context, out: Book = None, lang: Language = "en",
          as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:  # fmt: skip
    """The book of claims: list what is said of architectures, run the experiments, read the verdicts.

    Alone it lists the claims with their last verdicts.
    """
    if context.invoked_subcommand is not None:
        return
    from assay.claims.shipped import shipped, summary
    from assay.cli.claims_view import show_list
    from assay.runs import StudyFolder

    _language(lang)
    if out is not None and not (out / "claims").is_dir():
        raise UserError(f"{out}: holds no book of claims.", f"Run one: assay claims run --all --out {out}")
    last = summary(StudyFolder(out)) if out is not None else shipped()
    if as_json:
        _print_json(last)
    else:
        show_list(last, lang)


@app.command("run", epilog=RUN_EXAMPLES, context_settings=SETTINGS)
def run(
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY ...]", show_default=False, help="C1 ... C40.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="The whole book.")] = False,
    tier: Annotated[
        str, typer.Option(metavar="quick|full", help="quick: the whole book in under 30 minutes on 2 CPU cores.")
    ] = "quick",
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", show_default=False, help="Folder of claims.html and runs. Default: claims-TIER."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", show_default=False, help="Processes at a time. Default: as cores.")
    ] = None,
    on: On = None,
    retries: Retries = 2,
    together: Together = "auto",
    again: Annotated[bool, typer.Option("--again", help="Measure again what is finished; runs are kept.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be trained.")] = False,
) -> None:
    """Run claims; ends with their verdicts and claims.html, one page a claim.

    Runs that claims share are done once. What is finished in the folder is kept: the same command goes on after an
    interruption.
    """
    from assay.claims.book import planned, run_claims
    from assay.claims.catalogue import claim
    from assay.cli.claims_view import BookProgress, show_verdicts

    if bool(keys) == everything:
        raise UserError(
            "keys and --all are both given." if keys else "no claim is named.", "Give keys such as C9, or --all."
        )
    chosen = [claim(key).key for key in keys or ()]
    folder = out if out is not None else Path(f"claims-{tier}")
    if dry_run:
        plan = planned(chosen, tier, folder)
        print(
            f"{len(plan['claims'])} claims; {plan['runs']} runs ({plan['asked']} with those that claims share), "
            f"{plan['done']} of them done."
        )
        return
    with BookProgress() as view:
        pages = run_claims(
            chosen, tier=tier, out=folder, workers=workers, on=on, retries=retries, together=together, again=again,
            progress=view,
        )  # fmt: skip
    show_verdicts(pages, folder / "claims.html")
    if any(page["status"] != "done" for page in pages):
        raise typer.Exit(1)


@app.command("show", context_settings=SETTINGS)
def show(
    key: Annotated[str, typer.Argument(metavar="KEY", help="C1 ... C40.")],
    out: Book = None,
    lang: Language = "en",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """One claim: what it says, what is published, the experiment, the rule, and the last verdict."""
    from assay.claims.base import Tier
    from assay.claims.catalogue import claim
    from assay.claims.page import load_page, text_page
    from assay.claims.shipped import shipped
    from assay.cli.claims_view import show_page
    from assay.runs import StudyFolder

    _language(lang)
    found = claim(key)
    page = load_page(StudyFolder(out), found.key) if out is not None else None
    if out is not None and page is None:
        raise UserError(f"{out}: holds no page of {found.key}.", f"Run it: assay claims run {found.key} --out {out}")
    page = page or text_page(found, Tier.quick)
    if as_json:
        _print_json(page)
        return
    show_page(page, lang, shipped()["claims"].get(found.key))


def _language(lang: str) -> None:
    if lang not in ("en", "zh"):
        raise UserError(f"--lang {lang}: is not known.", "Give en or zh.")


def _print_json(data: Any) -> None:
    import json

    from assay.runs.files import plain

    print(json.dumps(plain(data), indent=2, ensure_ascii=False))
