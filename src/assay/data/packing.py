"""Which pieces of which documents lie in which row.

Documents are cut into pieces, one example each. Rows are packed from the pieces' lengths alone: the largest
first, then what fits best (with one length: first fit in decreasing order, Johnson 1974; with an encoder and
a decoder side: the norm-based greedy of vector packing, Panigrahy et al. 2011). It works on a histogram of
lengths instead of single pieces (Krell et al. 2021), so its time depends on how many lengths there are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assay.objectives.base import Ints, Lengths, Sizes
from assay.objectives.draws import offsets, within

__all__ = ["Pieces", "Rows", "cut", "cut_to_fit", "pack"]


@dataclass(frozen=True, eq=False)
class Pieces:
    """Stretches of documents, one example each; arrays [pieces]. Pieces of full length come first."""

    document: Ints
    """Index of the document."""
    start: Ints
    """First token in the document."""
    length: Ints
    """Raw tokens."""
    ends: NDArray[np.bool_]
    """The document ends with this piece."""
    number: Ints
    """What the piece's chance is drawn by."""

    def __len__(self) -> int:
        return len(self.document)


def cut(lengths: Ints, *, full: int, last: int, shortest: int) -> Pieces:
    """Cut documents into consecutive pieces that cover them; documents shorter than `shortest` are left out.

    Args:
        lengths: [documents] raw tokens.
        full: tokens of a piece in the middle of a document.
        last: most tokens of a piece that ends its document (`full`, or less where an end token follows).
        shortest: least tokens of a piece; the piece before the last gives some up where the last had fewer.
    """
    assert full >= last >= 2 * shortest >= 2, "a row is too short to cut documents for"
    documents = np.flatnonzero(lengths >= shortest)
    lengths = np.asarray(lengths)[documents]
    middle = np.maximum(0, -((last - lengths) // full))  # ceil((lengths - last) / full)
    rest = lengths - middle * full
    given = np.where(middle > 0, np.maximum(0, shortest - rest), 0)
    counts = middle + 1
    owner = np.repeat(np.arange(len(documents)), counts)
    number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    ends = number == middle[owner]
    length = np.where(ends, (rest + given)[owner], full)
    length = length - np.where(number == middle[owner] - 1, given[owner], 0)
    start = number * full - np.where(ends, given[owner], 0)
    order = np.argsort(length != full, kind="stable")
    return Pieces(documents[owner][order], start[order], length[order], ends[order], np.arange(len(order)))


def cut_to_fit(lengths: Ints, *, least: int, shortest: int, fitting: Callable[[Ints], Ints]) -> Pieces:
    """Cut documents where pieces may take different lengths of text: each is as long as it may be.

    That depends on a piece's number, which no other piece ever has: the pieces that a document could have at most are
    numbered, document after document.

    Args:
        lengths: [documents] raw tokens.
        least: what every piece may take.
        shortest: least tokens of a piece; the piece before the last gives some up where the last had fewer.
        fitting: tokens that the pieces with several numbers may take, `least` or more.
    """
    assert least >= 2 * shortest >= 2, "a row is too short to cut documents for"
    documents = np.flatnonzero(lengths >= shortest)
    lengths = np.asarray(lengths)[documents]
    counts = lengths // least + 1
    number, owner, place = np.arange(counts.sum()), np.repeat(np.arange(len(documents)), counts), within(counts)
    room = fitting(number)
    before = np.cumsum(room) - room
    before -= np.repeat(before[offsets(counts)[:-1]], counts) if len(counts) else 0
    real = before < lengths[owner]
    owner, place, number, before, room = (x[real] for x in (owner, place, number, before, room))
    length = np.minimum(room, lengths[owner] - before)
    ends = before + length == lengths[owner]
    given = np.where(ends & (place > 0), np.maximum(0, shortest - length), 0)
    length = length + given - np.append(given[1:], 0)
    order = np.argsort(ends, kind="stable")
    return Pieces(documents[owner][order], (before - given)[order], length[order], ends[order], number[order])


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of pieces: row r holds `pieces[offsets[r] : offsets[r + 1]]`."""

    pieces: Ints
    offsets: Ints

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> Ints:
        return self.pieces[self.offsets[row] : self.offsets[row + 1]]

    @property
    def single(self) -> NDArray[np.bool_]:
        """[rows] True where a row holds one piece."""
        return np.diff(self.offsets) == 1


def pack(sizes: Sizes, capacity: Lengths, order: Ints) -> Rows:
    """Rows that hold every piece once and no more than `capacity` on either side.

    A row begins with the largest piece left, then takes whatever brings it nearest to full (least squared
    room left over both sides) until nothing fits; the same contents serve as many rows as there are pieces.

    Args:
        sizes: positions of each piece.
        capacity: positions of a row.
        order: [pieces] a permutation; among pieces of equal size it decides which goes where.
    """
    inputs = np.asarray(sizes.inputs, dtype=np.int64)
    decoder = np.zeros_like(inputs) if sizes.decoder is None else np.asarray(sizes.decoder, dtype=np.int64)
    room = np.array([capacity.inputs, capacity.decoder or 0])
    if not len(inputs):
        return Rows(np.zeros(0, dtype=np.int64), np.zeros(1, dtype=np.int64))
    assert inputs.max() <= room[0] and decoder.max() <= room[1], "a piece is longer than a row"
    base = int(room[1]) + 1
    codes, kind, counts = np.unique((inputs * base + decoder)[order], return_inverse=True, return_counts=True)
    members = np.split(order[np.argsort(kind, kind="stable")], np.cumsum(counts)[:-1])
    patterns = _patterns(np.stack([codes // base, codes % base], axis=1), counts, room)
    return _expand(patterns, members)


Pattern = tuple[dict[int, int], int]
"""How many pieces of which size a row holds, and how many rows are like that."""


def _patterns(kinds: Ints, counts: Ints, room: Ints) -> list[Pattern]:
    """Contents of rows for `counts` pieces of each size `kinds` [n, 2]."""
    share = kinds / np.maximum(room, 1)
    largest = np.lexsort((share.sum(1), share.max(1)))[::-1]  # the order in which rows are begun
    kinds, counts, share = kinds[largest], counts[largest].copy(), share[largest]
    names, square = largest, (share**2).sum(1)
    patterns: list[Pattern] = []
    while len(kinds):
        content: dict[int, int] = {}
        free, left, chosen = counts.copy(), room.copy(), 0
        while True:
            content[chosen] = content.get(chosen, 0) + 1
            free[chosen] -= 1
            left = left - kinds[chosen]
            fits = (free > 0) & (kinds <= left).all(1)
            if not fits.any():
                break
            # |rest - share|^2 is least where 2 rest . share - |share|^2 is most
            nearness = 2 * (share @ (left / np.maximum(room, 1))) - square
            chosen = int(np.where(fits, nearness, -np.inf).argmax())
        rows = min(int(counts[index]) // number for index, number in content.items())
        patterns.append(({int(names[index]): number for index, number in content.items()}, rows))
        for index, number in content.items():
            counts[index] -= number * rows
        keep = counts > 0
        if not keep[0] or keep.mean() < 0.8:  # rows begin with the first size, so it has to be there
            kinds, counts, names = kinds[keep], counts[keep], names[keep]
            share, square = share[keep], square[keep]
    return patterns


def _expand(patterns: list[Pattern], members: list[Ints]) -> Rows:
    """Rows from patterns: each takes its pieces from the lists of pieces of equal size."""
    taken = [0] * len(members)
    pieces, widths = [], []
    for content, rows in patterns:
        columns = []
        for kind, number in content.items():
            begin = taken[kind]
            taken[kind] += rows * number
            columns.append(members[kind][begin : taken[kind]].reshape(rows, number))
        table = np.concatenate(columns, axis=1)
        pieces.append(table.reshape(-1))
        widths.append(np.full(rows, table.shape[1]))
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(widths))]).astype(np.int64)
    return Rows(np.concatenate(pieces).astype(np.int64), offsets)
