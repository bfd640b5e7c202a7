"""Prefix language modelling: the second part of a text from all of its first part (K3).

`L = - sum_{i > s} ln p(x_i | x_1 ... x_{i-1})` for a split after s tokens, where the first s see each other
whole (in a causal decoder the loss is the same and attention stays causal).

The split is uniform over 1 ... n - 1 (Raffel et al. 2020, section 3.2.3), or a fixed share. A uniform split
is drawn once for each two neighbouring documents 2i and 2i + 1 and mirrored for the second: s and n - s. Each
is uniform by itself and depends on (seed, epoch, document) alone, and every encoder part then has a partner
with which it fills a row of an encoder-decoder exactly. All families get the same splits, so that a
comparison of families compares the same predictions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from typing_extensions import override

from assay.objectives.base import Ints, Lengths, Made, Sizes, Vocabulary, uniforms
from assay.objectives.ragged import Examples, Pool, Texts, arrange, compose

__all__ = ["PrefixLM"]


@dataclass(frozen=True)
class PrefixLM(Made):
    """Prefix LM, for decoders of one stack (causal or prefix attention) and for encoder-decoders."""

    family: str
    vocabulary: Vocabulary
    split: float | None = None
    """The prefix's share of the raw tokens; None: uniform."""
    shortest: int = 2
    """Raw tokens that an example needs: one on each side."""

    def splits(self, raw: Ints, documents: Ints, *, seed: int, epoch: int) -> Ints:
        """How many raw tokens are the prefix, for each piece of `raw` tokens: between 1 and raw - 1."""
        if self.split is not None:
            return np.clip(np.round(self.split * raw), 1, raw - 1).astype(np.int64)
        drawn = 1 + (uniforms(seed, epoch, documents // 2) * (raw - 1)).astype(np.int64)
        return np.where(documents % 2 == 1, raw - drawn, drawn)

    @override
    def examples(self, texts: Texts) -> Examples:
        """The prefix is seen, the rest predicted, its first token by the prefix's last (or the decoder start)."""
        v = self.vocabulary
        split = self.splits(texts.lengths, texts.documents, seed=texts.seed, epoch=texts.epoch)
        begin, none, pool = texts.offsets[:-1], np.zeros_like(split), Pool(texts.tokens, v)
        end = (pool[v.eos], texts.ends & (v.eos is not None))
        inputs = compose(none, [(begin, split)], [], [])
        targets = compose(none, [(begin + split, texts.lengths - split)], [], [end])
        return arrange(self.family, v, pool, inputs, targets)

    def raw_length(self, capacity: Lengths, *, ends: bool = False, mode: int = 0) -> int:
        """Raw tokens of the longest piece that fits at any split.

        For an encoder-decoder with uniform splits that is a decoder row's worth, so that two mirrored pieces
        fill both sides.
        """
        end = int(ends and self.vocabulary.eos is not None)
        if self.family != "encoder_decoder":
            return capacity.inputs + 1 - (self.vocabulary.bos is not None) - end
        assert capacity.decoder is not None
        if self.split is None:
            return min(capacity.inputs, capacity.decoder) - end
        raw = np.arange(2, capacity.inputs + capacity.decoder + 1)
        prefix = np.clip(np.round(self.split * raw), 1, raw - 1)
        fits = raw[(prefix <= capacity.inputs) & (raw - prefix + end <= capacity.decoder)]
        return int(fits.max(initial=0))

    def decoder_length(self, length: int) -> int | None:
        """As long as the encoder for uniform splits; in proportion for a fixed one."""
        if self.family != "encoder_decoder":
            return None
        return length if self.split is None else max(1, round(length * (1 - self.split) / self.split))

    def sizes(self, raw: Ints, ends: Ints, documents: Ints, *, seed: int, epoch: int) -> Sizes:
        """Positions of each piece on each side."""
        end = np.asarray(ends, dtype=bool) & (self.vocabulary.eos is not None)
        if self.family != "encoder_decoder":
            return Sizes(raw + end + (self.vocabulary.bos is not None) - 1)
        prefix = self.splits(raw, documents, seed=seed, epoch=epoch)
        return Sizes(prefix, raw - prefix + end)
