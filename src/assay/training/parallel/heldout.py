"""Held-out measures on several ranks: each measures its share, all get the whole.

Where weights are cut, blocks are gathered as a pass reaches them, so every rank must make as many passes: those with
fewer windows make some for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from assay.data.batch import Batch
from assay.data.windows import Window
from assay.evaluation.continuation import Continuation, continuation
from assay.evaluation.masked import Masked, masked
from assay.objectives.base import Vocabulary
from assay.training.parallel.team import Team

__all__ = ["continuation_together", "masked_together"]

SIZE = 16
"""Windows of a pass."""


def continuation_together(
    team: Team, windows: Sequence[Window], vocabulary: Vocabulary, precision: AbstractContextManager[Any]
) -> Continuation:
    """`evaluation.continuation` over all ranks: rank r measures windows r, r + ranks ...

    Args:
        team: the model and its ranks.
        windows: all of them, the same on every rank.
        vocabulary: the tokenizer's.
        precision: an autocast context.
    """
    rank, ranks = team.world.rank, team.world.size
    mine = windows[rank::ranks]
    passes = math.ceil(math.ceil(len(windows) / ranks) / SIZE)
    found = None
    with precision, team.gathering():
        if mine:
            found = continuation(team.model, mine, vocabulary, batch_size=SIZE)
        for _ in range(passes - math.ceil(len(mine) / SIZE)):
            continuation(team.model, windows[:1], vocabulary)
    parts = team.world.together(lambda: found)
    return merge(parts, len(windows))


def merge(parts: Sequence[Continuation | None], count: int) -> Continuation:
    """One measure from the ranks' own.

    Args:
        parts: by rank; None of a rank without windows.
        count: windows of all ranks.
    """
    nats, sizes, tokens = np.zeros(count), np.zeros(count, dtype=np.int64), 0
    sums: dict[float, tuple[float, float]] = {}
    for rank, part in enumerate(parts):
        if part is None:
            continue
        nats[rank :: len(parts)], sizes[rank :: len(parts)] = part.nats, part.bytes
        tokens += part.tokens
        for start, mean, number in part.by_position:
            before = sums.get(start, (0.0, 0))
            sums[start] = before[0] + mean * number, before[1] + number
    return Continuation(nats, sizes, tokens, [[start, s / n, n] for start, (s, n) in sorted(sums.items())])


def masked_together(team: Team, batches: Sequence[Batch], precision: AbstractContextManager[Any]) -> Masked:
    """`evaluation.masked` over all ranks: rank r measures batches r, r + ranks ...

    Args:
        team: the model and its ranks.
        batches: all of them, the same on every rank.
        precision: an autocast context.
    """
    rank, ranks = team.world.rank, team.world.size
    mine = batches[rank::ranks]
    found = None
    with precision, team.gathering():
        if mine:
            found = masked(team.model, mine)
        for _ in range(math.ceil(len(batches) / ranks) - len(mine)):
            masked(team.model, batches[:1])
    parts = team.world.together(lambda: found)
    # Back into the batches' own order.
    ends = [iter(np.split(p.nats, np.cumsum([b.target_count for b in batches[r::ranks]])[:-1]) if p else ())
            for r, p in enumerate(parts)]  # fmt: skip
    return Masked(np.concatenate([next(ends[number % ranks]) for number in range(len(batches))]))
