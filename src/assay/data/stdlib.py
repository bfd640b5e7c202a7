"""The embedded default corpus: the running Python's own English prose, about 2 MB, always there.

Two sources, both read with `ast` and never imported: the language reference in `pydoc_data.topics` (one
document per topic), and the docstrings of the standard library's modules (one document per module, its
docstrings in the order of the file). Python versions differ in their text, so a report gives its hash.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import platform
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from assay.data.cache import cached_bytes
from assay.data.corpus import Corpus
from assay.errors import UserError

__all__ = ["stdlib"]

_FORMAT = "1"
"""Raised when the rules below change, so that older cache entries are not used."""

_LEFT_OUT = frozenset({
    "test", "tests", "idle_test", "site-packages", "dist-packages", "idlelib", "lib2to3", "turtledemo",
    "encodings", "pydoc_data", "_bundled", "__phello__", "__pycache__",
})  # fmt: skip
"""Folders of tests, of other people's packages, and of tables with the same sentence over and over."""

_SHORTEST = 200
"""Documents of fewer characters are left out."""


def stdlib() -> Corpus:
    """The corpus, in an order that depends on the texts alone (by hash), from the cache where it is known.

    Raises:
        UserError: this Python comes without the source of its library.
    """
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in _sources(folder)}
    if not files:
        raise UserError(
            f"{folder}: this Python comes without the source of its standard library, so there is no embedded corpus.",
            "Give your own text with --data.",
        )
    key = hashlib.sha256(_FORMAT.encode())
    for name, content in files.items():
        key.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
    packed = cached_bytes("stdlib", key.hexdigest(), lambda: json.dumps(_documents(files)).encode())
    version = platform.python_version()
    return Corpus(json.loads(packed), name=f"Python {version} standard library", source="stdlib")


def _sources(folder: Path) -> Iterator[Path]:
    topics = folder / "pydoc_data" / "topics.py"
    if topics.is_file():
        yield topics
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(n for n in folders if n not in _LEFT_OUT and not n.startswith("config-"))
        for name in sorted(names):
            if name.endswith(".py") and not name.startswith("_sysconfigdata"):
                yield Path(root, name)


def _documents(files: dict[str, bytes]) -> list[str]:
    documents: set[str] = set()
    seen: set[str] = set()
    for name, content in files.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # bad escapes in a library are not the user's to mend
                tree = ast.parse(content)
        except (SyntaxError, ValueError):
            continue
        if name == "pydoc_data/topics.py":
            documents.update(_topics(tree))
            continue
        texts = [text for text in _docstrings(tree) if text not in seen]
        seen.update(texts)
        documents.add("\n\n".join(texts))
    kept = (d.strip() + "\n" for d in documents if len(d) >= _SHORTEST and _is_prose(d))
    return sorted(kept, key=lambda d: hashlib.sha256(d.encode()).digest())


def _topics(tree: ast.Module) -> list[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict):
            return [text for text in ast.literal_eval(node.value).values() if isinstance(text, str)]
    return []


def _docstrings(tree: ast.Module) -> list[str]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(tree) if isinstance(node, kinds)]
    nodes.sort(key=lambda node: getattr(node, "lineno", 0))
    return [text for node in nodes if (text := ast.get_docstring(node)) and text.strip()]


def _is_prose(text: str) -> bool:
    """Mostly words in the Latin alphabet: leaves out tables of data and other languages."""
    words = sum(char.isspace() or (char.isascii() and char.isalpha()) for char in text)
    return words >= 0.6 * len(text)
