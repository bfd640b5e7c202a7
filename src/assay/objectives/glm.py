"""GLM's blank infilling: spans are blanked, then written one after the other (Du et al. 2022, section 2; K3).

Two kinds of example (Zeng et al. 2022, section 2.2): with [MASK] in 30% of the texts, spans of Poisson(3) tokens (at
least 1) that cover 15% of the text, at least one token between two, each replaced by [MASK] and written in random
order; with [gMASK] in 70%, a suffix of uniform length. The text with its blanks comes first and sees itself whole; each
span follows behind `<sop>` and ends with `<eop>`, and sees the context, the spans before it and itself up to the token.

`<sop>` predicts a span's first token, so unlike in prefix LM the last token of the context predicts nothing.

Positions: with two rows (GLM, ChatGLM-6B) the first counts through the context and stays at the blank's position
through its span, the second is 0 in the context and 1, 2 ... from `<sop>` on. With one row (GLM-130B) it counts on
behind the context with [gMASK] and stays at the blank's position with [MASK].

The 5% of GLM-130B's tokens that were multitask instruction data are out of scope: they are labelled tasks, not an
objective on text.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from typing_extensions import override

from assay.objectives.bart import shuffled
from assay.objectives.base import Ints, Lengths, Made, Sizes, Vocabulary
from assay.objectives.draws import draws, offsets, subsets, within
from assay.objectives.poisson import most_spans, spans_covering
from assay.objectives.ragged import Examples, Pool, Segment, Texts, compose

__all__ = ["GLM"]

_KIND, _LENGTHS, _PLACES, _ORDER, _SUFFIX = range(21, 26)
_BLANKS, _SUFFIXES = 0, 1


@dataclass(frozen=True)
class GLM(Made):
    """Blank infilling, for decoders of one stack: with prefix attention as published, or causal throughout."""

    family: str
    vocabulary: Vocabulary
    density: float = 0.15
    """[MASK]: share of the tokens that the blanks cover."""
    mean_span: float = 3.0
    """[MASK]: mean of the Poisson distribution."""
    gmask: float = 0.7
    """Share of the texts with [gMASK]."""
    axes: int = 2
    """Rows of positions: 2 (GLM) or 1 (GLM-130B)."""
    shortest: int = 2
    """Raw tokens that an example needs: one that stays, one blanked."""

    @property
    @override
    def mode_count(self) -> int:
        """[MASK] and [gMASK]."""
        return 2

    @override
    def modes(self, documents: Ints, *, seed: int, epoch: int) -> Ints:
        """[n] 0: [MASK], 1: [gMASK]."""
        return (draws(seed, epoch, documents, _KIND).first() < self.gmask).astype(np.int64)

    def _budget(self, raw: Ints) -> Ints:
        return np.maximum((self.density * raw).astype(np.int64), 1)

    def _blanks(self, raw: Ints, suffix: Ints, documents: Ints, seed: int, epoch: int) -> tuple[Ints, Ints]:
        """([n] how many spans, [their sum] lengths): one for a suffix, the drawn ones for blanks."""
        budget = self._budget(raw)
        counts, spans, before = spans_covering(budget, draws(seed, epoch, documents, _LENGTHS), self.mean_span, 1)
        rank, own = within(counts), np.repeat(raw, counts)
        room = own - before - rank - 1  # leaves a token for each span up to this one
        spans, keep = np.minimum(spans, room), (room >= 1) & ((rank == 0) | ~np.repeat(suffix, counts))
        counts = np.add.reduceat(keep.astype(np.int64), offsets(counts)[:-1]) if len(raw) else counts
        spans = spans[keep]
        first = offsets(counts)[:-1][suffix]
        drawn = draws(seed, epoch, documents, _SUFFIX).first()
        spans[first] = 1 + (drawn * (raw - 1)).astype(np.int64)[suffix]
        return counts, spans

    @override
    def examples(self, texts: Texts) -> Examples:
        """Contexts with blanks, and the blanks' spans."""
        v = self.vocabulary
        raw, documents = texts.lengths, texts.documents
        suffix = self.modes(documents, seed=texts.seed, epoch=texts.epoch) == _SUFFIXES
        counts, spans = self._blanks(raw, suffix, documents, texts.seed, texts.epoch)
        owner = np.repeat(np.arange(len(texts)), counts)
        # Each span lies before one of the kept tokens or behind the last, no two before the same.
        kept = raw - np.bincount(owner, spans, len(texts)).astype(np.int64)
        table = subsets(kept + 1, np.where(suffix, 0, counts), texts.draws(_PLACES))
        table[(offsets(kept + 1)[:-1] + kept)[suffix]] = True
        place = np.flatnonzero(table) - np.repeat(offsets(kept + 1)[:-1], counts)
        first = within(counts) == 0
        gap = np.where(first, place, np.diff(place, prepend=0))
        last = kept.copy()
        last[counts > 0] -= place[np.cumsum(counts)[counts > 0] - 1]
        earlier = np.cumsum(spans) - spans
        earlier -= np.repeat(earlier[np.cumsum(counts) - counts], counts)
        span_start = np.repeat(texts.offsets[:-1], counts) + place + earlier
        begin = int(v.bos is not None)
        pool = Pool(texts.tokens, v)
        blank = np.where(suffix, pool[v.named["[gMASK]"]], pool[v.named["[MASK]"]])[owner]
        stays: list[Segment] = [(span_start - gap, gap), (blank, 1)]
        end: list[Segment] = [(texts.offsets[1:] - last, last)]
        context, context_lengths = self._rows(pool, counts, [(pool[v.bos], begin)], stays, end)
        order = shuffled(counts, texts.draws(_ORDER))
        span: Segment = (span_start[order], spans[order])
        read, read_lengths = self._rows(pool, counts, [], [(pool[v.named["<sop>"]], 1), span], [])
        written, _ = self._rows(pool, counts, [], [span, (pool[v.named["<eop>"]], 1)], [])
        totals = context_lengths + read_lengths
        counted = within(totals)
        writes = counted >= np.repeat(context_lengths, totals)
        inputs, targets = np.empty(len(writes), dtype=np.int64), np.full(len(writes), v.pad, dtype=np.int64)
        inputs[~writes], inputs[writes], targets[writes] = context, read, written
        hole = np.repeat((begin + place + within(counts))[order], spans[order] + 1)
        positions = counted.copy()
        if self.axes == 2:
            positions[writes] = hole
            second = np.zeros_like(positions)
            second[writes] = within(spans[order] + 1) + 1
            positions = np.stack([positions, second])
        else:
            still = ~np.repeat(suffix[owner], spans[order] + 1)  # a document's spans stay its own in any order
            positions[writes] = np.where(still, hole, positions[writes])
        prefix = context_lengths if self.family == "prefix" else np.zeros_like(context_lengths)
        return Examples(inputs, totals, targets, writes.astype(np.float32), prefix, positions=positions)

    @staticmethod
    def _rows(
        pool: Pool, counts: Ints, lead: list[Segment], body: list[Segment], tail: list[Segment]
    ) -> tuple[Ints, Ints]:
        found = compose(counts, lead, body, tail)
        return found.of(pool.tokens), found.totals

    def raw_length(self, capacity: Lengths, *, ends: bool = False, mode: int = 0) -> int:
        """Raw tokens of the longest text that always fits, with [MASK] (mode 0) or [gMASK] (mode 1)."""
        raw = np.arange(2, max(capacity.inputs, 2) + 1)
        spans = np.ones_like(raw) if mode == _SUFFIXES else most_spans(self._budget(raw), self.mean_span, 1)
        spans = np.minimum(spans, raw // 2)  # a span has a token and leaves one
        fits = raw + 2 * spans + (self.vocabulary.bos is not None) <= capacity.inputs
        return int(raw[fits].max(initial=0))

    def decoder_length(self, length: int) -> None:
        """None: there is one stack."""
        return None

    def sizes(self, raw: Ints, ends: Ints, documents: Ints, *, seed: int, epoch: int) -> Sizes:
        """Positions of each piece: its tokens, a blank and a `<sop>` for each span."""
        suffix = self.modes(documents, seed=seed, epoch=epoch) == _SUFFIXES
        counts = [np.zeros(0, dtype=np.int64)]
        for begin in range(0, len(raw), 1 << 14):  # bounds the memory
            part = slice(begin, begin + (1 << 14))
            counts.append(self._blanks(raw[part], suffix[part], documents[part], seed, epoch)[0])
        return Sizes(raw + 2 * np.concatenate(counts) + (self.vocabulary.bos is not None))
