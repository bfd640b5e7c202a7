"""Causal language modelling: every token from those before it (maximum likelihood, K3).

`L = - sum_i ln p(x_i | x_1 ... x_{i-1})`. Where the vocabulary has a begin token, it is put before each
piece, so that the first token is a target too; without one, every token but the first is a target. Where the
document ends with the piece, its end token is the last target.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from typing_extensions import override

from assay.objectives.base import Ints, Lengths, Made, Sizes, Vocabulary
from assay.objectives.ragged import Examples, Pool, Segment, Texts, compose, one_stack

__all__ = ["CausalLM"]


@dataclass(frozen=True)
class CausalLM(Made):
    """Causal LM, for one-stack decoders. In a prefix decoder its prefix is empty, so attention is causal."""

    family: str
    vocabulary: Vocabulary

    @property
    def shortest(self) -> int:
        """Raw tokens that an example needs."""
        return 1 if self.vocabulary.bos is not None else 2

    @override
    def examples(self, texts: Texts) -> Examples:
        """All tokens as inputs and, one position earlier, as targets. Chance has no part in them."""
        v = self.vocabulary
        pool = Pool(texts.tokens, v)
        lead: list[Segment] = [(pool[v.bos], int(v.bos is not None)), (texts.offsets[:-1], texts.lengths)]
        tail: list[Segment] = [(pool[v.eos], texts.ends & (v.eos is not None))]
        none = np.zeros(len(texts), dtype=np.int64)
        return one_stack(pool.tokens, compose(none, lead, [], tail), none, none)

    def raw_length(self, capacity: Lengths, *, ends: bool = False, mode: int = 0) -> int:
        """Raw tokens that fill `capacity.inputs` positions."""
        return capacity.inputs + 1 - self._extra(ends)

    def decoder_length(self, length: int) -> None:
        """None: there is one stack."""
        return None

    def sizes(self, raw: Ints, ends: Ints, documents: Ints, *, seed: int, epoch: int) -> Sizes:
        """Positions of each piece."""
        return Sizes(raw + np.where(ends, self._extra(True), self._extra(False)) - 1)

    def _extra(self, ends: bool) -> int:
        return (self.vocabulary.bos is not None) + (ends and self.vocabulary.eos is not None)
