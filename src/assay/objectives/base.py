"""What every objective is: a pure function of a document's tokens and a key.

An objective keeps no state and draws nothing that the key does not fix, so an example is the same on any
worker, after any resume, alone or packed with others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from assay.objectives.ragged import Examples, Texts

__all__ = ["Example", "Ints", "Key", "Lengths", "Made", "Objective", "Sizes", "Vocabulary", "join", "uniforms"]

Ints = NDArray[Any]
"""An integer array; shapes stand in the docstrings."""

_U64 = np.uint64
_MASK64 = (1 << 64) - 1


@dataclass(frozen=True)
class Key:
    """All that an example may depend on beside its tokens."""

    seed: int
    epoch: int = 0
    document: int = 0

    def generator(self) -> np.random.Generator:
        """A fresh generator that depends on the three numbers only.

        Philox is counter-based (Salmon et al. 2011): the seed is the key, epoch and document are the upper
        words of the counter, so that no two keys share any part of a stream.
        """
        counter = ((self.epoch & _MASK64) << 128) | ((self.document & _MASK64) << 64)
        return np.random.Generator(np.random.Philox(key=self.seed & _MASK64, counter=counter))


def uniforms(seed: int, epoch: int, documents: ArrayLike) -> NDArray[np.float64]:
    """One uniform number in [0, 1) per document, each a function of (seed, epoch, document) alone.

    For what has to be known of all documents at once (their lengths, before packing), where one generator per
    document would be slow. Three rounds of SplitMix64's finaliser (Steele et al. 2014).
    """
    mixed = _mix(np.asarray(seed & _MASK64, dtype=_U64) + _U64(0x9E3779B97F4A7C15))
    mixed = _mix(mixed ^ np.asarray(epoch & _MASK64, dtype=_U64))
    mixed = _mix(mixed ^ np.atleast_1d(np.asarray(documents)).astype(_U64))
    return (mixed >> _U64(11)).astype(np.float64) * 2.0**-53


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = np.atleast_1d(x)  # arrays wrap round silently, as meant; scalars would warn
    x = (x ^ (x >> _U64(30))) * _U64(0xBF58476D1CE4E5B9) + _U64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> _U64(27))) * _U64(0x94D049BB133111EB)
    return x ^ (x >> _U64(31))


@dataclass(frozen=True)
class Vocabulary:
    """What an objective has to know about tokens. None: the vocabulary has no such token."""

    size: int
    pad: int
    bos: int | None = None
    eos: int | None = None
    decoder_start: int | None = None
    sentinels: tuple[int, ...] = ()
    """Sentinel 0 first; ids decrease from the vocabulary's end, as in T5."""
    mask: int | None = None
    named: Mapping[str, int] = field(default_factory=dict, hash=False)
    """Ids of further reserved tokens: UL2's modes ([NLU], [NLG], [S2S]), GLM's ([MASK], [gMASK], <sop>, <eop>)."""


@dataclass(frozen=True, eq=False)
class Example:
    """One example. Without a decoder m == n and `targets[i]` is what position i predicts.

    The boundary: the last prefix token predicts the first target, so with a prefix of p tokens
    `weights[p - 1]` is the first that is not 0 (GLM: the `<sop>` behind the prefix predicts it). An encoder
    predicts its own positions: there `targets[i]` is what stood at i.
    """

    inputs: Ints
    """[n] token ids of the only stack, or of the encoder."""
    targets: Ints
    """[m] token ids to predict; meaningless where the weight is 0."""
    weights: NDArray[np.float32]
    """[m] 1 where there is a target, else 0."""
    decoder_inputs: Ints | None = None
    """[m] token ids of the decoder: the targets shifted right behind the decoder start."""
    prefix: int = 0
    """How many leading inputs see each other whole."""
    positions: Ints | None = None
    """[n], or [2, n] for two rows of positions; None: 0, 1, 2 ..."""


class Lengths(NamedTuple):
    """How many positions a row has."""

    inputs: int
    decoder: int | None = None


class Sizes(NamedTuple):
    """How many positions each of several examples takes: two arrays of equal length."""

    inputs: Ints
    decoder: Ints | None = None


class Objective(Protocol):
    """What the data pipeline asks of an objective."""

    @property
    def family(self) -> str:
        """The family its examples are for."""
        ...

    @property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary of the tokens."""
        ...

    @property
    def shortest(self) -> int:
        """How many raw tokens an example needs at least."""
        ...

    @property
    def needs(self) -> frozenset[str]:
        """What texts have to come with: `words`, `sentences`, or nothing."""
        ...

    @property
    def mode_count(self) -> int:
        """How many kinds of example there are, whose texts differ in the length that fits a row."""
        ...

    def modes(self, documents: Ints, *, seed: int, epoch: int) -> Ints:
        """[n] which kind each text becomes: 0 ... mode_count - 1."""
        ...

    def examples(self, texts: Texts) -> Examples:
        """The examples of several texts at once."""
        ...

    def example(self, tokens: Ints, key: Key, *, ends: bool = True, **flags: Any) -> Example:
        """The example that these raw tokens and this key make. `ends`: the document ends with them."""
        ...

    def raw_length(self, capacity: Lengths, *, ends: bool = False, mode: int = 0) -> int:
        """How many raw tokens one example of a kind may take so that it always fits into `capacity`."""
        ...

    @property
    def varies(self) -> bool:
        """Whether the length of text that fits a row differs between pieces."""
        ...

    def fitting(self, capacity: Lengths, numbers: Ints, *, seed: int, epoch: int) -> Ints:
        """[n] how many raw tokens each of several pieces may take so that it and any shorter one fit."""
        ...

    def decoder_length(self, length: int) -> int | None:
        """The decoder length that goes with `length` encoder positions, or None without a decoder."""
        ...

    def sizes(self, raw: Ints, ends: Ints, documents: Ints, *, seed: int, epoch: int) -> Sizes:
        """What `examples` would take for each of several texts, without making them."""
        ...

    def check_sentinels(self, length: int) -> None:
        """Raise UserError where a text of `length` tokens would need more sentinels than there are."""
        ...

    def notes(self, length: int) -> tuple[str, ...]:
        """What a user should know of examples made of `length` raw tokens, a sentence each."""
        ...


class Made:
    """What most objectives share: one kind of example, no needs; a single example is a batch of one."""

    @property
    def needs(self) -> frozenset[str]:
        """Nothing beside tokens."""
        return frozenset()

    @property
    def mode_count(self) -> int:
        """One kind."""
        return 1

    def modes(self, documents: Ints, *, seed: int, epoch: int) -> Ints:
        """All of one kind."""
        return np.zeros(len(documents), dtype=np.int64)

    def examples(self, texts: Texts) -> Examples:
        """The examples of several texts at once."""
        raise NotImplementedError

    def example(self, tokens: Ints, key: Key, *, ends: bool = True, **flags: Any) -> Example:
        """The example of one text. `flags`: `words`, `sentences`, [n] bool each, where the objective needs them."""
        from assay.objectives.ragged import Texts

        return self.examples(Texts.one(tokens, key, ends=ends, **flags))[0]

    @property
    def varies(self) -> bool:
        """Where there are kinds."""
        return self.mode_count > 1

    def raw_length(self, capacity: Lengths, *, ends: bool = False, mode: int = 0) -> int:
        """How many raw tokens one example of a kind may take so that it always fits."""
        raise NotImplementedError

    def fitting(self, capacity: Lengths, numbers: Ints, *, seed: int, epoch: int) -> Ints:
        """[n] what fits, by each piece's kind."""
        lengths = np.array([self.raw_length(capacity, ends=True, mode=mode) for mode in range(self.mode_count)])
        return lengths[self.modes(numbers, seed=seed, epoch=epoch)]

    def check_sentinels(self, length: int) -> None:
        """Needs none."""

    def notes(self, length: int) -> tuple[str, ...]:
        """Nothing to say."""
        return ()


def join(*parts: Ints | int | None) -> Ints:
    """One int64 array of token ids from arrays, single ids and None (nothing)."""
    given = [np.atleast_1d(np.asarray(part, dtype=np.int64)) for part in parts if part is not None]
    return np.concatenate(given)


def decoder_only(sequence: Ints, prefix: int, first: int) -> Example:
    """An example of one stack: position i predicts token i + 1, and counts from target index `first` on."""
    weights = np.ones(len(sequence) - 1, dtype=np.float32)
    weights[:first] = 0
    return Example(inputs=sequence[:-1], targets=sequence[1:], weights=weights, prefix=prefix)


def encoder_decoder(inputs: Ints, targets: Ints, vocabulary: Vocabulary) -> Example:
    """An example of two stacks: the decoder reads its start token, then the targets but the last."""
    assert vocabulary.decoder_start is not None
    return Example(
        inputs=inputs,
        targets=targets,
        weights=np.ones(len(targets), dtype=np.float32),
        decoder_inputs=join(vocabulary.decoder_start, targets[:-1]),
    )
