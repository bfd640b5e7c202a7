"""From templates to one self-contained page: nothing is loaded from anywhere, all text is escaped."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.report import format as say

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Templates with autoescape for everything, undefined names as errors, and the formats of `format.py`."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    found = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("count", "scientific", "significant", "memory", "duration", "interval", "bounds", "signed", "listed"):
        found.filters[f"say_{name}"] = getattr(say, name)
    found.globals["dash"] = say.DASH
    return found


def render(template: str, **values: Any) -> str:
    """A page from a template of this folder; styles and scripts are put in from their own files."""
    return (
        environment()
        .get_template(template)
        .render(
            style=picture((TEMPLATES / "report.css").read_text(encoding="utf-8")),
            script=picture((TEMPLATES / "report.js").read_text(encoding="utf-8")),
            **values,
        )
    )


def picture(markup: str) -> Markup:
    """Mark what this package drew itself as safe to stand in a page. Never give it text from data."""
    from markupsafe import Markup

    return Markup(markup)
