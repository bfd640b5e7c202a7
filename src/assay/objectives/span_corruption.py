"""T5's span corruption: spans are cut out, a sentinel stands for each, and the spans are asked for (K3).

`L = - sum_i ln p(y_i | y_1 ... y_{i-1}, corrupt(x))` with y the spans behind their sentinels. Raffel et al.
2020, section 3.1.4, as T5's code does it: n_noise = clip(round(density n), 1, n - 1), n_spans =
max(round(n_noise / mean_span), 1); noise and the rest are each cut at random into n_spans pieces that are not
empty, all ways of cutting equally likely, and interleaved, the rest first. Targets are the same function of
the complement.

An encoder-decoder reads the corrupted text and predicts the targets. In decoders of one stack the targets
follow the corrupted text in one sequence and alone are predicted; in a prefix decoder that text is the
prefix. So written it is also the masked LM of Wang et al. 2022 for decoders.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from typing_extensions import override

from assay.errors import UserError
from assay.objectives.base import Ints, Lengths, Made, Sizes, Vocabulary
from assay.objectives.draws import Draws, subsets, within
from assay.objectives.ragged import Examples, Pool, Segment, Stretches, Texts, arrange, compose

__all__ = ["SpanCorruption", "corrupted", "cuts", "noise_counts", "segmentations"]


def noise_counts(length: Any, density: Any, mean_span: Any) -> tuple[Any, Any]:
    """(n_noise, n_spans) of texts of `length` tokens (an int or an array, each at least 2).

    There are never more spans than tokens on either side: a short text cannot be cut finer.
    """
    length = np.asarray(length)
    noise = np.clip(np.round(length * density), 1, length - 1).astype(np.int64)
    spans = np.maximum(np.round(noise / mean_span), 1).astype(np.int64)
    return noise, np.minimum(spans, np.minimum(noise, length - noise))


def segmentations(items: Ints, segments: Ints, streams: Draws) -> Ints:
    """[sum of segments] for each document `segments` positive lengths that sum to `items`, all equally likely."""
    table = subsets(items - 1, segments - 1, streams, lead=True)
    return np.diff(np.flatnonzero(table), append=len(table))


def cuts(length: Ints, noise: Ints, spans: Ints, streams: tuple[Draws, Draws]) -> tuple[Ints, Ints]:
    """(kept, cut): [sum of spans] tokens that stay before each span, and tokens of the span."""
    both = Draws(np.concatenate([streams[0].state, streams[1].state]))
    pieces = segmentations(np.concatenate([noise, length - noise]), np.concatenate([spans, spans]), both)
    half = len(pieces) // 2
    return pieces[half:], pieces[:half]


def corrupted(
    texts: Texts,
    vocabulary: Vocabulary,
    spans: Ints,
    kept: Ints,
    cut: Ints,
    *,
    rest: Ints | None = None,
    plain: Ints | None = None,
    mode: Ints | None = None,
) -> tuple[Pool, Stretches, Stretches]:
    """The corrupted texts and what is asked for: (a pool, the inputs in it, the targets in it).

    Args:
        spans: [n] of each text.
        kept, cut: [sum of spans] tokens before each span, tokens of the span.
        rest: [n] tokens behind the last span; None: none.
        plain: [n] bool: no sentinels, as in prefix LM; None: sentinels everywhere.
        mode: [n] a special token that begins the inputs; None: none.
    """
    pool = Pool(texts.tokens, vocabulary)
    both = kept + cut
    begin = np.cumsum(both) - both
    tail: list[Segment] = [(pool[vocabulary.eos], int(vocabulary.eos is not None))]
    more: list[Segment] = []
    if rest is not None:
        begin += np.repeat(np.cumsum(rest) - rest, spans)
        more = [(texts.offsets[1:] - rest, rest)]
    lead: list[Segment] = []
    if mode is not None:
        lead = [(pool.base + np.vectorize(pool.addresses.__getitem__, otypes=[np.int64])(mode), 1)]
    signs = (pool.sentinels + within(spans), 1 if plain is None else np.repeat(~plain, spans))
    inputs = compose(spans, lead, [(begin, kept), signs], more + tail)
    return pool, inputs, compose(spans, [], [signs, (begin + kept, cut)], tail)


@dataclass(frozen=True)
class SpanCorruption(Made):
    """Span corruption, for encoder-decoders and for decoders of one stack. Both parts end with eos."""

    family: str
    vocabulary: Vocabulary
    density: float = 0.15
    mean_span: float = 3.0
    shortest: int = 2
    """Raw tokens that an example needs: one that stays, one cut out."""

    @override
    def examples(self, texts: Texts) -> Examples:
        """Corrupted texts and their spans.

        Raises:
            UserError: more spans than the vocabulary has sentinels.
        """
        self.check_sentinels(int(texts.lengths.max(initial=2)))
        noise, spans = noise_counts(texts.lengths, self.density, self.mean_span)
        kept, cut = cuts(texts.lengths, noise, spans, (texts.draws(1), texts.draws(2)))
        return arrange(self.family, self.vocabulary, *corrupted(texts, self.vocabulary, spans, kept, cut))

    @override
    def check_sentinels(self, length: int) -> None:
        """See that a text of `length` tokens has a sentinel for each span.

        Raises:
            UserError: it has not, with how many are needed.
        """
        spans, have = int(noise_counts(length, self.density, self.mean_span)[1]), len(self.vocabulary.sentinels)
        if spans > have:
            raise UserError(
                f"objective span_corruption: {length} tokens are cut into {spans} spans, and the vocabulary "
                f"has {have} sentinels.",
                f"Set the tokenizer's sentinels to {spans} or more, shorten the length, or raise mean_span.",
            )

    def raw_length(self, capacity: Lengths, *, ends: bool = False, mode: int = 0) -> int:
        """Raw tokens of the longest text that fits (T5: 568 for 512 inputs and 114 targets)."""
        top = capacity.inputs + (capacity.decoder or 0)
        raw = np.arange(2, max(top, 2) + 1)
        inputs, decoder = self._sizes(raw)
        fits = inputs <= capacity.inputs
        if decoder is not None:
            assert capacity.decoder is not None
            fits &= decoder <= capacity.decoder
        return int(raw[fits].max(initial=0))

    def decoder_length(self, length: int) -> int | None:
        """Targets of the longest text whose corrupted form fits into `length`."""
        if self.family != "encoder_decoder":
            return None
        raw = self.raw_length(Lengths(length, 2 * int(length / (1 - self.density)) + 8))
        decoder = self._sizes(np.array([max(raw, 2)])).decoder
        assert decoder is not None
        return int(decoder[0])

    def sizes(self, raw: Ints, ends: Ints, documents: Ints, *, seed: int, epoch: int) -> Sizes:
        """Positions of each piece on each side; chance has no part in them."""
        return self._sizes(raw)

    def _sizes(self, raw: Ints) -> Sizes:
        noise, spans = noise_counts(raw, self.density, self.mean_span)
        end = int(self.vocabulary.eos is not None)
        inputs, targets = raw - noise + spans + end, noise + spans + end
        if self.family == "encoder_decoder":
            return Sizes(inputs, targets)
        return Sizes(inputs + targets + (self.vocabulary.bos is not None) - 1)
