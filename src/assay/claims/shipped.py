"""The last verdicts, which ship inside the package: `verdicts.json`, written by `publish` from a whole run of the book.

python -m assay.claims.shipped BOOK DOCS     # verdicts.json here, claims.html and claims.svg into DOCS
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from assay.claims.book import book_seconds
from assay.claims.catalogue import claim, keys
from assay.claims.page import load_page
from assay.errors import UserError
from assay.runs import StudyFolder, read_json, write_json

__all__ = ["publish", "shipped", "summary"]

FILE = Path(__file__).with_name("verdicts.json")


def summary(folder: StudyFolder) -> dict[str, Any]:
    """Of a book's folder: {"tier", "provenance", "claims": {key: {"verdict", "figures": [text], "status"}}}."""
    found: dict[str, Any] = {}
    about: dict[str, Any] = {}
    for key in keys():
        page = load_page(folder, key)
        if page is None or page["status"] == "not run":
            continue
        figures = [
            f"{q['asks']['en']}: {_said(q)}" for q in page["questions"] if q["decides"] and q.get("answer") is not None
        ]
        found[key] = {"verdict": page.get("verdict"), "status": page["status"], "figures": figures}
        about = {"tier": page["tier"], "provenance": page.get("provenance") or about.get("provenance")}
    return {**about, "claims": found}


def shipped() -> dict[str, Any]:
    """What the package knows of the last whole run; {"claims": {}} where it ships none."""
    found: dict[str, Any] = read_json(FILE) if FILE.is_file() else {"claims": {}}
    return found


def publish(book: Path, docs: Path) -> None:
    """Take a whole run of the book into the package and the documentation.

    Raises:
        UserError: claims without a finished page.
    """
    from assay.report.book import front_svg, write_book

    folder = StudyFolder(book)
    pages = [load_page(folder, key) for key in keys()]
    missing = [key for key, page in zip(keys(), pages, strict=True) if page is None or page["status"] != "done"]
    if missing:
        raise UserError(
            f"{book}: {', '.join(missing)} have no finished page.", "Run them first: assay claims run --all."
        )
    whole = [page for page in pages if page is not None]
    write_json(FILE, summary(folder))
    write_book(docs, whole, seconds=book_seconds(folder))
    (docs / "claims.svg").write_text(front_svg(whole), encoding="utf-8")


def _said(question: dict[str, Any]) -> str:
    answer, unit = question["answer"], question["unit"]
    text = f"{answer['estimate']:.4g}"
    if answer["n"] is not None:
        text += f" [{answer['low']:.4g}, {answer['high']:.4g}]"
    return f"{text} {unit}".strip()


if __name__ == "__main__":
    try:
        publish(Path(sys.argv[1]), Path(sys.argv[2]))
    except UserError as error:
        sys.exit(f"Error: {error}")
    print(f"{len(keys())} claims, the last: {claim(keys()[-1]).title.en}")
