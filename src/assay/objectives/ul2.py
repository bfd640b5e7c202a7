"""UL2's mixture of denoisers (Tay et al. 2022, section 3.1), and U-PaLM's (Tay et al. 2022, "Transcending").

Every text is given to one denoiser, which a mode token at the beginning names:

- R, [NLU]: span corruption as T5's, mean 3 or 8, 15% of the tokens;
- X, [NLG]: extreme span corruption, long spans or half of the tokens;
- S, [S2S]: prefix LM: the text's end, a quarter of it on average (uniform over 1 ... 2 round(n / 4) - 1 tokens),
  without sentinels.

`ul2` has UL2's seven settings, equally often; `upalm` U-PaLM's three: half S, a quarter R (3, 15%), a quarter X
(32, 50%).

A mean span of 64 is out of reach in short texts: 256 tokens at 15% have one span of 38. T5's layout would always put an
only span at the end, where it would be S with another token; here its place is uniform (the first token stays).
`notes` says what a length leaves of the means.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from assay.errors import UserError
from assay.objectives.base import Ints, Lengths, Made, Sizes, Vocabulary
from assay.objectives.draws import draws
from assay.objectives.ragged import Examples, Texts, arrange
from assay.objectives.span_corruption import corrupted, cuts, noise_counts

__all__ = ["MIXTURES", "UL2", "Denoiser"]

_KIND, _CUT, _KEPT, _SUFFIX, _PLACE, _ROOM = range(31, 37)
_LEAST, _MOST = 0.05, 0.3
"""A piece's share of an encoder-decoder's row: drawn between these."""
_FLOOR = 10
"""Positions that a piece gets at least, on both sides together."""


class Denoiser(NamedTuple):
    """One of a mixture."""

    mode: str
    """Its token: [NLU], [NLG] or [S2S]."""
    density: float
    """Share of the tokens that are cut out."""
    mean_span: float | None
    """Mean length of a span; None: the text's end is the only span (S)."""
    share: float
    """Share of the texts."""


MIXTURES: dict[str, tuple[Denoiser, ...]] = {
    "ul2": (
        Denoiser("[NLU]", 0.15, 3, 1 / 7),
        Denoiser("[NLU]", 0.15, 8, 1 / 7),
        Denoiser("[NLG]", 0.5, 3, 1 / 7),
        Denoiser("[NLG]", 0.5, 8, 1 / 7),
        Denoiser("[NLG]", 0.15, 64, 1 / 7),
        Denoiser("[NLG]", 0.5, 64, 1 / 7),
        Denoiser("[S2S]", 0.25, None, 1 / 7),
    ),
    "upalm": (
        Denoiser("[NLU]", 0.15, 3, 0.25),
        Denoiser("[NLG]", 0.5, 32, 0.25),
        Denoiser("[S2S]", 0.25, None, 0.5),
    ),
}


@dataclass(frozen=True)
class UL2(Made):
    """A mixture of denoisers, for encoder-decoders and for decoders of one stack."""

    family: str
    vocabulary: Vocabulary
    mixture: str = "ul2"
    """A name in `MIXTURES`."""
    shortest: int = 2
    """Raw tokens that an example needs."""

    @cached_property
    def denoisers(self) -> tuple[Denoiser, ...]:
        """The mixture's."""
        return MIXTURES[self.mixture]

    @cached_property
    def _table(self) -> tuple[Ints, Ints, Ints, Ints]:
        """Density, mean span (1 for S), whether S, mode token of each denoiser."""
        given = self.denoisers
        return (
            np.array([d.density for d in given]),
            np.array([d.mean_span or 1 for d in given]),
            np.array([d.mean_span is None for d in given]),
            np.array([self.vocabulary.named[d.mode] for d in given]),
        )

    @property
    @override
    def mode_count(self) -> int:
        """As many as denoisers."""
        return len(self.denoisers)

    @override
    def modes(self, documents: Ints, *, seed: int, epoch: int) -> Ints:
        """[n] the denoiser of each text."""
        shares = np.cumsum([d.share for d in self.denoisers])
        drawn = draws(seed, epoch, documents, _KIND).first()
        return np.minimum(np.searchsorted(shares, drawn, side="right"), len(shares) - 1)

    def _counts(self, raw: Ints, kinds: Ints, documents: Ints, seed: int, epoch: int) -> tuple[Ints, Ints]:
        """([n] tokens cut out, [n] spans)."""
        density, mean, suffix, _ = self._table
        noise, spans = noise_counts(raw, density[kinds], mean[kinds])
        plain = suffix[kinds]
        widest = 2 * np.maximum(np.round(density[kinds] * raw), 1) - 1
        drawn = 1 + (draws(seed, epoch, documents, _SUFFIX).first() * widest).astype(np.int64)
        return np.where(plain, np.minimum(drawn, raw - 1), noise), np.where(plain, 1, spans)

    @override
    def examples(self, texts: Texts) -> Examples:
        """Damaged texts behind their mode token, and what is asked for.

        Raises:
            UserError: more spans than the vocabulary has sentinels.
        """
        raw, v = texts.lengths, self.vocabulary
        kinds = self.modes(texts.documents, seed=texts.seed, epoch=texts.epoch)
        noise, spans = self._counts(raw, kinds, texts.documents, texts.seed, texts.epoch)
        plain, mode = self._table[2][kinds], self._table[3][kinds]
        self._check(int(spans.max(initial=0)), int(raw.max(initial=0)))
        kept, cut = cuts(raw, noise, spans, (texts.draws(_CUT), texts.draws(_KEPT)))
        # An only span may lie anywhere behind the first token.
        alone = (spans == 1) & ~plain
        rest = np.where(alone, (texts.draws(_PLACE).first() * (raw - noise)).astype(np.int64), 0)
        kept[np.cumsum(spans) - spans] -= rest
        parts = corrupted(texts, v, spans, kept, cut, rest=rest, plain=plain, mode=mode)
        return arrange(self.family, v, *parts)

    @override
    def check_sentinels(self, length: int) -> None:
        """See that a text of `length` tokens has a sentinel for each span of any denoiser.

        Raises:
            UserError: it has not, with how many are needed.
        """
        density, mean, suffix, _ = self._table
        spans = noise_counts(np.full(len(density), length), density, mean)[1]
        self._check(int(spans[~suffix].max(initial=0)), length)

    def _check(self, spans: int, length: int) -> None:
        have = len(self.vocabulary.sentinels)
        if spans > have:
            raise UserError(
                f"objective ul2: {length} tokens are cut into {spans} spans, and the vocabulary has {have} sentinels.",
                f"Set the tokenizer's sentinels to {spans} or more, or shorten the length.",
            )

    @override
    def notes(self, length: int) -> tuple[str, ...]:
        """Which denoisers' mean spans are out of reach in texts of `length` tokens, and what they get."""
        said = []
        for denoiser in self.denoisers:
            if denoiser.mean_span is None:
                continue
            noise, spans = (int(x) for x in noise_counts(length, denoiser.density, denoiser.mean_span))
            if spans == 1 and noise < denoiser.mean_span:
                said.append(
                    f"{denoiser.mode} with mean span {denoiser.mean_span:g} and density {denoiser.density:g}: "
                    f"{length} tokens have one span of {noise}."
                )
        return tuple(said)

    def raw_length(self, capacity: Lengths, *, ends: bool = False, mode: int = 0) -> int:
        """Raw tokens of the longest text of a denoiser that always fits."""
        return int(self._longest(capacity, mode, np.array([_LEAST]))[0])

    @override
    def fitting(self, capacity: Lengths, numbers: Ints, *, seed: int, epoch: int) -> Ints:
        """[n] the longest text that fits, by its denoiser.

        In an encoder-decoder a text gets a share of a row, drawn between 5% and 30%: the denoisers fill the two
        sides in different proportions, and rows are full where texts of many sizes lie side by side.
        """
        kinds = self.modes(numbers, seed=seed, epoch=epoch)
        shares = _LEAST + (_MOST - _LEAST) * draws(seed, epoch, numbers, _ROOM).first()
        found = np.zeros(len(numbers), dtype=np.int64)
        for mode in range(self.mode_count):
            mine = kinds == mode
            found[mine] = self._longest(capacity, mode, shares[mine])
        return found

    def _longest(self, capacity: Lengths, mode: int, shares: NDArray[np.float64]) -> Ints:
        raw = np.arange(2, capacity.inputs + (capacity.decoder or 0) + 1)
        density, mean, suffix, _ = self._table
        noise, spans = noise_counts(raw, density[mode], mean[mode])
        if suffix[mode]:  # its suffix may be almost nothing, or half of the text
            noise, spans = np.stack([np.ones_like(raw), np.minimum(raw // 2 + 1, raw - 1)]), np.ones_like(raw)
        inputs, decoder = self._sizes(raw, noise, spans, suffix[mode])
        fits = inputs <= capacity.inputs
        total = np.full(len(shares), capacity.inputs, dtype=np.float64)
        taken = inputs
        if decoder is not None:
            assert capacity.decoder is not None
            fits &= decoder <= capacity.decoder
            taken = inputs + decoder
            total = np.maximum(shares * (capacity.inputs + capacity.decoder), _FLOOR)
        most = int(raw[np.atleast_2d(fits).all(0)].max(initial=0))
        found = 1 + np.searchsorted(np.maximum.accumulate(np.atleast_2d(taken).max(0)), total, side="right")
        return np.minimum(found, most)

    def decoder_length(self, length: int) -> int | None:
        """In the proportion of what the denoisers ask for to what they show, on average."""
        if self.family != "encoder_decoder":
            return None
        density, _, _, _ = self._table
        asked = float(np.dot(density, [d.share for d in self.denoisers]))
        return max(round(length * asked / (1 - asked)), 8)

    def sizes(self, raw: Ints, ends: Ints, documents: Ints, *, seed: int, epoch: int) -> Sizes:
        """Positions of each piece, by its denoiser."""
        kinds = self.modes(documents, seed=seed, epoch=epoch)
        noise, spans = self._counts(raw, kinds, documents, seed, epoch)
        return self._sizes(raw, noise, spans, self._table[2][kinds])

    def _sizes(self, raw: Ints, noise: Ints, spans: Ints, plain: Ints) -> Sizes:
        end, signs = int(self.vocabulary.eos is not None), np.where(plain, 0, spans)
        inputs, targets = 1 + raw - noise + signs + end, noise + signs + end
        if self.family == "encoder_decoder":
            return Sizes(inputs, targets)
        return Sizes(inputs + targets + (self.vocabulary.bos is not None) - 1)
