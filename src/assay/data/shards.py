"""Tokens on disk, memory-mapped: files of ids, of word and sentence boundaries, of document borders, of facts.

A folder of shards is addressed by content (the text's hash and the tokenizer's), written under another name
and renamed when whole, and verified when opened.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.data.boundaries import BITS, flags
from assay.data.cache import cache_dir
from assay.data.corpus import Corpus, hash_documents
from assay.data.tokenizer import Tokenizer
from assay.errors import UserError
from assay.objectives.base import Ints
from assay.spec.plain import parse_json

__all__ = ["TokenDocuments", "tokenize", "write_shards"]

_FORMAT = 2
_BLOCK = 1 << 22
"""Characters that are tokenised at a time: bounds the memory."""


class TokenDocuments:
    """Documents as token ids: `len`, `[i]` -> [n] ids, `lengths`. Ids may be memory-mapped: do not change them."""

    def __init__(
        self,
        tokens: Ints,
        offsets: Ints,
        meta: dict[str, Any] | None = None,
        *,
        flags: NDArray[np.uint8] | None = None,
        boundaries: Iterable[str] = (),
    ) -> None:
        """From all ids [total] and the borders [documents + 1]; see `open` and `from_arrays`.

        `flags` [total] has a bit for each kind of boundary in `boundaries` (`data/boundaries.py`).
        """
        self.tokens = tokens
        self.offsets = offsets
        self.meta = meta or {}
        self.flags = flags
        self.boundaries = frozenset(boundaries)
        """Which boundaries are known: `words`, `sentences`."""

    @classmethod
    def from_arrays(
        cls,
        documents: Sequence[Ints],
        *,
        words: Sequence[NDArray[Any]] | None = None,
        sentences: Sequence[NDArray[Any]] | None = None,
    ) -> TokenDocuments:
        """In memory. `words`, `sentences`: for each document, [n] bool, True where one begins."""
        given = {"words": words, "sentences": sentences}
        known = {name: value for name, value in given.items() if value is not None}
        marks = None
        if known and documents:
            marks = np.zeros(sum(map(len, documents)), dtype=np.uint8)
            for name, value in known.items():
                marks[np.concatenate([np.asarray(v, dtype=bool) for v in value])] |= np.uint8(BITS[name])
        lengths = [len(document) for document in documents]
        offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
        joined = np.concatenate([np.asarray(d) for d in documents]) if documents else np.zeros(0, np.int32)
        return cls(joined, offsets, flags=marks, boundaries=known)

    @classmethod
    def open(cls, folder: str | Path) -> TokenDocuments:
        """Memory-map a folder that `write_shards` wrote, after verifying it.

        Raises:
            UserError: missing, truncated, or not what was written, with the remedy.
        """
        folder = Path(folder)
        remedy = "Delete the folder; it will be made again from the text."
        try:
            meta = parse_json((folder / "meta.json").read_bytes())
            path = folder / "tokens.bin"
            dtype, total = np.dtype(_one_of(meta["dtype"], _TYPES)), meta["tokens"]
            vocabulary, boundaries = meta["vocab_size"], [_one_of(name, BITS) for name in meta["boundaries"]]
            if not all(type(number) is int and number >= 0 for number in (total, vocabulary)):
                raise ValueError(f"tokens = {total!r}, vocab_size = {vocabulary!r}")
            size = path.stat().st_size
            if size != total * dtype.itemsize:
                raise UserError(f"{path}: {size} bytes, where {total * dtype.itemsize} were written.", remedy)
            if _hash_file(path) != meta["tokens_sha256"]:
                raise UserError(f"{path}: its content has changed since it was written (wrong hash).", remedy)
            if _hash_file(folder / "offsets.npy") != meta["offsets_sha256"]:
                raise UserError(f"{folder / 'offsets.npy'}: its content has changed (wrong hash).", remedy)
            marks = None
            if boundaries:
                if _hash_file(folder / "flags.bin") != meta["flags_sha256"]:
                    raise UserError(f"{folder / 'flags.bin'}: its content has changed (wrong hash).", remedy)
                marks = np.memmap(folder / "flags.bin", dtype=np.uint8, mode="r", shape=(total,)) if total else None
            offsets = _offsets(folder / "offsets.npy", total)
            tokens = np.memmap(path, dtype=dtype, mode="r", shape=(total,)) if total else np.zeros(0, dtype)
            largest = int(tokens.max(initial=0))
            if total and largest >= vocabulary:
                raise ValueError(f"token {largest} of a vocabulary of {vocabulary}")
        except UserError:
            raise
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{folder}: not a readable folder of token shards ({error}).", remedy) from None
        return cls(tokens, offsets, meta, flags=marks, boundaries=boundaries)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Ints:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]

    def __iter__(self) -> Iterator[Ints]:
        return (self[index] for index in range(len(self)))

    @cached_property
    def lengths(self) -> Ints:
        """[documents] tokens in each."""
        return np.diff(self.offsets)

    @property
    def total(self) -> int:
        """Tokens in all documents."""
        return int(self.offsets[-1])


def write_shards(
    folder: str | Path,
    documents: Iterable[Ints] | Iterable[tuple[Ints, NDArray[np.uint8]]],
    *,
    vocab_size: int,
    boundaries: Sequence[str] = (),
    **meta: Any,
) -> None:
    """Write documents so that the folder is there whole or not at all. An existing folder is replaced.

    Args:
        folder: what to write.
        documents: [n] ids each; with `boundaries` pairs of ids and [n] flags.
        vocab_size: decides between 2 and 4 bytes per id.
        boundaries: the kinds of boundary that the flags have: `words`, `sentences`.
        meta: further facts for `meta.json` (hashes of text and tokenizer).

    Raises:
        OSError: no space or no permission; nothing is left behind.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    dtype = np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        lengths = []
        digest, flags_digest = hashlib.sha256(), hashlib.sha256()
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(open(temporary / "tokens.bin", "wb"))
            beside = stack.enter_context(open(temporary / "flags.bin", "wb")) if boundaries else None
            for document in documents:
                ids, marks = document if beside is not None else (document, None)
                content = np.asarray(ids).astype(dtype).tobytes()
                digest.update(content)
                file.write(content)
                lengths.append(len(ids))
                if beside is not None:
                    content = np.asarray(marks, dtype=np.uint8).tobytes()
                    assert len(content) == len(ids), "a flag for each token"
                    flags_digest.update(content)
                    beside.write(content)
            for written in (file, beside):
                if written is not None:
                    written.flush()
                    os.fsync(written.fileno())
        np.save(temporary / "offsets.npy", np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
        facts = {
            **meta,
            "format": _FORMAT,
            "dtype": dtype.str,
            "vocab_size": vocab_size,
            "tokens": int(sum(lengths)),
            "documents": len(lengths),
            "tokens_sha256": digest.hexdigest(),
            "offsets_sha256": _hash_file(temporary / "offsets.npy"),
            "boundaries": list(boundaries),
            "flags_sha256": flags_digest.hexdigest() if boundaries else None,
        }
        (temporary / "meta.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
        _replace_folder(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def tokenize(corpus: Corpus, tokenizer: Tokenizer) -> TokenDocuments:
    """The corpus's tokens, from the cache where text and tokenizer are known, else made and cached.

    A cached folder that does not verify is made again. No begin or end tokens: objectives put those.

    Raises:
        UserError: the cache cannot be written.
    """
    key = hash_documents([str(_FORMAT), corpus.hash, tokenizer.hash])
    folder = cache_dir() / "tokens" / key
    if folder.is_dir():
        with contextlib.suppress(UserError):
            return TokenDocuments.open(folder)
    facts = {"text_sha256": corpus.hash, "tokenizer": tokenizer.hash, "text_bytes": corpus.bytes}
    try:
        write_shards(
            folder, _encode(corpus, tokenizer), vocab_size=tokenizer.vocabulary.size, boundaries=tuple(BITS), **facts
        )  # fmt: skip
    except OSError as error:
        raise UserError(
            f"{folder}: tokens cannot be written ({error.strerror or error}).",
            "Free some space, or set ASSAY_CACHE to a folder that can be written.",
        ) from None
    return TokenDocuments.open(folder)


def _encode(corpus: Corpus, tokenizer: Tokenizer) -> Iterator[tuple[Ints, NDArray[np.uint8]]]:
    """Every document's ids and flags."""
    block: list[str] = []
    waiting = 0
    for document in corpus.documents:
        block.append(document)
        waiting += len(document)
        if waiting >= _BLOCK:
            yield from _encoded(block, tokenizer)
            block, waiting = [], 0
    yield from _encoded(block, tokenizer)


def _encoded(block: Sequence[str], tokenizer: Tokenizer) -> Iterator[tuple[Ints, NDArray[np.uint8]]]:
    for text, ids in zip(block, tokenizer.encode_batch(block), strict=True):
        yield ids, flags(text, tokenizer.lengths(ids))


_TYPES = ("<u2", "<u4")
"""Types of ids, as `write_shards` names them."""


def _one_of(value: object, known: Iterable[str]) -> str:
    if isinstance(value, str) and value in known:
        return value
    raise ValueError(f"{value!r} is none of {', '.join(known)}")


def _offsets(path: Path, total: int) -> Ints:
    """The borders of documents in `total` tokens, ascending from 0. A file of numpy's own form is all that is read:
    `np.load` would open archives and objects too, and its header's reader evaluates Python's syntax.

    Raises:
        ValueError: something else.
    """
    content = path.read_bytes()
    head = 10 + int.from_bytes(content[8:10], "little")
    said = content[10:head].decode("latin1")
    count = (len(content) - head) // 8
    if (
        content[:8] != b"\x93NUMPY\x01\x00"
        or f"'descr': '<i8', 'fortran_order': False, 'shape': ({count},)" not in said
    ):
        raise ValueError(f"{path.name} is no list of offsets")
    offsets = np.frombuffer(content, np.int64, count, head)
    if not count or offsets[0] != 0 or offsets[-1] != total or (np.diff(offsets) < 0).any():
        raise ValueError(f"{path.name} does not cut {total} tokens into documents")
    return offsets


def _hash_file(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _replace_folder(new: Path, folder: Path) -> None:
    """Put `new` in the place of `folder`, unless another process was faster and wrote the same."""
    for _ in range(5):
        try:
            os.rename(new, folder)
            return
        except OSError:
            if not folder.is_dir():
                raise
        try:
            there = TokenDocuments.open(folder).meta
        except UserError:
            there = {}
        ours = json.loads((new / "meta.json").read_bytes())
        if there == ours:
            shutil.rmtree(new, ignore_errors=True)
            return
        old = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.old."))
        with contextlib.suppress(OSError):
            os.rename(folder, old / "out")
        shutil.rmtree(old, ignore_errors=True)
    raise OSError(f"{folder} cannot be replaced")
