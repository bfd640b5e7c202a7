"""Train and held-out: by document, decided by content alone."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from assay.data.corpus import Corpus
from assay.errors import UserError

__all__ = ["Split", "split"]


class Split(NamedTuple):
    """Two corpora that share no document."""

    train: Corpus
    heldout: Corpus


def split(corpus: Corpus, heldout: float = 0.1) -> Split:
    """Part of the bytes kept out of training.

    Several documents: whole documents in the order of their hashes until the share is reached, so the choice
    depends on the texts, not on their order or names, and equal texts fall on the same side. One document:
    its last bytes, from the first word that begins there.

    Args:
        corpus: what is split.
        heldout: share of the bytes, in (0, 1).

    Raises:
        UserError: there is too little text for two parts.
    """
    assert 0 < heldout < 1
    by_hash: dict[bytes, list[int]] = {}
    for index, document in enumerate(corpus.documents):
        by_hash.setdefault(hashlib.sha256(document.encode()).digest(), []).append(index)
    if len(by_hash) < 2:
        return _split_one(corpus, heldout)
    sizes = {key: sum(len(corpus.documents[i].encode()) for i in group) for key, group in by_hash.items()}
    target = heldout * sum(sizes.values())
    kept: set[int] = set()
    total = 0
    for key in sorted(by_hash):
        if total >= 0.97 * target:
            break
        if total + sizes[key] <= 1.03 * target:  # a document that would overshoot stays in training
            total += sizes[key]
            kept.update(by_hash[key])
    if not kept:  # every document is larger than the share
        kept.update(by_hash[min(sizes, key=lambda key: (sizes[key], key))])
    train = [d for i, d in enumerate(corpus.documents) if i not in kept]
    held = [d for i, d in enumerate(corpus.documents) if i in kept]
    return _named(corpus, train, held)


def _split_one(corpus: Corpus, heldout: float) -> Split:
    text = corpus.documents[0] if corpus.documents else ""
    encoded = text.encode()
    at = len(encoded[: int(len(encoded) * (1 - heldout))].decode(errors="ignore"))
    word = next((i for i in range(at, min(at + 200, len(text))) if text[i].isspace()), at)
    train, held = text[:word], text[word:]
    if not train.strip() or not held.strip():
        raise UserError(
            f"{corpus.source}: {len(encoded)} bytes of text are too few for a training and a held-out part.",
            "Give more text.",
        )
    return _named(corpus, [train], [held])


def _named(corpus: Corpus, train: list[str], held: list[str]) -> Split:
    return Split(
        Corpus(train, f"{corpus.name} (train)", corpus.source),
        Corpus(held, f"{corpus.name} (held out)", corpus.source),
    )
