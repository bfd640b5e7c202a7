"""`assay table`: the known models' norms and sizes. `python -m assay.cli.table` prints `docs/models.md`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from assay.cli.main import examples

EXAMPLES = examples(
    "assay table norms",
    "assay table sizes",
    "assay table norms --format csv > norms.csv",
    "assay table sizes --format json",
)


class What(StrEnum):
    """Which table."""

    norms = "norms"
    sizes = "sizes"


class Form(StrEnum):
    """How to print."""

    table = "table"
    csv = "csv"
    json = "json"
    markdown = "markdown"


def run(
    what: Annotated[
        What,
        typer.Argument(
            help="norms: norm, placement, eps, bias, positions, activation of each named model. sizes: parameters by "
            "part of each preset, beside published counts."
        ),
    ],
    form: Annotated[Form, typer.Option("--format", help="For people or for programs.")] = Form.table,
) -> None:
    """Print tables of the known models: norms, or sizes.

    Every cell is computed from the presets; no weights are needed.
    """
    from assay.spec.norm_table import norm_rows, plain, size_rows

    rows = plain(norm_rows() if what is What.norms else size_rows())
    if form is Form.json:
        import json

        print(json.dumps(rows, indent=2))
    elif form is Form.csv:
        import csv
        import sys

        writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    elif form is Form.markdown:
        print(markdown(rows if what is What.norms else _sizes(rows)), end="")
    else:
        show(rows if what is What.norms else _sizes(rows), right=what is What.sizes)


def _sizes(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Sizes as people read them."""
    from assay.cli.inspect_view import PART_NAMES
    from assay.cli.numbers import count

    known = ("model", "preset", "total", "published", "deviation")
    found = []
    for row in rows:
        parts = {PART_NAMES.get(name, name): count(size) for name, size in row.items() if name not in known}
        stated = row["published"]
        told = {"published": count(stated) if stated else "", "off by": _deviation(row["deviation"]) if stated else ""}
        found.append({"model": row["preset"], "total": f"{row['total']:,}", **told, **parts})
    return found


def _deviation(share: float) -> str:
    text = f"{share:+.2%}"
    return "0.00%" if text in ("+0.00%", "-0.00%") else text


def show(rows: list[dict[str, str]], *, right: bool) -> None:
    """A table in the terminal; where it is narrow, a block a row."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    least = 150 if right else 110
    if console.is_terminal and console.width < least:
        for row in rows:
            (_, title), *fields = row.items()
            console.print(Text(title, style="bold"))
            console.print(Text("  " + "; ".join(f"{key}: {value}" for key, value in fields if value not in ("", "0"))))
        return
    if not console.is_terminal:
        console = Console(highlight=False, width=max(console.width, 200))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for number, name in enumerate(rows[0]):
        table.add_column(name, justify="right" if right and number else "left", no_wrap=number == 0, overflow="fold")
    for row in rows:
        table.add_row(*(Text(value) for value in row.values()))
    console.print(table)


def markdown(rows: list[dict[str, Any]]) -> str:
    """A table in Markdown."""
    lines = ["| " + " | ".join(rows[0]) + " |", "| " + " | ".join("---" for _ in rows[0]) + " |"]
    lines += ["| " + " | ".join(str(value) for value in row.values()) + " |" for row in rows]
    return "\n".join(lines) + "\n"


HEAD = """# Models

Made from the code by `python -m assay.cli.table > docs/models.md`; a test holds this page to it. The same tables:
`assay table norms`, `assay table sizes`, with `--format csv` or `json`. What sets two models apart: `assay diff A B`.

## Which model uses which norm

Computed from the presets (`assay.presets()`): papers' tables and released configurations as values. `family` is the
mask of the release. `bias` says where there are biases: norms, query-key-value, attention's output, feed-forward.

"""

READING = """
Reading it:

- ChatGLM2-6B is causal with RMSNorm before each sublayer, though it is often listed as a prefix decoder with Post-LN.
- "RMSNorm suits GPT" does not describe who uses it: GPT-2 and GPT-3 have LayerNorm, and T5, whose encoder sees both
  ways, has RMSNorm.
- ChatGLM-6B's and GLM-130B's code norms first, but its residual is the *normed* stream times alpha: DeepNorm's Post-LN
  with the norm moved to the next entry.
- OPT-350M (Post-LN, an embedding narrower than the stream) is not among the presets. GPT-3's banded layers have no
  published width; every layer is dense here. PaLM's and U-PaLM's eps was never published: theirs is the default.

## Sizes

Parameters by part, tied matrices once. Published counts where they are known to the digits shown; ChatGLM-6B is 6.71
billion as stored, its output matrix apart, and GLM-130B 130.5 billion untied.

"""

FORMATS = """
## Formats

`assay.load(source)` reads folders of these families in safetensors (one file, shards, ranks where the family has them)
and `pytorch_model.bin` or `.pt` through torch's weights-only loading, and GGUF files of
{gguf}.
`assay export SOURCE DIR --format hf` writes those with a yes. A hint says what no configuration does.

"""


def page() -> str:
    """The whole of `docs/models.md`."""
    from assay.published.gguf import ARCHITECTURES
    from assay.published.registry import families
    from assay.spec.norm_table import norm_rows, plain, size_rows

    formats = [
        {
            "family": family.name,
            "known by": ", ".join(f"`{name}`" for name in (*family.model_types, *family.files[:1])),
            "ranks": "yes" if family.joins else "",
            "export": "yes" if family.from_spec and family.transformers else "own format" if family.from_spec else "",
            "hints": ", ".join(f"`{name}`" for name in family.hints),
        }
        for family in families()
    ]
    return "".join(
        (
            HEAD, markdown(plain(norm_rows())), READING, markdown(_sizes(plain(size_rows()))),
            FORMATS.format(gguf=", ".join(f"`{name}`" for name in ARCHITECTURES)), markdown(formats),
        )
    )  # fmt: skip


if __name__ == "__main__":
    print(page(), end="")
