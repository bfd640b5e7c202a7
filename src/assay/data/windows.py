"""Continuation windows: the one measure that every family and tokenizer has, *continuation bits per byte*.

The rule: held-out windows of 1,024 bytes cut at white space, halves tokenised apart, no end token; bits on
the second half over its bytes. A cut lies before a white-space character, so a half may begin with one.
Texts without white space are cut at a character.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from assay.data.batch import Batch, assemble
from assay.data.corpus import Corpus
from assay.data.tokenizer import Tokenizer
from assay.errors import UserError
from assay.objectives.base import Example, Ints, Lengths, Vocabulary, decoder_only, encoder_decoder, join

__all__ = ["SIZE", "Window", "WindowBatch", "cut_windows", "window_batches", "window_lengths", "windows"]

SIZE = 1024
"""Bytes of a window."""

_STEP = 64
"""Rows are padded to multiples of this, so that there are few shapes."""


@dataclass(frozen=True, eq=False)
class Window:
    """One window as tokens: the first half is given, the second is predicted."""

    prefix_ids: Ints
    """[p] int32, without a begin token."""
    continuation_ids: Ints
    """[c] int32, without an end token."""
    continuation_bytes: int
    """Bytes of the second half: what bits are divided by."""
    byte_offsets: Ints
    """[c] int64: the byte of the second half at which each token begins."""


@dataclass(frozen=True, eq=False)
class WindowBatch:
    """A batch of windows, one a row, and where in its continuation each target lies."""

    batch: Batch
    """Weights are 1 on the continuation's tokens alone."""
    offsets: Ints
    """[B, S] ([B, T] with a decoder), as `batch.targets`: 0, 1 ... along the continuation; -1 elsewhere."""
    byte_offsets: Ints
    """The same in bytes: where in the continuation the target begins; -1 elsewhere."""
    windows: Ints
    """[B] which window each row is."""
    continuation_bytes: Ints
    """[B] bytes of each continuation."""


def cut_windows(text: str, size: int = SIZE) -> list[tuple[str, str]]:
    """The text's windows as (first half, second half), one after the other; what is left over is dropped.

    A window reaches from where the last one ended to the last white space within `size` bytes, its first half
    to the last white space within size / 2. Without any, the cut is at the last whole character.
    """
    content = text.encode("utf-8")
    spaces = np.array([match.start() for match in re.finditer(rb"[ \t\n\r\f\v]", content)], dtype=np.int64)
    found = []
    begin = 0
    while begin + size <= len(content):
        end = _cut(content, spaces, begin, begin + size)
        middle = _cut(content, spaces, begin, begin + size // 2)
        found.append((content[begin:middle].decode(), content[middle:end].decode()))
        begin = end
    return found


def _cut(content: bytes, spaces: Ints, begin: int, limit: int) -> int:
    """The last cut in (begin, limit]: before white space, else between characters."""
    if limit == len(content):
        return limit
    index = int(np.searchsorted(spaces, limit, side="right")) - 1
    # A cut at the beginning would leave nothing; one in the first half of the stretch wastes most of it.
    if index >= 0 and spaces[index] > begin + (limit - begin) // 2:
        return int(spaces[index])
    while content[limit] & 0xC0 == 0x80:  # inside a character
        limit -= 1
    return limit


def windows(corpus: Corpus, tokenizer: Tokenizer, *, count: int | None = None, size: int = SIZE) -> list[Window]:
    """The windows of a held-out corpus, tokenised.

    Args:
        corpus: held-out text.
        tokenizer: encodes each half by itself.
        count: take this many at most, chosen by the hash of their text; None: all.
        size: bytes of a window.

    Raises:
        UserError: no document is as long as a window.
    """
    halves = [pair for document in corpus.documents for pair in cut_windows(document, size)]
    if not halves:
        longest = max((len(document.encode()) for document in corpus.documents), default=0)
        raise UserError(
            f"{corpus.source}: the longest held-out document has {longest} bytes, and a window has {size}.",
            f"Give more text: about {10 * size:,} bytes in one document, or longer documents.",
        )
    if count is not None and count < len(halves):
        digests = [hashlib.sha256("".join(pair).encode()).digest() for pair in halves]
        by_hash = sorted(range(len(halves)), key=lambda index: digests[index])
        halves = [halves[index] for index in sorted(by_hash[:count])]
    first = tokenizer.encode_batch([first for first, _ in halves])
    second = tokenizer.encode_batch([second for _, second in halves])
    return [
        Window(prefix, ids, len(text.encode()), np.cumsum(sizes) - sizes)
        for prefix, ids, (_, text) in zip(first, second, halves, strict=True)
        if len(sizes := tokenizer.lengths(ids))
    ]


def window_lengths(given: Sequence[Window], family: str, vocabulary: Vocabulary) -> Lengths:
    """The row's positions that hold every window."""
    if family == "encoder_decoder":
        return Lengths(max(len(w.prefix_ids) for w in given), max(len(w.continuation_ids) for w in given))
    extra = (vocabulary.bos is not None) - 1
    return Lengths(max(len(w.prefix_ids) + len(w.continuation_ids) for w in given) + extra)


def window_batches(
    given: Sequence[Window],
    family: str,
    vocabulary: Vocabulary,
    *,
    batch_size: int,
    lengths: Lengths | None = None,
) -> Iterator[WindowBatch]:
    """Windows as batches, one a row; the last batch may have fewer rows.

    causal: the mask is causal throughout. prefix: the first half (and the begin token) is the prefix.
    encoder_decoder: the first half goes to the encoder, the second to the decoder behind its start token.

    Args:
        given: the windows.
        family: causal, prefix or encoder_decoder.
        vocabulary: the tokenizer's.
        batch_size: rows of a batch.
        lengths: the row's positions, with the windows in their order. None: the windows come in the order of
            their lengths, and each batch is as long as it must be, in steps of 64,
            never longer than `window_lengths` of all.

    Raises:
        UserError: a family that does not continue text, or lengths that a window does not fit into.
    """
    if family not in ("causal", "prefix", "encoder_decoder"):
        raise UserError(
            f"family = {family}: it does not continue text, so it has no continuation bits per byte.",
            "Take causal, prefix or encoder_decoder.",
        )
    needed = window_lengths(given, family, vocabulary)
    if lengths is not None and (needed.inputs > lengths.inputs or (needed.decoder or 0) > (lengths.decoder or 0)):
        raise UserError(
            f"length = {tuple(n for n in lengths if n is not None)}: the longest window needs "
            f"{tuple(n for n in needed if n is not None)} positions.",
            "Give a larger length, or a larger vocabulary.",
        )
    order = list(range(len(given)))
    if lengths is None:
        order.sort(key=lambda i: len(given[i].prefix_ids) + len(given[i].continuation_ids))
    for begin in range(0, len(given), batch_size):
        numbers = order[begin : begin + batch_size]
        chosen = [given[number] for number in numbers]
        room = lengths or _rounded(window_lengths(chosen, family, vocabulary), needed)
        yield _batch(chosen, numbers, family, vocabulary, room)


def _batch(
    chosen: Sequence[Window], numbers: list[int], family: str, vocabulary: Vocabulary, lengths: Lengths
) -> WindowBatch:
    rows = [[_example(window, family, vocabulary)] for window in chosen]
    batch = assemble(rows, lengths, family, vocabulary)
    targets = batch.weights > 0
    offsets = np.full(targets.shape, -1, dtype=np.int64)
    byte_offsets = offsets.copy()
    offsets[targets] = np.concatenate([np.arange(len(w.continuation_ids)) for w in chosen])
    byte_offsets[targets] = np.concatenate([w.byte_offsets for w in chosen])
    sizes = np.array([window.continuation_bytes for window in chosen])
    return WindowBatch(batch, offsets, byte_offsets, np.array(numbers), sizes)


def _rounded(lengths: Lengths, longest: Lengths) -> Lengths:
    """Up to a multiple of the step, never beyond what the longest window needs."""
    up = [
        None if n is None else min(-(-n // _STEP) * _STEP, most or n) for n, most in zip(lengths, longest, strict=True)
    ]
    assert up[0] is not None
    return Lengths(up[0], up[1])


def _example(window: Window, family: str, vocabulary: Vocabulary) -> Example:
    if family == "encoder_decoder":
        return encoder_decoder(join(window.prefix_ids), join(window.continuation_ids), vocabulary)
    sequence = join(vocabulary.bos, window.prefix_ids, window.continuation_ids)
    length = len(sequence) - len(window.continuation_ids)
    return decoder_only(sequence, prefix=length if family == "prefix" else 0, first=length - 1)
