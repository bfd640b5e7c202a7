"""GLM's blank infilling against its definition and exact distributions."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.objectives.common import NAMED, VOCABULARY, agrees, build, equally, many, text

from assay.objectives import GLM, Example, Key

BLANK, LONG, SOP, EOP = (NAMED[name] for name in ("[MASK]", "[gMASK]", "<sop>", "<eop>"))
BLANKS, SUFFIX = {"gmask": 0.0}, {"gmask": 1.0}
keys = st.builds(Key, st.integers(0, 2**40), st.integers(0, 1000), st.integers(0, 2**40))


def parts(example: Example) -> tuple[list[int], list[list[int]], list[int]]:
    """The context, the spans as they are written, and the place in the context that each one's positions name."""
    starts = np.flatnonzero(example.inputs == SOP)
    context = example.inputs[: starts[0]].tolist()
    spans, places = [], []
    for begin, end in zip(starts, [*starts[1:], len(example.inputs)], strict=True):
        assert example.targets[end - 1] == EOP
        span = example.targets[begin : end - 1].tolist()
        assert example.inputs[begin + 1 : end].tolist() == span  # each token is the next one's input
        assert (example.weights[begin:end] == 1).all()
        first, second = example.positions[:, begin:end]
        assert (first == first[0]).all() and second.tolist() == list(range(1, len(span) + 2))
        spans.append(span)
        places.append(int(first[0]))
    return context, spans, places


def restored(example: Example) -> list[int]:
    """The text: each blank of the context replaced by the span whose positions point at it."""
    context, spans, places = parts(example)
    assert sorted(places) == [i for i, token in enumerate(context) if token in (BLANK, LONG)]
    found = []
    for i, token in enumerate(context[1:], start=1):
        found += spans[places.index(i)] if i in places else [token]
    return found


@given(
    length=st.integers(2, 250), key=keys, density=st.floats(0.02, 0.95), mean=st.floats(1, 10), gmask=st.floats(0, 1),
    family=st.sampled_from(["causal", "prefix"]),
)  # fmt: skip
@settings(max_examples=200)
def test_context_and_spans_restore_the_text(length, key, density, mean, gmask, family):
    example = GLM(family, VOCABULARY, density, mean, gmask).example(text(length), key)
    context, spans, _ = parts(example)
    assert restored(example) == text(length).tolist()
    assert context[0] == VOCABULARY.bos and all(spans)
    first = example.positions[:, : len(context)]
    assert first[0].tolist() == list(range(len(context))) and not first[1].any()
    assert not example.weights[: len(context)].any()  # `<sop>` predicts the first token, the context nothing
    assert example.prefix == (len(context) if family == "prefix" else 0)
    if LONG in context:
        assert len(spans) == 1 and context[-1] == LONG and context.count(LONG) == 1
        return
    budget = max(int(density * length), 1)
    covered = sum(map(len, spans))
    assert covered >= min(budget, length - len(spans) - 1)  # unless there is no room for more
    assert not any(a == b == BLANK for a, b in itertools.pairwise(context))  # a token between two blanks
    assert len(spans) <= length - covered


def test_three_in_ten_have_blanks():
    kinds = build("glm", "prefix").modes(np.arange(20000), seed=3, epoch=1)
    assert agrees(Counter(kinds.tolist()), {0: 0.3, 1: 0.7})
    example = build("glm", "prefix").examples(many(20, 200))
    assert Counter(int(LONG in example[i].inputs) for i in range(200))[1] == sum(
        build("glm", "prefix").modes(np.arange(200), seed=0, epoch=0)
    )


def test_suffixes_are_uniform():
    examples = build("glm", "prefix", **SUFFIX).examples(many(12, 5000))
    sizes = [len(parts(examples[i])[1][0]) for i in range(5000)]
    assert agrees(Counter(sizes), equally(list(range(1, 12))))


def blank_chances(length: int, density: float, mean: float) -> dict[frozenset, float]:
    """Exact chances of every set of (start, end): lengths drawn to the budget, all places with a gap equally likely."""
    budget = max(int(density * length), 1)
    p = [math.exp(-mean) * mean**k / math.factorial(k) for k in range(60)]
    p = [0.0] + [value / (1 - p[0]) for value in p[1:]]
    found: Counter = Counter()

    def draw(lengths: tuple[int, ...], chance: float) -> None:
        if sum(lengths) >= budget:
            return place(lengths, chance)
        room = length - sum(lengths) - len(lengths) - 1
        if room < 1:
            return place(lengths, chance)
        for k in range(1, room):
            draw((*lengths, k), chance * p[k])
        tail = chance * (1 - sum(p[:room]))  # trimmed to the room that there is
        return place((*lengths, room), tail)

    def place(lengths: tuple[int, ...], chance: float) -> None:
        kept = length - sum(lengths)
        ways = list(itertools.combinations(range(kept + 1), len(lengths)))
        for way in ways:
            begin, spans = 0, set()
            for place_, size in zip(way, lengths, strict=True):
                spans.add((place_ + begin, place_ + begin + size))
                begin += size
            found[frozenset(spans)] += chance / len(ways)

    draw((), 1.0)
    assert sum(found.values()) == pytest.approx(1)
    return found


@pytest.mark.parametrize(("length", "density", "mean"), [(7, 0.3, 3.0), (8, 0.4, 1.5), (4, 0.15, 3.0)])
def test_blanks_have_the_published_distribution(length, density, mean):
    examples = build("glm", "prefix", density=density, mean_span=mean, **BLANKS).examples(many(length, 5000))
    seen: Counter = Counter()
    for i in range(5000):
        spans = parts(examples[i])[1]
        seen[frozenset((span[0] - 11, span[-1] - 10) for span in spans)] += 1
    assert agrees(seen, blank_chances(length, density, mean))


def test_spans_are_written_in_random_order():
    examples = build("glm", "prefix", density=0.3, mean_span=1.0, **BLANKS).examples(many(14, 5000))
    orders = []
    for i in range(5000):
        places = parts(examples[i])[2]
        if len(places) == 3:
            orders.append(tuple(np.argsort(places).tolist()))
    assert len(orders) > 500 and agrees(Counter(orders), equally(list(itertools.permutations(range(3)))))


@given(length=st.integers(2, 100), key=keys)
def test_one_row_of_positions(length, key):
    """GLM-130B: counts on with [gMASK], stays at the blank with [MASK]."""
    two, one = (build("glm", "prefix", axes=axes).example(text(length), key) for axes in (2, 1))
    assert np.array_equal(two.inputs, one.inputs) and one.positions.shape == one.inputs.shape
    if LONG in one.inputs:
        assert one.positions.tolist() == list(range(len(one.inputs)))
    else:
        assert np.array_equal(one.positions, two.positions[0])


def test_a_causal_decoder_reads_the_same_without_a_prefix():
    prefix, causal = (build("glm", family).example(text(50), Key(1)) for family in ("prefix", "causal"))
    assert prefix.prefix > 0 == causal.prefix
    for name in ("inputs", "targets", "weights", "positions"):
        assert np.array_equal(getattr(prefix, name), getattr(causal, name))
