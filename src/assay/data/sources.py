"""Text in: plain text files, JSON Lines, Parquet, and folders of them.

A plain text file is one document; a row of JSON Lines or Parquet is one document. Folders are read
recursively in the order of their relative paths, so the same files give the same corpus everywhere.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from assay.data import delivered
from assay.data.corpus import Corpus
from assay.data.rust import guarded
from assay.errors import UserError, did_you_mean
from assay.spec.plain import parse_json

__all__ = ["read", "read_jsonl", "read_parquet", "read_text"]

_TEXT = {".txt", ".text", ".md", ".rst"}
_KINDS = "a text file (.txt, .md, any UTF-8 text), JSON Lines (.jsonl, .ndjson), Parquet, or a folder of them"

TELL = "Name the {} that holds the text: --text-field NAME, or text_field under [data] in a file."


def read(source: str | Path, *, text_field: str = "text") -> Corpus:
    """The corpus that `source` names.

    Args:
        source: a file, a folder, `stdlib` for the embedded default corpus (`data/stdlib.py`), or `made:...` for one
            that is made (`data/made.py`).
        text_field: the field or column of JSON Lines and Parquet that holds the text.

    Raises:
        UserError: missing, unreadable, empty, binary, or without the field; the message names the place.
    """
    if (sent := delivered.find(source, text_field)) is not None:
        return sent
    if str(source) == "stdlib":
        from assay.data.stdlib import stdlib

        return stdlib()
    if str(source).startswith("made:"):
        from assay.data.made import made

        return made(str(source))
    path = Path(source).expanduser()
    if path.is_dir():
        documents, skipped = _read_folder(path, text_field)
    elif path.exists():
        documents, skipped = _read_file(path, text_field), []
    else:
        near = os.listdir(path.parent) if path.parent.is_dir() else []
        hint = did_you_mean(path.name, near, at_most=0) if near else ""
        raise UserError(
            f"{source}: no such file or folder.",
            hint if hint.startswith("Did") else f"Give {_KINDS}, or `stdlib` for the embedded corpus.",
        )
    if not documents:
        raise UserError(f"{source}: there is no text in it.", f"Give {_KINDS} with some text.")
    name = path.resolve().name or str(path)
    return Corpus(documents, name=name, source=str(source), skipped=tuple(skipped))


def read_text(path: Path) -> list[str]:
    """The file as one document, without a byte order mark and otherwise unchanged; none if it is blank.

    Raises:
        UserError: unreadable, or not UTF-8 text, saying at which byte.
    """
    text = _decode(path)
    return [text] if text.strip() else []


def read_jsonl(path: Path, field: str = "text") -> list[str]:
    """One document per line: the string under `field`. Blank lines and blank texts are left out.

    Raises:
        UserError: not UTF-8, not JSON, no such field, or not a string; the message names the line.
    """
    documents = []
    for number, line in enumerate(_decode(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except ValueError as error:
            why = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
            raise UserError(
                f"{path}, line {number}: not valid JSON ({why}).",
                "Each line has to be one JSON object.",
            ) from None
        if not isinstance(row, dict):
            raise UserError(
                f"{path}, line {number}: a {type(row).__name__}, where an object with a field {field!r} belongs.",
                f'Write {{"{field}": "..."}} on each line.',
            )
        if field not in row:
            raise _no_field(f"{path}, line {number}", "field", field, row)
        text = row[field]
        if not isinstance(text, str):
            raise UserError(
                f"{path}, line {number}: field {field!r} holds a {type(text).__name__}, not text.",
                "Choose one of strings. " + TELL.format("field"),
            )
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise UserError(
                f"{path}, line {number}: field {field!r} holds half a surrogate pair, which is no text.",
                "Write the character whole or remove it.",
            ) from None
        if text.strip():
            documents.append(text)
    return documents


def read_parquet(path: Path, field: str = "text") -> list[str]:
    """One document per row: the string in column `field`. Null and blank texts are left out.

    Raises:
        UserError: not Parquet, no such column, or a column that is not text.
    """
    import polars

    damaged, remedy = f"{path}: cannot be read as Parquet", "Write the file again, or remove it."
    try:
        with guarded(damaged, remedy, ()):
            schema: dict[str, Any] = dict(polars.read_parquet_schema(path))
        if field not in schema:
            raise _no_field(str(path), "column", field, schema)
        if schema[field] not in (polars.String, polars.Categorical):
            raise UserError(
                f"{path}: column {field!r} holds {schema[field]}, not text.",
                "Choose one of strings. " + TELL.format("column"),
            )
        with guarded(damaged, remedy, ()):
            column = polars.read_parquet(path, columns=[field])[field].cast(polars.String)
    except (polars.exceptions.PolarsError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{path}: cannot be read as Parquet ({reason}).", "Write the file again, or remove it."
        ) from None
    return [text for text in column.to_list() if text is not None and text.strip()]


def _decode(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}).", "Check its permissions.") from None
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UserError(f"{path}: this is UTF-16, not UTF-8 (byte 0).", "Convert it to UTF-8.")
    remedy = f"Give {_KINDS}."
    at = content.find(b"\0")
    if at >= 0:
        raise UserError(f"{path}: this is binary, not text: byte {at} is NUL.", remedy)
    try:
        return content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: this is not UTF-8 text: byte {error.start} is 0x{content[error.start]:02x}.",
            f"Convert it to UTF-8. {remedy}",
        ) from None


def _reader(path: Path, text_field: str) -> Callable[[], list[str]]:
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        return lambda: read_jsonl(path, text_field)
    if suffix in (".parquet", ".pq"):
        return lambda: read_parquet(path, text_field)
    return lambda: read_text(path)


def _read_file(path: Path, text_field: str) -> list[str]:
    if not path.is_file():
        raise UserError(f"{path}: neither a file nor a folder.", f"Give {_KINDS}.")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty.", f"Give {_KINDS} with some text.")
    return _reader(path, text_field)()


def _read_folder(folder: Path, text_field: str) -> tuple[list[str], list[str]]:
    """Documents of every file that is not hidden; files of an unknown kind that hold no text are skipped."""
    files = []
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__pycache__"]
        files += [Path(root, name) for name in names if not name.startswith(".")]
    documents: list[str] = []
    skipped: list[str] = []
    for path in sorted(files, key=lambda path: path.relative_to(folder).as_posix()):
        known = path.suffix.lower() in {*_TEXT, ".jsonl", ".ndjson", ".parquet", ".pq"}
        try:
            found = _reader(path, text_field)() if path.stat().st_size else []
        except UserError:
            if known:  # it claims to be text, so its being broken is for the user to know
                raise
            found = []
        except OSError:  # a dangling link
            found = []
        documents += found
        if not found:
            skipped.append(path.relative_to(folder).as_posix())
    if not documents and skipped:
        raise UserError(
            f"{folder}: none of its {len(skipped)} files holds text (the first is {skipped[0]}).",
            f"Give {_KINDS}.",
        )
    return documents, skipped


def _no_field(place: str, kind: str, field: str, there: dict[str, Any]) -> UserError:
    names = ", ".join(repr(name) for name in there) or "none"
    return UserError(f"{place}: there is no {kind} {field!r}; there are: {names}.", TELL.format(kind))
