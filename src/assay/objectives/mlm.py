"""BERT's masked language modelling (Devlin et al. 2019, section 3.1 and `create_pretraining_data.py`; K3).

max(1, round(15% of n)) tokens are chosen; of these 80% become the mask token, 10% a random token that stands for text,
10% stay; each is predicted at its own position. With whole words, words are chosen in random order, all of a word or
nothing, and a word that would exceed the number is passed over. `bos` and `eos` (BERT's [CLS] and [SEP]) surround
the text and are never chosen.

In decoders the masked LM of Wang et al. 2022 is T5's span corruption: the text with sentinels is read (in a prefix
decoder bidirectionally), the spans follow and alone are predicted. See `span_corruption.py`; the registry says who
gets which.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from typing_extensions import override

from assay.objectives.bart import shuffled
from assay.objectives.base import Ints, Lengths, Made, Sizes, Vocabulary
from assay.objectives.draws import offsets, owners, subsets
from assay.objectives.ragged import Examples, Pool, Texts, compose

__all__ = ["MLM"]

_CHOSEN, _FATE, _WORDS = range(41, 44)


@dataclass(frozen=True)
class MLM(Made):
    """BERT's masked LM, for encoders."""

    family: str
    vocabulary: Vocabulary
    density: float = 0.15
    """Share of the tokens that are predicted."""
    whole_word: bool = False
    """Choose words instead of tokens."""
    shortest: int = 1
    """Raw tokens that an example needs."""

    @property
    @override
    def needs(self) -> frozenset[str]:
        """Words, where they are chosen whole."""
        return frozenset({"words"}) if self.whole_word else frozenset()

    @cached_property
    def _text_ids(self) -> Ints:
        """Ids that stand for text: what a random token is drawn from."""
        v = self.vocabulary
        given = (v.pad, v.bos, v.eos, v.decoder_start, v.mask, *v.named.values(), *v.sentinels)
        return np.setdiff1d(np.arange(v.size), [t for t in given if t is not None])

    @override
    def examples(self, texts: Texts) -> Examples:
        """Texts with some tokens hidden, and these tokens."""
        v = self.vocabulary
        assert v.mask is not None, "masked LM needs a mask token"
        budget = np.maximum(np.round(self.density * texts.lengths), 1).astype(np.int64)
        if self.whole_word:
            assert texts.words is not None, "whole words need the texts' word flags"
            chosen = _whole_words(texts, budget)
        else:
            chosen = subsets(texts.lengths, budget, texts.draws(_CHOSEN))
        where = np.flatnonzero(chosen)
        counts = np.bincount(owners(texts.lengths)[where], minlength=len(texts))
        shown = np.asarray(texts.tokens, dtype=np.int64).copy()
        fate = texts.draws(_FATE).uniform(2 * counts).reshape(-1, 2)
        shown[where[fate[:, 0] < 0.8]] = v.mask
        random = (fate[:, 0] >= 0.8) & (fate[:, 0] < 0.9)
        shown[where[random]] = self._text_ids[(fate[random, 1] * len(self._text_ids)).astype(np.int64)]
        none = np.zeros_like(counts)
        begin, end = int(v.bos is not None), int(v.eos is not None)
        rows, totals = [], texts.lengths + self._extra
        for tokens in (shown, texts.tokens):
            pool = Pool(tokens, v)
            row = (texts.offsets[:-1], texts.lengths)
            rows.append(compose(none, [(pool[v.bos], begin), row], [], [(pool[v.eos], end)]).of(pool.tokens))
        weights = np.zeros(len(rows[0]), dtype=np.float32)
        weights[where + np.repeat(offsets(totals)[:-1] - texts.offsets[:-1] + begin, counts)] = 1
        return Examples(rows[0], totals, rows[1], weights, none)

    def raw_length(self, capacity: Lengths, *, ends: bool = False, mode: int = 0) -> int:
        """Raw tokens that fill a row."""
        return capacity.inputs - self._extra

    def decoder_length(self, length: int) -> None:
        """None: there is one stack."""
        return None

    def sizes(self, raw: Ints, ends: Ints, documents: Ints, *, seed: int, epoch: int) -> Sizes:
        """Positions of each piece."""
        return Sizes(raw + self._extra)

    @property
    def _extra(self) -> int:
        return (self.vocabulary.bos is not None) + (self.vocabulary.eos is not None)


def _whole_words(texts: Texts, budget: Ints) -> np.ndarray:
    """[total] bool: tokens of words taken in random order while they fit into the budget."""
    assert texts.words is not None
    first = texts.words.astype(bool, copy=True)
    first[texts.offsets[:-1][texts.lengths > 0]] = True
    starts = np.flatnonzero(first)
    lengths = np.diff(starts, append=len(first))
    counts = np.diff(np.searchsorted(starts, texts.offsets))
    order = shuffled(counts, texts.draws(_WORDS))
    owner, room = owners(counts)[order], budget.copy()
    chosen = np.zeros(len(starts), dtype=bool)
    while True:
        fits = lengths[order] <= room[owner]  # room only shrinks: a word that does not fit now never will
        order, owner = order[fits], owner[fits]
        if not len(order):
            break
        size = lengths[order]
        total = np.cumsum(size)
        head = np.flatnonzero(np.diff(owner, prepend=-1))
        passed = np.repeat(total[head] - size[head], np.diff(head, append=len(owner)))
        take = total - passed <= room[owner]
        chosen[order[take]] = True
        room = room - np.bincount(owner[take], size[take], len(room)).astype(np.int64)
        order, owner = order[~take], owner[~take]
    return np.repeat(chosen, lengths)
