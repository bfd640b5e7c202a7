"""Several texts and several examples, side by side in flat arrays: what objectives take and give.

An output is a row of segments, each a stretch of a pool of tokens: `compose` orders them, `gather` copies them. All
work that depends on chance is done per span, and per token there is one copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assay.objectives.base import Example, Ints, Key, Vocabulary
from assay.objectives.draws import Draws, draws, halves, offsets, within

__all__ = ["Examples", "Pool", "Stretches", "Texts", "arrange", "compose", "gather", "one_stack"]

Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Texts:
    """Raw texts side by side, with all that their examples may depend on."""

    tokens: Ints
    """[total] ids."""
    lengths: Ints
    """[n] tokens of each."""
    documents: Ints
    """[n] the number that draws its chance."""
    ends: Flags
    """[n] whether the document ends with it."""
    seed: int
    """Of the run."""
    epoch: int = 0
    """The pass over the data."""
    words: Flags | None = None
    """[total] the token begins a word."""
    sentences: Flags | None = None
    """[total] the token begins a sentence."""

    @classmethod
    def one(
        cls, tokens: Ints, key: Key, *, ends: bool = True, words: Flags | None = None, sentences: Flags | None = None
    ) -> Texts:
        """A single text."""
        tokens = np.asarray(tokens)
        document = np.array([key.document & ((1 << 64) - 1)], dtype=np.uint64).astype(np.int64)
        return cls(
            tokens, np.array([len(tokens)]), document, np.array([ends]), key.seed, key.epoch, words, sentences
        )  # fmt: skip

    @cached_property
    def offsets(self) -> Ints:
        """[n + 1] where each begins."""
        return offsets(self.lengths)

    def draws(self, stream: int) -> Draws:
        """Every text's own stream with a number."""
        return draws(self.seed, self.epoch, self.documents, stream)

    def __len__(self) -> int:
        return len(self.lengths)


@dataclass(frozen=True, eq=False)
class Examples:
    """Examples side by side; `[i]` is one of them. See `Example` for what the arrays mean."""

    inputs: Ints
    """[all inputs]"""
    input_lengths: Ints
    """[n]"""
    targets: Ints
    """[all targets]; of one stack as many as inputs."""
    weights: NDArray[np.float32]
    """As `targets`."""
    prefix: Ints
    """[n]"""
    decoder_inputs: Ints | None = None
    """As `targets`."""
    target_lengths: Ints | None = None
    """[n] of two stacks."""
    positions: Ints | None = None
    """[all inputs], or [axes, all inputs]."""

    def __len__(self) -> int:
        return len(self.input_lengths)

    @classmethod
    def of(cls, examples: Sequence[Example]) -> Examples:
        """From single ones, which all have a decoder side or none."""
        two = bool(examples) and examples[0].decoder_inputs is not None
        given = [e.positions for e in examples]
        positions = None
        if any(p is not None for p in given):
            axes = max(2 if p is not None and p.ndim == 2 else 1 for p in given)
            rows = [_rows(p, len(e.inputs), axes) for p, e in zip(given, examples, strict=True)]
            positions = np.concatenate(rows, axis=-1)
        return cls(
            inputs=_joined([e.inputs for e in examples]),
            input_lengths=np.array([len(e.inputs) for e in examples], dtype=np.int64),
            targets=_joined([e.targets for e in examples]),
            weights=_joined([e.weights for e in examples]).astype(np.float32),
            prefix=np.array([e.prefix for e in examples], dtype=np.int64),
            decoder_inputs=_joined([e.decoder_inputs for e in examples]) if two else None,
            target_lengths=np.array([len(e.targets) for e in examples], dtype=np.int64) if two else None,
            positions=positions,
        )

    def __getitem__(self, index: int) -> Example:
        into = self._slice(self.input_lengths, index)
        out = into if self.target_lengths is None else self._slice(self.target_lengths, index)
        return Example(
            inputs=self.inputs[into],
            targets=self.targets[out],
            weights=self.weights[out],
            decoder_inputs=None if self.decoder_inputs is None else self.decoder_inputs[out],
            prefix=int(self.prefix[index]),
            positions=None if self.positions is None else self.positions[..., into],
        )

    @staticmethod
    def _slice(lengths: Ints, index: int) -> slice:
        begin = int(lengths[:index].sum())
        return slice(begin, begin + int(lengths[index]))


def _joined(parts: Sequence[Any]) -> NDArray[Any]:
    return np.concatenate(parts) if len(parts) else np.zeros(0, dtype=np.int64)


def _rows(positions: Ints | None, length: int, axes: int) -> Ints:
    """Positions of one example in as many rows as the others have."""
    counted = np.arange(length) if positions is None else positions
    return np.stack([counted] * axes) if axes == 2 and counted.ndim == 1 else counted


class Pool:
    """Tokens that segments are copied from: the texts', then every special token that there is."""

    def __init__(self, tokens: Ints, vocabulary: Vocabulary) -> None:
        """Args: tokens: [total]; vocabulary: its special tokens."""
        addresses, specials = _specials(vocabulary)
        self.tokens = np.empty(len(tokens) + len(specials), dtype=np.int64)
        self.tokens[: len(tokens)] = tokens
        self.tokens[len(tokens) :] = specials
        self.base = len(tokens)
        self.addresses = addresses
        self.sentinels = self.base + len(specials) - len(vocabulary.sentinels)
        """Where sentinel 0 lies; the others follow."""

    def __getitem__(self, token: int | None) -> int:
        """Where a special token lies (0 for None: give it no length)."""
        return 0 if token is None else self.base + self.addresses[token]


@lru_cache(maxsize=64)
def _specials_of(single: tuple[int, ...], sentinels: tuple[int, ...]) -> tuple[Mapping[int, int], Ints]:
    return {token: index for index, token in enumerate(single)}, np.array(single + sentinels, dtype=np.int64)


def _specials(v: Vocabulary) -> tuple[Mapping[int, int], Ints]:
    given = (v.pad, v.bos, v.eos, v.decoder_start, v.mask, *v.named.values())
    return _specials_of(tuple(t for t in dict.fromkeys(given) if t is not None), v.sentinels)


Segment = tuple[ArrayLike, ArrayLike]
"""Where segments begin in the pool and how long they are: one each of a text, or of a span; numbers serve all."""


class Stretches(NamedTuple):
    """Outputs that are not yet copied: the stretches of a pool that each of them is made of."""

    starts: Ints
    """[sum of counts] where each begins in the pool."""
    lengths: Ints
    """[sum of counts] its tokens."""
    counts: Ints
    """[n] stretches of each output, at least 1."""
    totals: Ints
    """[n] tokens of each output."""

    def of(self, pool: NDArray[Any]) -> NDArray[Any]:
        """[sum of totals] the outputs side by side."""
        return gather(pool, self.starts, self.lengths)

    def then(self, other: Stretches) -> Stretches:
        """Each output followed by the other of the same place."""
        mine = np.arange(len(self.starts)) + np.repeat(offsets(other.counts)[:-1], self.counts)
        its = np.arange(len(other.starts)) + np.repeat(offsets(self.counts)[1:], other.counts)
        starts = np.empty(len(mine) + len(its), dtype=np.int64)
        lengths = np.empty_like(starts)
        starts[mine], starts[its] = self.starts, other.starts
        lengths[mine], lengths[its] = self.lengths, other.lengths
        return Stretches(starts, lengths, self.counts + other.counts, self.totals + other.totals)


def compose(spans: Ints, lead: Sequence[Segment], body: Sequence[Segment], tail: Sequence[Segment]) -> Stretches:
    """The segments of every output in order: its lead, its body once for each span, its tail.

    Args:
        spans: [n] how many times the body comes in each output.
        lead, tail: per output.
        body: per span, flat over all outputs.

    Returns:
        The stretches of all outputs, of which each has one.
    """
    fixed, per = len(lead) + len(tail), len(body)
    counts = spans * per + fixed
    begin = offsets(counts)
    starts = np.empty(begin[-1], dtype=np.int64)
    lengths = np.empty(begin[-1], dtype=np.int64)
    for index, (start, length) in enumerate(lead):
        starts[begin[:-1] + index], lengths[begin[:-1] + index] = start, length
    if per:
        at = np.repeat(begin[:-1] + len(lead), spans) + per * within(spans)
        for index, (start, length) in enumerate(body):
            starts[at + index], lengths[at + index] = start, length
    for index, (start, length) in enumerate(tail):
        at = begin[1:] - len(tail) + index
        starts[at], lengths[at] = start, length
    totals = np.add.reduceat(lengths, begin[:-1]) if len(spans) else spans
    return Stretches(starts, lengths, counts, totals)


def gather(pool: NDArray[Any], starts: Ints, lengths: Ints) -> NDArray[Any]:
    """[sum of lengths] the stretches of the pool, one after the other."""
    ends = np.cumsum(lengths)
    index = np.repeat(starts - ends + lengths, lengths)
    index += np.arange(len(index))
    return pool.take(index)


def one_stack(pool: NDArray[Any], sequences: Stretches, first: Ints, prefix: Ints) -> Examples:
    """Examples of one stack from whole sequences: place i predicts token i + 1, counting from place `first` on.

    Args:
        pool: what the sequences are made of.
        sequences: of n examples, each of at least one token.
        first: [n] the first place that has a target.
        prefix: [n] leading places that see each other whole.
    """
    starts, lengths, counts, totals = sequences
    last = np.cumsum(counts) - 1
    while (empty := lengths[last] == 0).any():
        last = last - empty
    # A sequence's last token is no input, and the first no target: what is between is copied once and shifted.
    final = pool[starts[last] + lengths[last] - 1]
    shorter, lengths = totals - 1, lengths.copy()
    lengths[last] -= 1
    inputs = gather(pool, starts, lengths)
    targets = np.empty_like(inputs)
    targets[:-1] = inputs[1:]
    some = shorter > 0
    targets[np.cumsum(shorter)[some] - 1] = final[some]
    weights = halves(first, shorter, np.array([0, 1], dtype=np.float32))
    return Examples(inputs, shorter, targets, weights, prefix)


def arrange(family: str, vocabulary: Vocabulary, pool: Pool, inputs: Stretches, targets: Stretches) -> Examples:
    """Examples from what is read and what is predicted, at least one token each.

    An encoder-decoder reads the one in its encoder and predicts the other in its decoder. One stack reads both in
    a row behind the begin token and predicts the second; in a prefix decoder the first is the prefix.
    """
    if family == "encoder_decoder":
        assert vocabulary.decoder_start is not None
        return _two_stacks(
            inputs.of(pool.tokens), inputs.totals, targets.of(pool.tokens), targets.totals, vocabulary.decoder_start
        )  # fmt: skip
    if vocabulary.bos is not None:
        inputs = compose(np.zeros_like(inputs.totals), [(pool[vocabulary.bos], 1)], [], []).then(inputs)
    seen = inputs.totals
    return one_stack(
        pool.tokens, inputs.then(targets), seen - 1, seen if family == "prefix" else np.zeros_like(seen)
    )  # fmt: skip


def _two_stacks(
    inputs: Ints, input_lengths: Ints, targets: Ints, target_lengths: Ints, start: int
) -> Examples:  # fmt: skip
    """Examples of two stacks: the decoder reads its start token, then the targets but the last."""
    shifted = np.empty_like(targets)
    shifted[1:] = targets[:-1]
    shifted[np.cumsum(target_lengths) - target_lengths] = start
    return Examples(
        inputs, input_lengths, targets, np.ones(len(targets), dtype=np.float32), np.zeros_like(input_lengths),
        decoder_inputs=shifted, target_lengths=target_lengths,
    )  # fmt: skip
