"""From a description to everything a run needs: both splits, the tokenizer, the training tokens."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from assay.data.corpus import Corpus
from assay.data.shards import TokenDocuments, tokenize
from assay.data.sources import read
from assay.data.split import Split, split
from assay.data.tokenizer import Tokenizer, train_tokenizer
from assay.data.windows import SIZE, Window, windows
from assay.errors import UserError
from assay.spec.data import DataSpec

__all__ = ["Dataset", "prepare"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Text and tokens of a `DataSpec`; tokens and windows are made, or taken from the cache, when asked for."""

    spec: DataSpec
    corpus: Corpus
    split: Split
    tokenizer: Tokenizer

    @cached_property
    def train(self) -> TokenDocuments:
        """The training split's tokens."""
        return tokenize(self.split.train, self.tokenizer)

    @cached_property
    def heldout(self) -> TokenDocuments:
        """The held-out split's tokens."""
        return tokenize(self.split.heldout, self.tokenizer)

    def windows(self, count: int | None = None) -> list[Window]:
        """Continuation windows of the held-out split; see `data/windows.py`.

        Raises:
            UserError: no held-out document is as long as a window.
        """
        return windows(self.split.heldout, self.tokenizer, count=count)

    def facts(self) -> dict[str, Any]:
        """What a run folder and a report say about the data, as JSON values."""
        return {
            "name": self.corpus.name,
            "source": self.corpus.source,
            "sha256": self.corpus.hash,
            "documents": len(self.corpus),
            "bytes": self.corpus.bytes,
            "train_bytes": self.split.train.bytes,
            "heldout_bytes": self.split.heldout.bytes,
            "heldout_documents": len(self.split.heldout),
            "train_sha256": self.split.train.hash,
            "heldout_sha256": self.split.heldout.hash,
            "tokenizer": self.tokenizer.hash,
            "vocab_size": self.tokenizer.vocabulary.size,
            "skipped_files": list(self.corpus.skipped),
        }


def prepare(spec: DataSpec) -> Dataset:
    """Read, split, and train the tokenizer on the training split.

    Raises:
        UserError: whatever `read` and `split` refuse, or text without one held-out window.
    """
    corpus = read(spec.source, text_field=spec.text_field)
    parts = split(corpus, spec.heldout)
    longest = max(len(document.encode()) for document in parts.heldout.documents)
    if longest < SIZE:
        # Said before the tokenizer's training, since nothing could be measured afterwards.
        raise UserError(
            f"{spec.source}: the longest held-out document has {longest} bytes, and a window of the measure has "
            f"{SIZE}. The text has {corpus.bytes:,} bytes in {len(corpus)} documents.",
            f"Give more text (about {int(SIZE / spec.heldout) + SIZE:,} bytes in one document), or a larger "
            "share with heldout.",
        )
    return Dataset(spec, corpus, parts, train_tokenizer(spec.tokenizer, parts.train))
