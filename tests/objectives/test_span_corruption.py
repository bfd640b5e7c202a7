"""T5's span corruption against its definition, and its randomness against exact distributions."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import UserError
from assay.objectives import Key, Lengths, SpanCorruption, Vocabulary, make
from assay.objectives.span_corruption import noise_counts, noise_mask, replace_spans, segmentation
from assay.spec.objective import ObjectiveSpec

SENTINELS = tuple(range(999, 799, -1))
VOCABULARY = Vocabulary(size=1000, pad=0, eos=1, bos=2, decoder_start=0, sentinels=SENTINELS)

lengths = st.integers(2, 300)
densities = st.floats(0.05, 0.9)
means = st.floats(1, 20)
keys = st.builds(Key, st.integers(0, 2**40), st.integers(0, 1000), st.integers(0, 2**40))


def text(length: int) -> np.ndarray:
    """Tokens all different, so that any change of order shows."""
    return np.arange(10, 10 + length)


def restore(inputs: np.ndarray, targets: np.ndarray) -> list[int]:
    """The original text: each sentinel of the inputs replaced by the tokens behind it in the targets."""
    spans: dict[int, list[int]] = {}
    for token in targets:
        if token in SENTINELS:
            current = spans.setdefault(int(token), [])
        else:
            current.append(int(token))
    return [t for token in inputs for t in (spans[int(token)] if token in SENTINELS else [int(token)])]


@given(lengths, densities, means, keys)
def test_inputs_and_targets_restore_the_text(length, density, mean, key):
    objective = SpanCorruption("encoder_decoder", VOCABULARY, density, mean)
    example = objective.example(text(length), key)
    assert example.inputs[-1] == example.targets[-1] == VOCABULARY.eos
    assert restore(example.inputs[:-1], example.targets[:-1]) == text(length).tolist()


@given(lengths, densities, means, keys)
def test_counts_and_sentinels_are_t5s(length, density, mean, key):
    noise = min(max(round(length * density), 1), length - 1)
    spans = min(max(round(noise / mean), 1), noise, length - noise)
    mask = noise_mask(length, key.generator(), density, mean)
    runs = [(value, len(list(group))) for value, group in itertools.groupby(mask.tolist())]
    assert mask.sum() == noise
    assert [value for value, _ in runs] == [False, True] * spans  # what stays comes first, a span last

    example = SpanCorruption("encoder_decoder", VOCABULARY, density, mean).example(text(length), key)
    for side in (example.inputs, example.targets):
        used = [token for token in side.tolist() if token in SENTINELS]
        assert used == list(SENTINELS[:spans])  # decreasing from the vocabulary's end, each once
    assert len(example.inputs) == length - noise + spans + 1
    assert len(example.targets) == noise + spans + 1
    assert example.targets[0] == SENTINELS[0]  # and no closing sentinel:
    assert example.targets[-2] not in SENTINELS


@given(lengths, keys)
def test_targets_are_the_same_function_of_the_complement(length, key):
    mask = noise_mask(length, key.generator())
    example = SpanCorruption("encoder_decoder", VOCABULARY).example(text(length), key)
    sentinels = np.array(SENTINELS)
    assert example.inputs[:-1].tolist() == replace_spans(text(length), mask, sentinels).tolist()
    assert example.targets[:-1].tolist() == replace_spans(text(length), ~mask, sentinels).tolist()


def test_published_lengths():
    # T5: 512 inputs take 568 raw tokens and give 114 targets.
    objective = SpanCorruption("encoder_decoder", VOCABULARY)
    assert objective.decoder_length(512) == 114
    assert objective.raw_length(Lengths(512, 114)) == 568
    noise, spans = noise_counts(568, 0.15, 3.0)
    assert (noise, spans) == (85, 28)


@pytest.mark.parametrize("family", ["causal", "prefix", "encoder_decoder"])
@given(length=st.integers(8, 400), density=densities, mean=means)
def test_raw_length_is_the_longest_that_fits(family, length, density, mean):
    objective = SpanCorruption(family, VOCABULARY, density, mean)
    capacity = Lengths(length, objective.decoder_length(length))
    longest = objective.raw_length(capacity)
    raw = np.arange(2, longest + 40)
    inputs, decoder = objective.sizes(raw, raw > 0, raw, seed=0, epoch=0)
    fits = (inputs <= length) & (True if decoder is None else decoder <= capacity.decoder)
    assert raw[fits].max(initial=0) == longest


@pytest.mark.parametrize(("items", "segments"), [(5, 1), (6, 3), (7, 2), (5, 5), (8, 4)])
def test_segmentations_are_equally_likely(items, segments):
    """Chi-square against the exact enumeration of all ways to cut."""
    ways = [tuple(np.diff((0, *cuts, items))) for cuts in itertools.combinations(range(1, items), segments - 1)]
    draws = 200 * len(ways)
    seen = Counter(
        tuple(segmentation(items, segments, Key(0, 0, number).generator()).tolist()) for number in range(draws)
    )
    assert set(seen) <= set(ways)
    statistic = sum((seen[way] - 200) ** 2 / 200 for way in ways)
    freedom = len(ways) - 1
    # Wilson-Hilferty: the 99.99% point of chi-square
    limit = freedom * (1 - 2 / (9 * freedom) + 3.72 * math.sqrt(2 / (9 * freedom))) ** 3 if freedom else 0
    assert statistic <= limit


def test_the_chi_square_test_has_power():
    """Control: cutting a stick by geometric lengths is caught by the same statistic."""
    ways = [tuple(np.diff((0, *cuts, 6))) for cuts in itertools.combinations(range(1, 6), 2)]
    generator = np.random.default_rng(0)

    def greedy() -> tuple[int, ...]:
        first = generator.integers(1, 5)
        second = generator.integers(1, 6 - first)
        return int(first), int(second), int(6 - first - second)

    seen = Counter(greedy() for _ in range(200 * len(ways)))
    freedom = len(ways) - 1
    limit = freedom * (1 - 2 / (9 * freedom) + 3.72 * math.sqrt(2 / (9 * freedom))) ** 3
    assert sum((seen[way] - 200) ** 2 / 200 for way in ways) > limit


@given(lengths, keys)
def test_decoders_read_the_inputs_then_predict_the_targets(length, key):
    both = SpanCorruption("encoder_decoder", VOCABULARY).example(text(length), key)
    prefix = SpanCorruption("prefix", VOCABULARY).example(text(length), key)
    causal = SpanCorruption("causal", VOCABULARY).example(text(length), key)
    sequence = [VOCABULARY.bos, *both.inputs, *both.targets]
    assert prefix.inputs.tolist() == sequence[:-1] and prefix.targets.tolist() == sequence[1:]
    assert prefix.prefix == 1 + len(both.inputs)  # bos and the corrupted text, eos included
    assert np.flatnonzero(prefix.weights)[0] == prefix.prefix - 1  # the last prefix token predicts
    assert prefix.targets[prefix.weights > 0].tolist() == both.targets.tolist()
    assert causal.prefix == 0
    assert np.array_equal(causal.inputs, prefix.inputs) and np.array_equal(causal.weights, prefix.weights)


def test_decoder_inputs_are_shifted_targets():
    example = SpanCorruption("encoder_decoder", VOCABULARY).example(text(50), Key(1, 2, 3))
    assert example.decoder_inputs.tolist() == [VOCABULARY.decoder_start, *example.targets[:-1]]


def test_too_few_sentinels_is_told_with_the_number():
    few = Vocabulary(size=1000, pad=0, eos=1, bos=2, decoder_start=0, sentinels=SENTINELS[:8])
    with pytest.raises(UserError, match=r"28 spans.*8 sentinels.*28 or more"):
        make(ObjectiveSpec(kind="span_corruption"), "encoder_decoder", few, (512, None))
    with pytest.raises(UserError, match="8 sentinels"):
        SpanCorruption("causal", few).example(text(568), Key(0))
