"""Texts that were sent along to a machine on which their sources do not lie, or may read otherwise.

`ASSAY_TEXTS` names a folder of them; a source that is in it is read from there, whatever lies under its name on this
machine. So a run has one text wherever it is done (the running Python's own prose differs between versions).
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from assay.data.corpus import Corpus
from assay.errors import UserError
from assay.runs.files import content_hash, write_bytes

__all__ = ["VARIABLE", "deliver", "find", "wrap"]

VARIABLE = "ASSAY_TEXTS"


def wrap(corpus: Corpus) -> bytes:
    """A corpus as JSON Lines: what it is, then a text a line."""
    head = {"name": corpus.name, "source": corpus.source, "skipped": list(corpus.skipped), "hash": corpus.hash}
    lines = (json.dumps(line, ensure_ascii=False) for line in (head, *corpus.documents))
    return "\n".join(lines).encode()


def deliver(wrapped: bytes, source: str, text_field: str, folder: Path) -> None:
    """Put a wrapped corpus where `find` looks, under the source and field that name it."""
    write_bytes(_path(source, text_field, folder), wrapped)


def find(source: str | Path, text_field: str) -> Corpus | None:
    """The corpus that was sent along under a source and field, or None.

    Raises:
        UserError: it is not what was sent.
    """
    folder = os.environ.get(VARIABLE)
    if not folder or not (path := _path(str(source), text_field, Path(folder))).is_file():
        return None
    head, *texts = path.read_text(encoding="utf-8").split("\n")
    told = json.loads(head)
    corpus = Corpus([json.loads(text) for text in texts], told["name"], told["source"], tuple(told["skipped"]))
    if corpus.hash != told["hash"]:
        raise UserError(f"{path}: is not the text of {source} that was sent.", "Run the same command again.")
    return corpus


def _path(source: str, text_field: str, folder: Path) -> Path:
    return folder / f"{content_hash([source, text_field])}.jsonl"
