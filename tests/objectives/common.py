"""What the objectives' tests share: a vocabulary, texts, and the chi-square statistic with its limit."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from assay.data.specials import vocabulary
from assay.objectives import REGISTRY, Objective, Texts, Vocabulary, families, make
from assay.spec.objective import ObjectiveSpec

VOCABULARY = vocabulary(1000, 200)
"""Ids 11 ... 799 stand for text."""
BARE = Vocabulary(size=1000, pad=0)
SENTINELS = VOCABULARY.sentinels
NAMED = VOCABULARY.named
PAIRS = [(kind.value, family) for kind in REGISTRY for family in families(kind)]


def build(kind: str, family: str, vocab: Vocabulary = VOCABULARY, **settings: Any) -> Objective:
    return make(ObjectiveSpec(kind=kind, **settings), family, vocab)


def text(length: int, first: int = 11) -> np.ndarray:
    """Tokens all different, so that any change of order shows."""
    return np.arange(first, first + length)


def texts(lengths: list[int] | np.ndarray, *, seed: int = 0, epoch: int = 0, sentences: float = 0.1) -> Texts:
    """Random texts with boundaries, numbered 0, 1, 2 ..."""
    lengths = np.asarray(lengths)
    generator = np.random.default_rng(seed)
    total = int(lengths.sum())
    return Texts(
        generator.integers(11, 800, total), lengths, np.arange(len(lengths)), np.ones(len(lengths), bool), seed, epoch,
        words=generator.random(total) < 0.4, sentences=generator.random(total) < sentences,
    )  # fmt: skip


def many(length: int, count: int, *, seed: int = 0, **flags: Any) -> Texts:
    """`count` copies of the same text of different tokens, with the same flags."""
    tiled = {name: np.tile(np.asarray(flag, dtype=bool), count) for name, flag in flags.items()}
    return Texts(
        np.tile(text(length), count), np.full(count, length), np.arange(count), np.ones(count, bool), seed, **tiled
    )  # fmt: skip


def limit(freedom: int) -> float:
    """The 99.99% point of chi-square (Wilson & Hilferty 1931)."""
    if freedom == 0:
        return 1e-9
    return freedom * (1 - 2 / (9 * freedom) + 3.72 * math.sqrt(2 / (9 * freedom))) ** 3


def chi_square(seen: Mapping[Any, int], expected: Mapping[Any, float]) -> float:
    """The statistic; outcomes expected less than 5 times are put together."""
    assert set(seen) <= set(expected), f"never expected: {set(seen) - set(expected)}"
    rare = [key for key, value in expected.items() if value < 5]
    common = [key for key in expected if key not in set(rare)]
    pairs = [(seen.get(key, 0), expected[key]) for key in common]
    if rare and (mass := sum(expected[key] for key in rare)) > 0:
        pairs.append((sum(seen.get(key, 0) for key in rare), mass))
    return sum((s - e) ** 2 / e for s, e in pairs)


def agrees(seen: Mapping[Any, int] | list, chances: Mapping[Any, float]) -> bool:
    """Whether counts agree with chances at the 99.99% point."""
    counts = seen if isinstance(seen, Mapping) else Counter(seen)
    total = sum(counts.values())
    expected = {key: total * chance for key, chance in chances.items()}
    classes = sum(value >= 5 for value in expected.values()) + any(value < 5 for value in expected.values())
    return chi_square(counts, expected) <= limit(max(classes - 1, 1))


def equally(outcomes: list[Any]) -> dict[Any, float]:
    return {outcome: 1 / len(outcomes) for outcome in outcomes}
