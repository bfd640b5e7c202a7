"""T5's span corruption: spans are cut out, a sentinel stands for each, and the spans are asked for (K3).

`L = - sum_i ln p(y_i | y_1 ... y_{i-1}, corrupt(x))` with y the spans behind their sentinels. Raffel et al.
2020, section 3.1.4, as T5's code does it: n_noise = clip(round(density n), 1, n - 1), n_spans =
max(round(n_noise / mean_span), 1); noise and the rest are each cut at random into n_spans pieces that are not
empty, all ways of cutting equally likely, and interleaved, the rest first. Targets are the same function of
the complement.

An encoder-decoder reads the corrupted text and predicts the targets. In decoders of one stack the targets
follow the corrupted text in one sequence and alone are predicted; in a prefix decoder that text is the
prefix.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.errors import UserError
from assay.objectives.base import (
    Example,
    Ints,
    Key,
    Lengths,
    Sizes,
    Vocabulary,
    decoder_only,
    encoder_decoder,
    join,
)

__all__ = ["SpanCorruption", "noise_counts", "noise_mask", "replace_spans", "segmentation"]


def noise_counts(length: Any, density: float, mean_span: float) -> tuple[Any, Any]:
    """(n_noise, n_spans) of texts of `length` tokens (an int or an array, each at least 2).

    There are never more spans than tokens on either side: a short text cannot be cut finer.
    """
    length = np.asarray(length)
    noise = np.clip(np.round(length * density), 1, length - 1).astype(np.int64)
    spans = np.maximum(np.round(noise / mean_span), 1).astype(np.int64)
    return noise, np.minimum(spans, np.minimum(noise, length - noise))


@lru_cache(maxsize=4096)
def _counts(length: int, density: float, mean_span: float) -> tuple[int, int]:
    noise, spans = noise_counts(length, density, mean_span)
    return int(noise), int(spans)


def segmentation(items: int, segments: int, generator: np.random.Generator) -> Ints:
    """[segments] positive lengths that sum to `items`, each such list equally likely."""
    borders = np.empty(segments + 1, dtype=np.int64)
    borders[0], borders[-1] = 0, items
    if segments > 1:
        borders[1:-1] = np.sort(generator.choice(items - 1, segments - 1, replace=False)) + 1
    return borders[1:] - borders[:-1]


def noise_mask(
    length: int, generator: np.random.Generator, density: float = 0.15, mean_span: float = 3.0
) -> NDArray[np.bool_]:
    """[length] True where a token is cut out. Begins with a token that stays, ends with one that does not."""
    noise, spans = _counts(length, density, mean_span)
    lengths = np.empty(2 * spans, dtype=np.int64)
    lengths[1::2] = segmentation(noise, spans, generator)
    lengths[0::2] = segmentation(length - noise, spans, generator)
    kinds = np.zeros(2 * spans, dtype=bool)
    kinds[1::2] = True
    return np.repeat(kinds, lengths)


def replace_spans(tokens: Ints, mask: NDArray[np.bool_], sentinels: Ints) -> Ints:
    """The tokens with each run of True replaced by one sentinel: the first run by sentinel 0, and so on."""
    first = mask.copy()
    first[1:] &= ~mask[:-1]
    replaced = np.asarray(tokens, dtype=np.int64).copy()
    replaced[first] = sentinels[: np.count_nonzero(first)]
    return replaced[~mask | first]


@dataclass(frozen=True)
class SpanCorruption:
    """Span corruption, for encoder-decoders and for decoders of one stack. Both parts end with eos."""

    family: str
    vocabulary: Vocabulary
    density: float = 0.15
    mean_span: float = 3.0
    shortest: int = 2
    """Raw tokens that an example needs: one that stays, one cut out."""

    def example(self, tokens: Ints, key: Key, *, ends: bool = True) -> Example:
        """Corrupted text and its spans.

        Raises:
            UserError: more spans than the vocabulary has sentinels.
        """
        vocabulary = self.vocabulary
        self.check_sentinels(len(tokens))
        sentinels = np.asarray(vocabulary.sentinels, dtype=np.int64)
        mask = noise_mask(len(tokens), key.generator(), self.density, self.mean_span)
        inputs = join(replace_spans(tokens, mask, sentinels), vocabulary.eos)
        targets = join(replace_spans(tokens, ~mask, sentinels), vocabulary.eos)
        if self.family == "encoder_decoder":
            return encoder_decoder(inputs, targets, vocabulary)
        sequence = join(vocabulary.bos, inputs, targets)
        length = len(sequence) - len(targets)
        return decoder_only(sequence, prefix=length if self.family == "prefix" else 0, first=length - 1)

    def check_sentinels(self, length: int) -> None:
        """See that a text of `length` tokens has a sentinel for each span.

        Raises:
            UserError: it has not, with how many are needed.
        """
        spans = _counts(length, self.density, self.mean_span)[1]
        have = len(self.vocabulary.sentinels)
        if spans > have:
            raise UserError(
                f"objective span_corruption: {length} tokens are cut into {spans} spans, and the vocabulary "
                f"has {have} sentinels.",
                f"Set the tokenizer's sentinels to {spans} or more, shorten the length, or raise mean_span.",
            )

    def raw_length(self, capacity: Lengths, *, ends: bool = False) -> int:
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
