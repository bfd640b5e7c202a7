"""BART's noising against its definition, and its chances against exact enumeration on short texts."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.objectives.common import VOCABULARY, agrees, build, equally, many, text

from assay.objectives import Bart, Key
from assay.objectives.poisson import most_spans
from assay.spec.objective import ObjectiveSpec

MASK, EOS = VOCABULARY.mask, VOCABULARY.eos
OFF = {"infilling": 0.0, "permutation": 0.0}
keys = st.builds(Key, st.integers(0, 2**40), st.integers(0, 1000), st.integers(0, 2**40))


def noised(objective: Bart, length: int, count: int, **flags) -> list[tuple[int, ...]]:
    """Damaged texts of `count` keys, without their end."""
    examples = objective.examples(many(length, count, **flags))
    ends = np.cumsum(examples.input_lengths)
    return [tuple(row[:-1].tolist()) for row in np.split(examples.inputs, ends[:-1])]


def only(**settings) -> Bart:
    return build("bart", "encoder_decoder", **(OFF | settings))


def test_the_published_mixture_is_the_default():
    spec = ObjectiveSpec(kind="bart")
    assert (spec.infilling, spec.mean_span, spec.permutation) == (0.3, 3.0, 1.0)
    assert spec.masking == spec.deletion == spec.rotation == 0


@given(
    length=st.integers(2, 200), key=keys, infilling=st.floats(0, 0.9), masking=st.floats(0, 0.9), mean=st.floats(1, 10),
    deletion=st.floats(0, 0.9), rotation=st.floats(0, 1), permutation=st.floats(0, 1),
)  # fmt: skip
@settings(max_examples=150)
def test_any_mixture_asks_for_the_whole_text(length, key, infilling, masking, mean, deletion, rotation, permutation):
    objective = Bart("encoder_decoder", VOCABULARY, infilling, mean, permutation, masking, deletion, rotation)
    sentences = np.random.default_rng(length).random(length) < 0.2
    example = objective.example(text(length), key, sentences=sentences)
    assert example.targets.tolist() == [*text(length).tolist(), EOS]
    assert example.decoder_inputs.tolist() == [VOCABULARY.decoder_start, *text(length).tolist()]
    assert example.inputs[-1] == EOS and (example.weights == 1).all()
    shown = [t for t in example.inputs[:-1].tolist() if t != MASK]
    assert len(set(shown)) == len(shown) and set(shown) <= set(text(length).tolist())  # each at most once
    gone = min(math.ceil(round(deletion * length, 9)), length - 1) if deletion else 0
    covered = math.ceil(round(infilling * (length - gone), 9))
    assert len(shown) >= length - gone - covered - math.ceil(round(masking * length, 9))
    assert len(shown) <= length - gone - covered


@given(length=st.integers(2, 300), key=keys, share=st.floats(0.01, 0.95), mean=st.floats(1, 10))
def test_infilling_covers_its_share_with_one_mask_a_span(length, key, share, mean):
    inputs = only(infilling=share, mean_span=mean).example(text(length), key).inputs[:-1]
    shown = inputs[inputs != MASK]
    covered = math.ceil(round(share * length, 9))
    assert len(shown) == length - covered and (np.diff(shown) > 0).all()
    masks = len(inputs) - len(shown)
    assert 1 <= masks <= most_spans(np.array([covered]), mean, 0)[0]
    # where tokens are missing there is a mask; a mask where none are missing was inserted
    whole = np.concatenate([[10], shown, [11 + length]])
    assert (np.diff(whole) > 1).sum() <= masks


def infilled_chances(length: int, share: float, mean: float) -> dict[tuple[int, ...], float]:
    """Exact chances of every noised text: all length draws, all orders of them, all places."""
    budget = math.ceil(share * length)
    most = int(most_spans(np.array([budget]), mean, 0)[0])
    p = [math.exp(-mean) * mean**k / math.factorial(k) for k in range(60)]
    found: Counter = Counter()

    def draw(lengths: tuple[int, ...], chance: float) -> None:
        left = budget - sum(lengths)
        if left == 0:
            place(lengths, chance)
        elif len(lengths) < most:
            for k in range(left):
                draw((*lengths, k), chance * p[k])
            draw((*lengths, left), chance * (1 - sum(p[:left])))  # reached: trimmed

    def place(lengths: tuple[int, ...], chance: float) -> None:
        orders = list(itertools.permutations(lengths))
        ways = list(itertools.combinations(range(length - budget + len(lengths)), len(lengths)))
        for order in orders:
            for way in ways:
                source, spans, result = iter(text(length).tolist()), iter(order), []
                for i in range(length - budget + len(lengths)):
                    if i in way:
                        for _ in range(next(spans)):
                            next(source)
                        result.append(MASK)
                    else:
                        result.append(next(source))
                found[tuple(result)] += chance / len(orders) / len(ways)

    draw((), 1.0)
    total = sum(found.values())
    assert 1 - total < 2e-3  # what draws again
    return {key: value / total for key, value in found.items()}


@pytest.mark.parametrize(("length", "share", "mean"), [(5, 0.3, 3.0), (6, 0.5, 3.0), (4, 0.2, 3.0)])
def test_infilling_has_the_published_distribution(length, share, mean):
    seen = Counter(noised(only(infilling=share, mean_span=mean), length, 12000))
    assert agrees(seen, infilled_chances(length, share, mean))


def test_the_enumeration_tells_spans_of_one_from_poisson():
    """Control: single-token masks in place of spans are not taken for infilling."""
    seen = Counter(noised(only(masking=0.3), 5, 12000))
    with pytest.raises(AssertionError, match="never expected"):
        assert agrees(seen, {k: v for k, v in infilled_chances(5, 0.3, 3.0).items() if MASK not in k[1:]})
    assert not agrees(seen, {**dict.fromkeys(seen, 1e-9), **infilled_chances(5, 0.3, 3.0)})


SENTENCES = {"sentences": [1, 0, 0, 1, 1, 0, 1, 0]}  # of 3, 1, 2 and 2 tokens


def joined(order: tuple[int, ...]) -> tuple[int, ...]:
    parts = np.split(text(8), [3, 4, 6])
    return tuple(np.concatenate([parts[i] for i in order]).tolist())


def test_all_orders_of_sentences_are_equally_likely():
    orders = [joined(order) for order in itertools.permutations(range(4))]
    assert agrees(Counter(noised(only(permutation=1.0), 8, 6000, **SENTENCES)), equally(orders))


def test_a_share_of_the_sentences_changes_places():
    """Half of 4: each pair equally likely, and swapped half of the time."""
    chances: Counter = Counter({joined((0, 1, 2, 3)): 0.5})
    for a, b in itertools.combinations(range(4), 2):
        order = list(range(4))
        order[a], order[b] = b, a
        chances[joined(tuple(order))] += 1 / 12
    assert agrees(Counter(noised(only(permutation=0.5), 8, 6000, **SENTENCES)), chances)


def test_text_without_boundaries_is_one_sentence():
    assert noised(only(permutation=1.0), 8, 5) == [tuple(text(8).tolist())] * 5
    # and what stands before the first one belongs to a sentence of its own
    found = set(noised(only(permutation=1.0), 4, 100, sentences=[0, 0, 1, 0]))
    assert found == {(11, 12, 13, 14), (13, 14, 11, 12)}


def test_token_masking_and_deletion():
    ways = list(itertools.combinations(range(6), 2))
    masked = [tuple(MASK if i in way else 11 + i for i in range(6)) for way in ways]
    assert agrees(Counter(noised(only(masking=0.3), 6, 6000)), equally(masked))
    deleted = [tuple(11 + i for i in range(6) if i not in way) for way in ways]
    assert agrees(Counter(noised(only(deletion=0.3), 6, 6000)), equally(deleted))


def test_rotation():
    rolled = [tuple(np.roll(text(5), -k).tolist()) for k in range(5)]
    assert agrees(Counter(noised(only(rotation=1.0), 5, 4000)), equally(rolled))
    chances = {row: 0.3 / 5 + 0.7 * (i == 0) for i, row in enumerate(rolled)}
    assert agrees(Counter(noised(only(rotation=0.3), 5, 4000)), chances)


@given(length=st.integers(2, 80), key=keys)
def test_decoders_read_the_damaged_text_then_write_the_text(length, key):
    both, prefix, causal = (
        build("bart", family, permutation=0.0).example(text(length), key)
        for family in ("encoder_decoder", "prefix", "causal")
    )
    sequence = [VOCABULARY.bos, *both.inputs, *both.targets]
    assert prefix.inputs.tolist() == causal.inputs.tolist() == sequence[:-1]
    assert prefix.prefix == 1 + len(both.inputs) and causal.prefix == 0
    assert np.flatnonzero(prefix.weights)[0] == prefix.prefix - 1  # the last prefix token predicts the first target
    assert prefix.targets[prefix.weights > 0].tolist() == both.targets.tolist()
    assert np.array_equal(prefix.weights, causal.weights)
