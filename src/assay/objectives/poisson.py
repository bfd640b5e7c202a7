"""Spans whose lengths are Poisson, drawn until they cover a budget: what BART and GLM share."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from assay.objectives.base import Ints
from assay.objectives.draws import Draws, offsets

__all__ = ["most_spans", "poisson", "spans_covering"]

_WIDTH = 3.5
"""Standard deviations of the number of spans beyond which the spans are drawn again."""


@lru_cache(maxsize=32)
def _cumulative(mean: float, least: int) -> NDArray[np.float64]:
    top = int(mean + 12 * math.sqrt(mean) + 20)
    logs = [k * math.log(mean) - mean - math.lgamma(k + 1) for k in range(top)]
    chances = np.exp(np.array(logs))
    chances[:least] = 0
    return np.cumsum(chances) / chances.sum()


def poisson(uniform: NDArray[np.float64], mean: float, least: int = 0) -> Ints:
    """Poisson numbers with this mean, given to be at least `least`, from uniform ones (inverse of the CDF)."""
    return np.searchsorted(_cumulative(mean, least), uniform, side="right")


@lru_cache(maxsize=32)
def _moments(mean: float, least: int) -> tuple[float, float]:
    chances = np.diff(_cumulative(mean, least), prepend=0)
    k = np.arange(len(chances))
    first = float((chances * k).sum())
    return first, float((chances * (k - first) ** 2).sum())


def most_spans(budget: Ints, mean: float, least: int) -> Ints:
    """[n] the largest number of spans that a text with this budget is given.

    About 1 text in 2,000 draws more and draws again: so what fits into a row is known beforehand. The number of
    lengths that it takes to cover b is about b / mean +- sqrt(b variance / mean^3) (renewal theory).
    """
    average, variance = _moments(mean, least)
    spread = np.sqrt(budget * variance / average**3)
    return np.where(budget > 0, np.ceil(budget / average + 1 + _WIDTH * spread), 0).astype(np.int64)


def _drawn(budget: Ints, streams: Draws, mean: float, least: int) -> tuple[Ints, Ints, Ints]:
    """(how many, their lengths, what each length adds to) until the sum reaches the budget."""
    guess = most_spans(budget, mean, least) + 2
    while True:
        counts = np.where(budget > 0, guess, 0)
        lengths = poisson(streams.uniform(counts), mean, least)
        begin = offsets(counts)
        total = np.concatenate([[0], np.cumsum(lengths)])
        before = total[:-1] - np.repeat(total[begin[:-1]], counts)
        if (total[begin[1:]] - total[begin[:-1]] >= budget).all():
            break
        guess = 2 * guess  # rare; the first numbers of a stream stay what they were
    wanted = before < np.repeat(budget, counts)
    passed = np.concatenate([[0], np.cumsum(wanted)])
    return passed[begin[1:]] - passed[begin[:-1]], lengths[wanted], before[wanted]


def spans_covering(budget: Ints, streams: Draws, mean: float, least: int) -> tuple[Ints, Ints, Ints]:
    """For each text, span lengths drawn one by one until their sum reaches its budget.

    Args:
        budget: [n] tokens to cover; 0: no spans.
        streams: one each; a text that would get more than `most_spans` draws again from a stream that follows.
        mean, least: of the Poisson distribution.

    Returns:
        counts [n] of spans; their lengths, the last of each not trimmed to the budget; what the lengths before each
        sum to. Both flat.
    """
    most = most_spans(budget, mean, least)
    found = _drawn(budget, streams, mean, least)
    over = np.flatnonzero(found[0] > most)
    if not len(over):
        return found
    state = streams.state.copy()
    while len(over):
        state[over] = streams.next(state[over])
        counts = _drawn(budget[over], Draws(state[over]), mean, least)[0]
        over = over[counts > most[over]]
    return _drawn(budget, Draws(state), mean, least)
