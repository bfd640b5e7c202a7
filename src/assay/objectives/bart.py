"""BART's noising: the text is damaged, and the whole text is asked for (Lewis et al. 2020, section 2.2; K3).

Five kinds of damage, in any mixture, done in this order:

- sentence permutation: a share of the sentences, in random order (the paper: all of them);
- token masking: a share of the tokens, each replaced by the mask token;
- token deletion: a share of the tokens, gone without a trace;
- text infilling: spans of Poisson(3) tokens that cover a share of the text (the paper: 30%), each replaced by one
  mask token; a span of length 0 inserts a mask. The last span is trimmed so that ceil(share n) tokens are covered,
  as in fairseq's `DenoisingDataset`. Spans and the tokens between them lie in random order, all orders equally
  likely, so spans never overlap (in fairseq they may);
- rotation: with a probability the text begins at a token chosen uniformly, what stood before it follows at the end.

The published mixture is infilling and sentence permutation. The encoder reads the damaged text, the decoder writes the
text; one stack reads both in a row and only the text is predicted. Both parts end with eos. A text whose noised form
would be longer than that of 1,999 in 2,000 (by its number of spans) is drawn again (`poisson.most_spans`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from assay.objectives.base import Ints, Lengths, Made, Sizes, Vocabulary
from assay.objectives.draws import Draws, draws, offsets, owners, subsets
from assay.objectives.poisson import most_spans, spans_covering
from assay.objectives.ragged import Examples, Pool, Texts, arrange, compose, gather

__all__ = ["Bart", "covered", "permuted_sentences", "shuffled"]

_SENTENCES, _ORDER, _MASKED, _DELETED, _LENGTHS, _SHUFFLE, _PLACES, _ROTATE = range(11, 19)


def shuffled(counts: Ints, streams: Draws) -> Ints:
    """[sum of counts] a permutation that moves places within each stretch only."""
    return np.argsort(owners(counts) + streams.uniform(counts), kind="stable")


def covered(length: Ints, share: float) -> Ints:
    """How many tokens a share of a text is: ceil(share n), as in fairseq."""
    return np.ceil(np.round(share * length, 9)).astype(np.int64)


def permuted_sentences(texts: Texts, share: float) -> Ints:
    """[total] the tokens with a share of each text's sentences in random order among themselves.

    ceil(share s) of s sentences take part. Text before the first flag is a sentence; without flags the text is one.
    """
    if texts.sentences is None:
        return texts.tokens
    first = texts.sentences.astype(bool, copy=True)
    first[texts.offsets[:-1][texts.lengths > 0]] = True
    starts = np.flatnonzero(first)
    lengths = np.diff(starts, append=len(first))
    counts = np.diff(np.searchsorted(starts, texts.offsets))
    order = np.arange(len(starts))
    chosen = covered(counts, share)
    if (chosen == counts).all():
        order = shuffled(counts, texts.draws(_ORDER))
    else:
        taking = np.flatnonzero(subsets(counts, chosen, texts.draws(_SENTENCES)))
        order[taking] = taking[shuffled(chosen, texts.draws(_ORDER))]
    return gather(texts.tokens, starts[order], lengths[order])


@dataclass(frozen=True)
class Bart(Made):
    """BART noising, for encoder-decoders (as published) and for decoders of one stack."""

    family: str
    vocabulary: Vocabulary
    infilling: float = 0.3
    """Share of the tokens that spans cover; 0: no infilling."""
    mean_span: float = 3.0
    """Mean of the Poisson distribution of span lengths."""
    permutation: float = 1.0
    """Share of the sentences that change places."""
    masking: float = 0.0
    """Share of the tokens that are masked one by one."""
    deletion: float = 0.0
    """Share of the tokens that are deleted."""
    rotation: float = 0.0
    """Probability that a text is rotated."""
    shortest: int = 2
    """Raw tokens that an example needs."""

    @property
    @override
    def needs(self) -> frozenset[str]:
        """Sentences, where they are permuted."""
        return frozenset({"sentences"}) if self.permutation else frozenset()

    @property
    def _mask(self) -> int:
        assert self.vocabulary.mask is not None, "noising needs a mask token"
        return self.vocabulary.mask

    @override
    def examples(self, texts: Texts) -> Examples:
        """Damaged texts, and the texts."""
        v = self.vocabulary
        noised, lengths = self._noised(texts)
        pool, none = Pool(np.concatenate([noised, texts.tokens]), v), np.zeros_like(lengths)
        end = (pool[v.eos], int(v.eos is not None))
        inputs = compose(none, [(offsets(lengths)[:-1], lengths)], [], [end])
        targets = compose(none, [(len(noised) + texts.offsets[:-1], texts.lengths)], [], [end])
        return arrange(self.family, v, pool, inputs, targets)

    def _noised(self, texts: Texts) -> tuple[Ints, Ints]:
        """The damaged texts side by side and their lengths."""
        tokens, lengths = texts.tokens, texts.lengths
        if self.permutation:
            tokens = permuted_sentences(texts, self.permutation)
        if self.masking:
            masked = subsets(lengths, covered(lengths, self.masking), texts.draws(_MASKED))
            tokens = np.where(masked, self._mask, tokens)
        if self.deletion:
            gone = self._deleted(lengths)
            tokens = tokens[~subsets(lengths, gone, texts.draws(_DELETED))]
            lengths = lengths - gone
        if self.infilling:
            tokens, lengths = self._infilled(tokens, lengths, texts)
        if self.rotation:
            tokens = self._rotated(tokens, lengths, texts)
        return tokens, lengths

    def _deleted(self, lengths: Ints) -> Ints:
        return np.minimum(covered(lengths, self.deletion), lengths - 1)

    def _infilled(self, tokens: Ints, lengths: Ints, texts: Texts) -> tuple[Ints, Ints]:
        budget = covered(lengths, self.infilling)
        counts, spans, before = spans_covering(budget, texts.draws(_LENGTHS), self.mean_span, 0)
        spans = np.minimum(spans, np.repeat(budget, counts) - before)
        spans = spans[shuffled(counts, texts.draws(_SHUFFLE))]  # else the trimmed one would always lie last
        size = lengths - budget + counts
        masks = subsets(size, counts, texts.draws(_PLACES))
        kept: NDArray[np.bool_] = np.ones(len(tokens) + 1, dtype=bool)
        if len(spans):
            # A span begins behind the kept tokens and the spans that lie before it.
            rank = np.arange(len(spans))
            begin = np.flatnonzero(masks) - rank + np.cumsum(spans) - spans
            change = np.zeros(len(kept), dtype=np.int64)
            np.add.at(change, begin, 1)
            np.subtract.at(change, begin + spans, 1)
            kept = np.cumsum(change) == 0
        noised = np.empty(len(masks), dtype=np.int64)
        noised[masks] = self._mask
        noised[~masks] = tokens[kept[:-1]]
        return noised, size

    def _rotated(self, tokens: Ints, lengths: Ints, texts: Texts) -> Ints:
        streams = texts.draws(_ROTATE)
        begin = offsets(lengths)
        by = (streams.first(1) * lengths).astype(np.int64) * (streams.first() < self.rotation)
        starts = np.stack([begin[:-1] + by, begin[:-1]], axis=1)
        stretch = np.stack([lengths - by, by], axis=1)
        return gather(tokens, starts.reshape(-1), stretch.reshape(-1))

    def raw_length(self, capacity: Lengths, *, ends: bool = False, mode: int = 0) -> int:
        """Raw tokens of the longest text whose noised form always fits."""
        raw = np.arange(2, capacity.inputs * 8 + 64)
        left = raw - (self._deleted(raw) if self.deletion else 0)
        budget = covered(left, self.infilling)
        longest = self._sizes(raw, left - budget + most_spans(budget, self.mean_span, 0))
        fits = longest.inputs <= capacity.inputs
        if longest.decoder is not None:
            assert capacity.decoder is not None
            fits &= longest.decoder <= capacity.decoder
        return int(raw[fits].max(initial=0))

    @property
    @override
    def varies(self) -> bool:
        """In one stack, where noised text and text share the row: a text with fewer spans may be longer."""
        return self.infilling > 0 and self.family != "encoder_decoder"

    @override
    def fitting(self, capacity: Lengths, numbers: Ints, *, seed: int, epoch: int) -> Ints:
        """[n] the longest text that fits with the spans that its number draws."""
        least = self.raw_length(capacity, ends=True)
        found = np.full(len(numbers), least)
        growing = np.arange(len(numbers))
        while len(growing):
            raw = found[growing] + 1
            sizes = self.sizes(raw, raw > 0, numbers[growing], seed=seed, epoch=epoch)
            growing = growing[sizes.inputs <= capacity.inputs]
            found[growing] += 1
        return found

    def decoder_length(self, length: int) -> int | None:
        """The text whose noised form always fits into `length`, and its end."""
        if self.family != "encoder_decoder":
            return None
        return max(self.raw_length(Lengths(length, 8 * length + 64)), 2) + int(self.vocabulary.eos is not None)

    def sizes(self, raw: Ints, ends: Ints, documents: Ints, *, seed: int, epoch: int) -> Sizes:
        """Positions of each piece; of the draws only the number of spans has a part in them."""
        left = raw - (self._deleted(raw) if self.deletion else 0)
        budget = covered(left, self.infilling)
        streams = draws(seed, epoch, documents, _LENGTHS)
        counts = [np.zeros(0, dtype=np.int64)]
        for begin in range(0, len(raw), 1 << 14):  # bounds the memory
            part = slice(begin, begin + (1 << 14))
            counts.append(spans_covering(budget[part], streams[part], self.mean_span, 0)[0])
        return self._sizes(raw, left - budget + np.concatenate(counts))

    def _sizes(self, raw: Ints, noised: Ints) -> Sizes:
        end = int(self.vocabulary.eos is not None)
        if self.family == "encoder_decoder":
            return Sizes(noised + end, raw + end)
        return Sizes(noised + raw + 2 * end + (self.vocabulary.bos is not None) - 1)
