"""A user's labelled file (CSV, TSV, JSON Lines, Parquet) as a task, through a template."""

from __future__ import annotations

import json
import lzma
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from assay.data.corpus import hash_documents
from assay.data.rust import guarded
from assay.errors import UserError
from assay.evaluation.tasks import Item, Task
from assay.evaluation.templates import LABELLED, PROMPTED, Template, close_name
from assay.spec.plain import parse_json

__all__ = ["MOST_CLASSES", "Table", "labelled_task", "read_table"]

MOST_CLASSES = 64
"""A label column with more different values is taken for free text, which is written and not chosen."""
KINDS = "CSV (.csv), TSV (.tsv), JSON Lines (.jsonl) or Parquet (.parquet)"
PACKED = {".gz": "gzip", ".bz2": "bz2", ".xz": "lzma"}
"""Compressed files: suffix behind the kind's own, and the module that opens them."""
MAGIC = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
"""How compressed files begin, whatever they are called: polars would unpack some of them, however large they get."""
ROOM, TIMES = 16 << 20, 250
"""A file may unpack to so many bytes, or to so many times its own size: texts shrink to a tenth or a fiftieth."""
_HALF = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Table:
    """Rows by column."""

    source: str
    columns: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]
    hash: str
    """Over its content."""


def read_table(path: str | Path) -> Table:
    """The rows of a labelled file. Values keep their text: 0 is "0", in CSV and elsewhere.

    Raises:
        UserError: no such file, an unknown kind, or content that cannot be read, with the line where there is one.
    """
    import polars

    path = Path(path).expanduser()
    suffix = path.suffix.lower()
    if not path.is_file():
        raise UserError(f"{path}: no such file.", f"Give {KINDS}.")
    if suffix in PACKED:
        suffix = Path(path.stem).suffix.lower()
    try:
        if suffix in (".parquet", ".pq"):
            with guarded(f"{path}: cannot be read", f"Give {KINDS}.", ()):
                frame = polars.read_parquet(path)
        elif suffix in (".csv", ".tsv"):
            separator = "\t" if suffix == ".tsv" else ","
            table = _unpacked(path)
            with guarded(f"{path}: cannot be read", f"Give {KINDS}.", ()):
                frame = polars.read_csv(table, separator=separator, infer_schema=False)
        elif suffix in (".jsonl", ".ndjson"):
            return _table(str(path), *_json_lines(path))
        else:
            raise UserError(f"{path}: of an unknown kind.", f"Give {KINDS}.")
    except (polars.exceptions.PolarsError, OSError, EOFError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{path}: cannot be read ({reason}).", f"Give {KINDS}.") from None
    return _table(str(path), tuple(frame.columns), frame.to_dicts())


def _unpacked(path: Path) -> bytes:
    """A file's bytes, unpacked where its name says that it is compressed.

    Raises:
        UserError: damaged, or made to fill the memory.
    """
    if path.suffix.lower() not in PACKED:
        plain = path.read_bytes()
        if plain.startswith(MAGIC):
            raise UserError(f"{path}: is compressed, and its name does not say so.", f"Add {' or '.join(PACKED)}.")
        return plain
    most = max(ROOM, TIMES * path.stat().st_size)
    try:
        with import_module(PACKED[path.suffix.lower()]).open(path, "rb") as file:
            content: bytes = file.read(most + 1)
    except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise UserError(f"{path}: cannot be unpacked ({error}).", "Download or pack it again.") from None
    if len(content) > most:
        raise UserError(f"{path}: unpacks to more than {most:,} bytes.", "Unpack it yourself if you trust it.")
    return content


def _json_lines(path: Path) -> tuple[tuple[str, ...], list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    columns: dict[str, None] = {}
    try:
        lines = _unpacked(path).decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start}).", "Convert it to UTF-8.") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except ValueError as error:
            why = error.msg if isinstance(error, json.JSONDecodeError) else error
            raise UserError(f"{path}, line {number}: not valid JSON ({why}).", "Mend the line.") from None
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {number}: a {type(row).__name__}, where an object belongs.")
        if "\\ud" in line.lower() and _HALF.search(json.dumps(row, ensure_ascii=False)):
            raise UserError(
                f"{path}, line {number}: holds half a surrogate pair, which is no text.", "Write the character whole."
            )
        columns |= dict.fromkeys(row)
        rows.append(row)
    return tuple(columns), rows


def _table(source: str, columns: tuple[str, ...], rows: list[dict[str, Any]]) -> Table:
    if not rows:
        raise UserError(f"{source}: holds no rows.", "Give a file with a header and some examples.")
    texts = [json.dumps(row, sort_keys=True, ensure_ascii=False, default=str) for row in rows]
    return Table(source, columns, tuple(rows), hash_documents(texts))


def labelled_task(
    table: Table,
    *,
    template: Template | None = None,
    text: str | None = None,
    label: str | None = None,
    name: str | None = None,
) -> Task:
    """The items of a labelled table.

    Answers are chosen among the values of the label's column where these are few, else written.

    Args:
        table: rows.
        template: how a row becomes text; None: by the columns, a text and its label, or a prompt and its answer.
        text, label: columns in place of "text" and "label".
        name: of the task; None: the file's.

    Raises:
        UserError: a column is missing, a value is empty, or all labels are the same.
    """
    template, classed = _template(table, template, text, label)
    template.check(table.columns, table.source)
    items, answers = [], []
    for number, row in enumerate(table.rows, start=1):
        where = f"{table.source}, row {number}"
        for field in template.fields:
            value = row.get(field)
            if value is None or not str(value).strip():
                raise UserError(f"{where}: column {field!r} is empty.", "Fill it, or leave the row out.")
        answer = template.answer_of(row)
        answers.append(answer)
        items.append(Item(template.prompt_of(row), answer, where=where))
    classes = tuple(sorted(set(answers)))
    if len(classes) < 2 and (classed or len(answers) > 1):
        raise UserError(
            f"{table.source}: every one of the {len(answers)} examples has the same answer, {classes[0].strip()!r}.",
            "Give examples of at least two.",
        )
    choose = len(classes) <= MOST_CLASSES and (classed or len(classes) <= len(answers) // 4)
    if choose:
        items = [Item(i.prompt, i.answer, classes, where=i.where) for i in items]
    facts: dict[str, object] = {
        "source": table.source, "hash": table.hash, "rows": len(items), "prompt": template.prompt,
        "answer": template.answer, "names": dict(template.names),
    }  # fmt: skip
    stop = () if any("\n" in answer.strip() for answer in answers) else ("\n",)
    return Task(
        name or Path(table.source).stem, tuple(items), f"{len(items)} examples of {Path(table.source).name}",
        classes if choose else (), stop, not choose, facts,
    )  # fmt: skip


def _template(table: Table, template: Template | None, text: str | None, label: str | None) -> tuple[Template, bool]:
    """The template, and whether its answer is a label."""
    columns: Sequence[str] = table.columns
    if template is not None and not (template.prompt and template.answer):
        base = _template(table, None, text, label)[0]
        template = Template(template.prompt or base.prompt, template.answer or base.answer, template.names)
    if template is not None:
        return template, False
    if text is None and label is None and {"prompt", "answer"} <= set(columns):
        return PROMPTED, False
    wanted = {"text": text or "text", "label": label or "label"}
    for role, column in wanted.items():
        if column not in columns:
            hint = close_name(column, columns)
            raise UserError(
                f"{table.source}: there is no column {column!r}; there are: {', '.join(columns)}.{hint}",
                f"Name it with --{role}, or give columns text and label, or prompt and answer.",
            )
    swap = {f"{{{role}}}": f"{{{column}}}" for role, column in wanted.items()}
    return Template(
        LABELLED.prompt.replace("{text}", swap["{text}"]), LABELLED.answer.replace("{label}", swap["{label}"])
    ), True
