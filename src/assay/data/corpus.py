"""A corpus: documents of text with one hash over all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

__all__ = ["Corpus", "hash_documents"]


def hash_documents(documents: Iterable[str]) -> str:
    """sha256 over the documents in their order, borders included: joining two changes it."""
    digest = hashlib.sha256()
    for document in documents:
        encoded = document.encode("utf-8")
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Corpus:
    """Documents of text, in a deterministic order."""

    documents: Sequence[str]
    """One text each; none is empty."""
    name: str
    """What a report calls it."""
    source: str
    """Where it was read from, as the user named it."""
    skipped: Sequence[str] = field(default=())
    """Files of a folder that hold no text, left out."""

    @cached_property
    def hash(self) -> str:
        """sha256 over the documents (`hash_documents`)."""
        return hash_documents(self.documents)

    @cached_property
    def bytes(self) -> int:
        """Length of all documents in UTF-8."""
        return sum(len(document.encode("utf-8")) for document in self.documents)

    def __len__(self) -> int:
        return len(self.documents)

    def __repr__(self) -> str:
        return f"Corpus({self.name!r}, {len(self)} documents, {self.bytes:,} bytes, {self.hash[:16]})"
