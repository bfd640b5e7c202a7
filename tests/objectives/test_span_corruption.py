"""T5's span corruption against its definition, and its randomness against exact distributions."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.objectives.common import SENTINELS, VOCABULARY, agrees, build, equally, many, text

from assay.errors import UserError
from assay.objectives import Key, Lengths, SpanCorruption, Vocabulary, make
from assay.objectives.draws import draws
from assay.objectives.span_corruption import noise_counts, segmentations
from assay.spec.objective import ObjectiveSpec

lengths = st.integers(2, 300)
densities = st.floats(0.05, 0.9)
means = st.floats(1, 20)
keys = st.builds(Key, st.integers(0, 2**40), st.integers(0, 1000), st.integers(0, 2**40))


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
    example = SpanCorruption("encoder_decoder", VOCABULARY, density, mean).example(text(length), key)
    asked = set(example.targets.tolist())
    mask = [token in asked for token in text(length).tolist()]
    runs = [value for value, _ in itertools.groupby(mask)]
    assert sum(mask) == noise
    assert runs == [False, True] * spans  # what stays comes first, a span last
    for side in (example.inputs, example.targets):
        used = [token for token in side.tolist() if token in SENTINELS]
        assert used == list(SENTINELS[:spans])  # decreasing from the vocabulary's end, each once
    assert len(example.inputs) == length - noise + spans + 1
    assert len(example.targets) == noise + spans + 1
    assert example.targets[0] == SENTINELS[0]  # and no closing sentinel:
    assert example.targets[-2] not in SENTINELS


@given(lengths, densities, means, keys)
def test_targets_are_the_same_function_of_the_complement(length, density, mean, key):
    """T5's own definition, one token after the other: the first token of each run becomes the next sentinel."""
    example = SpanCorruption("encoder_decoder", VOCABULARY, density, mean).example(text(length), key)
    asked = set(example.targets.tolist())
    mask = [token in asked for token in text(length).tolist()]

    def replaced(noise: list[bool]) -> list[int]:
        found, number = [], 0
        for i, token in enumerate(text(length).tolist()):
            if not noise[i]:
                found.append(token)
            elif i == 0 or not noise[i - 1]:
                found.append(SENTINELS[number])
                number += 1
        return found

    assert example.inputs[:-1].tolist() == replaced(mask)
    assert example.targets[:-1].tolist() == replaced([not value for value in mask])


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
    ways = [
        tuple(np.diff((0, *cuts, items)).tolist()) for cuts in itertools.combinations(range(1, items), segments - 1)
    ]
    count = 200 * len(ways)
    found = segmentations(np.full(count, items), np.full(count, segments), draws(0, 0, np.arange(count), 1))
    assert agrees(Counter(map(tuple, found.reshape(count, segments).tolist())), equally(ways))


def test_the_enumeration_tells_other_ways_of_cutting():
    """Control: cutting piece by piece, each uniform over what is left, favours long first pieces and is found out."""
    generator, count = np.random.default_rng(0), 2000
    ways = [tuple(np.diff((0, *cuts, 6)).tolist()) for cuts in itertools.combinations(range(1, 6), 2)]
    first = generator.integers(1, 5, count)
    second = 1 + (generator.random(count) * (5 - first)).astype(int)
    seen = Counter((int(a), int(b), int(6 - a - b)) for a, b in zip(first, second, strict=True))
    assert set(seen) == set(ways) and not agrees(seen, equally(ways))


def test_the_restoration_tells_swapped_spans():
    """Control: spans behind each other's sentinels do not restore the text."""
    example = SpanCorruption("encoder_decoder", VOCABULARY, 0.3, 2).example(text(40), Key(0))
    swapped = example.targets.copy()
    swapped[example.targets == SENTINELS[0]], swapped[example.targets == SENTINELS[1]] = SENTINELS[1], SENTINELS[0]
    assert restore(example.inputs[:-1], example.targets[:-1]) == text(40).tolist()
    assert restore(example.inputs[:-1], swapped[:-1]) != text(40).tolist()


def test_both_cuts_are_drawn_apart():
    """All pairs of cuts of noise and rest are equally likely: 12 tokens, 6 of noise in 2 spans."""
    objective = SpanCorruption("encoder_decoder", VOCABULARY, 0.5, 3)
    seen = Counter()
    examples = objective.examples(many(12, 5000))
    for inputs, targets in zip(examples.inputs.reshape(5000, -1), examples.targets.reshape(5000, -1), strict=True):
        signs, spans = np.flatnonzero(inputs >= SENTINELS[-1]), np.flatnonzero(targets >= SENTINELS[-1])
        seen[int(signs[0]), int(spans[1]) - 1] += 1  # tokens before the first span, tokens in it
    assert agrees(seen, equally(list(itertools.product(range(1, 6), range(1, 6)))))


@pytest.mark.parametrize("family", ["causal", "prefix", "encoder_decoder"])
def test_the_masked_lm_of_decoders_is_span_corruption(family):
    """Wang et al. 2022."""
    assert build("mlm", family) == build("span_corruption", family)


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
