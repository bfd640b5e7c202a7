"""Random numbers by address: a function of (seed, epoch, document, stream, index), for many documents at once.

A generator object per document would cost more than everything else that an objective does. Here number k of a
document's stream is SplitMix64's output for state `hash(seed, epoch, document, stream) + k * gamma` (Steele et al.
2014), so it does not matter which other documents are asked for, nor how many numbers were drawn before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Draws", "draws", "halves", "mixed", "offsets", "owners", "subsets", "within"]

Ints = NDArray[Any]
_U64 = np.uint64
_MASK64 = (1 << 64) - 1
_GAMMA = _U64(0x9E3779B97F4A7C15)


def offsets(lengths: Ints) -> Ints:
    """[n + 1] where each of n stretches begins when they lie side by side; the last entry is the total."""
    found = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=found[1:])
    return found


def within(lengths: Ints) -> Ints:
    """[total] 0, 1, 2 ... within each of the stretches."""
    begin = offsets(lengths)
    return np.arange(begin[-1]) - np.repeat(begin[:-1], lengths)


def halves(first: Ints, lengths: Ints, values: NDArray[Any]) -> NDArray[Any]:
    """[total] `values[0]` in the first places of each stretch, as many as `first` says, and `values[1]` behind them."""
    first = np.minimum(first, lengths)
    return np.repeat(np.tile(values, len(lengths)), np.stack((first, lengths - first), axis=1).ravel())


def owners(lengths: Ints) -> Ints:
    """[total] which stretch each place belongs to."""
    return np.repeat(np.arange(len(lengths)), lengths)


def mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser; the array is changed in place. Arrays wrap round silently, as meant."""
    x ^= x >> _U64(30)
    x *= _U64(0xBF58476D1CE4E5B9)
    x ^= x >> _U64(27)
    x *= _U64(0x94D049BB133111EB)
    x ^= x >> _U64(31)
    return x


@dataclass(frozen=True, eq=False)
class Draws:
    """Streams of several documents, one each."""

    state: NDArray[np.uint64]
    """[n] where each stream begins."""

    def __getitem__(self, chosen: Any) -> Draws:
        return Draws(self.state[chosen])

    def first(self, index: int = 0) -> NDArray[np.float64]:
        """[n] number `index` of each stream, uniform in [0, 1)."""
        return _unit(self.state + _U64((index + 1) * int(_GAMMA) & _MASK64))

    @staticmethod
    def next(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Where other streams begin, one for each of these."""
        return mixed(state ^ _U64(0xA0761D6478BD642F))

    def uniform(self, counts: Ints, start: Ints | None = None) -> NDArray[np.float64]:
        """[sum of counts] numbers start, start + 1 ... of each stream (from 0 where no start is given)."""
        index = within(counts).astype(_U64)
        index += _U64(1)
        if start is not None:
            index += np.repeat(start.astype(_U64), counts)
        index *= _GAMMA
        index += np.repeat(self.state, counts)
        return _unit(index)


def draws(seed: int, epoch: int, documents: ArrayLike, stream: int) -> Draws:
    """The streams with a number of several documents."""
    state = _mixed_int(seed + stream * 0xD1342543DE82EF95 + int(_GAMMA))
    state = _mixed_int(state ^ (epoch & _MASK64)) + int(_GAMMA)
    numbers = np.atleast_1d(np.asarray(documents)).astype(_U64)
    return Draws(mixed(mixed(numbers * _GAMMA) ^ _U64(_mixed_int(state))))


def _mixed_int(x: int) -> int:
    """`mixed` for one number."""
    x &= _MASK64
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & _MASK64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & _MASK64
    return x ^ (x >> 31)


def subsets(items: Ints, chosen: Ints, streams: Draws, *, lead: bool = False) -> NDArray[np.bool_]:
    """For each document a table of `items` places with `chosen` of them True, all such subsets equally likely.

    Places are drawn with repetition until enough different ones are found; which set that is does not depend on
    the order of the places, so none is favoured. Where more than half are chosen, the others are drawn.

    Args:
        items: [n] places of each document.
        chosen: [n] how many to choose, 0 ... items.
        streams: a stream each.
        lead: each document gets one place more, in front, which is True.

    Returns:
        [sum of items (+ n)] the tables side by side.
    """
    extra = int(lead)
    begin = offsets(items + extra)
    total = int(begin[-1])
    begin = begin[:-1] + extra
    table = np.zeros(total, dtype=bool)
    flip = 2 * chosen > items
    missing = np.where(flip, items - chosen, chosen)
    used = np.zeros(len(items), dtype=np.int64)
    winner = np.empty(total, dtype=np.int32)
    live = np.flatnonzero(missing)
    while len(live):
        lack = missing[live]
        counts = lack + lack * lack // items[live] + 2
        places = streams[live].uniform(counts, used[live])
        places *= np.repeat(items[live], counts)
        flat = places.astype(np.int64)
        flat += np.repeat(begin[live], counts)
        index = np.arange(len(flat), dtype=np.int32)
        winner[flat[::-1]] = index[::-1]  # the first to draw a place has it: the last to write wins
        new = winner[flat] == index
        new &= ~table[flat]
        rank = np.cumsum(new)
        ends = np.cumsum(counts)
        before = np.where(ends > counts, rank[ends - counts - 1], 0)
        new &= rank <= np.repeat(before + lack, counts)
        table[flat[new]] = True
        found = np.minimum(rank[ends - 1] - before, lack)
        used[live] += counts
        missing[live] -= found
        live = live[found < lack]
    if flip.any():
        table ^= np.repeat(flip, items + extra)
    if lead:
        table[begin - 1] = True
    return table


def _unit(x: NDArray[np.uint64]) -> NDArray[np.float64]:
    x = mixed(x)
    x >>= _U64(11)
    return x.astype(np.float64) * 2.0**-53
