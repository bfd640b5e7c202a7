"""Random numbers by address, and subsets drawn from them, against exact distributions."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.objectives.common import agrees, equally

from assay.objectives.draws import draws, halves, subsets, within
from assay.objectives.poisson import most_spans, poisson, spans_covering


def test_a_number_depends_on_its_address_alone():
    documents = np.arange(50)
    counts = np.arange(50) % 7
    whole = draws(3, 1, documents, 2).uniform(counts)
    begin = np.cumsum(counts) - counts
    for i in (0, 6, 33):
        alone = draws(3, 1, [i], 2)
        assert alone.uniform(counts[[i]]).tolist() == whole[begin[i] : begin[i] + counts[i]].tolist()
        # later numbers of the stream, asked for first
        assert alone.uniform(np.array([2]), np.array([4])).tolist() == alone.uniform(np.array([6])).tolist()[4:]
        assert alone.first(3) == alone.uniform(np.array([4]))[3]


def test_streams_are_uniform_and_unrelated():
    addresses = itertools.product(range(2), range(2), range(2))
    rows = np.stack([draws(s, e, np.arange(20000), n).first(k) for s, e, n in addresses for k in range(2)])
    assert (rows >= 0).all() and (rows < 1).all()
    assert np.abs(rows.mean(1) - 0.5).max() < 0.01 and np.abs(rows.var(1) - 1 / 12).max() < 0.003
    assert np.abs(np.corrcoef(rows) - np.eye(len(rows))).max() < 0.04
    assert np.abs(np.corrcoef(rows[0, :-1], rows[0, 1:])[0, 1]) < 0.04  # over neighbours
    counts = np.stack([np.histogram(row, 64, (0, 1))[0] for row in rows])
    assert (((counts - 20000 / 64) ** 2).sum(1) / (20000 / 64)).max() < 120  # 63 degrees of freedom


@given(
    sizes=st.lists(st.tuples(st.integers(0, 60), st.floats(0, 1)), min_size=1, max_size=8),
    seed=st.integers(0, 2**63), lead=st.booleans(),
)  # fmt: skip
def test_subsets_have_their_sizes_and_stand_alone(sizes, seed, lead):
    items = np.array([n for n, _ in sizes])
    chosen = np.array([round(n * share) for n, share in sizes])
    table = subsets(items, chosen, draws(seed, 0, np.arange(len(items)), 1), lead=lead)
    rows = np.split(table, np.cumsum(items + lead)[:-1])
    assert [row[lead:].sum() for row in rows] == chosen.tolist()
    assert not lead or all(row[0] for row in rows)
    for i, row in enumerate(rows):  # as if the others were not there
        alone = subsets(items[[i]], chosen[[i]], draws(seed, 0, [i], 1), lead=lead)
        assert alone.tolist() == row.tolist()


@pytest.mark.parametrize(("items", "chosen"), [(5, 1), (6, 3), (7, 5), (8, 4), (4, 4), (9, 2)])
def test_subsets_are_equally_likely(items, chosen):
    ways = list(itertools.combinations(range(items), chosen))
    count = 200 * len(ways)
    table = subsets(np.full(count, items), np.full(count, chosen), draws(5, 0, np.arange(count), 1))
    seen = Counter(tuple(np.flatnonzero(row).tolist()) for row in table.reshape(count, items))
    assert agrees(seen, equally(ways))


def test_the_chi_square_test_has_power():
    """Control: subsets from sorted draws with repetition, pushed apart, are caught by the same statistic."""
    generator = np.random.default_rng(0)
    ways = list(itertools.combinations(range(6), 3))
    found = np.sort(generator.integers(0, 4, (4000, 3)), axis=1) + np.arange(3)
    assert not agrees(Counter(map(tuple, found.tolist())), equally(ways))


def chances(mean: float, least: int, top: int = 40) -> np.ndarray:
    values = [np.exp(-mean)]
    for k in range(1, top):
        values.append(values[-1] * mean / k)
    values = np.array(values)
    values[:least] = 0
    return values / values.sum()


@pytest.mark.parametrize(("mean", "least"), [(3.0, 0), (3.0, 1), (1.0, 0), (12.5, 1)])
def test_poisson_numbers(mean, least):
    drawn = poisson(draws(1, 0, [0], 1).uniform(np.array([20000])), mean, least)
    assert agrees(Counter(drawn.tolist()), dict(enumerate(chances(mean, least).tolist())))


def cover_chances(budget: int, mean: float, least: int) -> dict[int, float]:
    """How many lengths it takes to reach a budget, exactly: a chain over (sum so far)."""
    p = chances(mean, least)
    at, found = {0: 1.0}, {}
    for count in range(1, 60):
        following: dict[int, float] = {}
        for total, chance in at.items():
            for k, share in enumerate(p):
                if share:
                    if total + k >= budget:
                        found[count] = found.get(count, 0) + chance * share
                    else:
                        following[total + k] = following.get(total + k, 0) + chance * share
        at = following
    return found


@pytest.mark.parametrize(("budget", "mean", "least"), [(1, 3.0, 0), (6, 3.0, 0), (19, 3.0, 1), (48, 3.0, 0)])
def test_the_number_of_spans_has_the_published_distribution(budget, mean, least):
    """Up to `most_spans`, beyond which a text draws again: less than 1 in 1,000."""
    exact = cover_chances(budget, mean, least)
    most = int(most_spans(np.array([budget]), mean, least)[0])
    within = {count: chance for count, chance in exact.items() if count <= most}
    beyond = 1 - sum(within.values())
    assert 0 <= beyond < 1e-3
    counts, lengths, before = spans_covering(np.full(6000, budget), draws(2, 0, np.arange(6000), 1), mean, least)
    assert agrees(Counter(counts.tolist()), {c: p / sum(within.values()) for c, p in within.items()})
    assert len(lengths) == len(before) == counts.sum() and (lengths >= least).all()
    last = np.cumsum(counts) - 1
    assert (before[last] < budget).all() and (before[last] + lengths[last] >= budget).all()


def test_texts_that_draw_again_do_not_change_others():
    budget = np.full(3000, 30)
    streams = draws(0, 0, np.arange(3000), 1)
    counts, lengths, _ = spans_covering(budget, streams, 3.0, 0)
    begin = np.cumsum(counts) - counts
    for i in range(0, 3000, 97):
        alone = spans_covering(budget[[i]], streams[[i]], 3.0, 0)
        assert alone[1].tolist() == lengths[begin[i] : begin[i] + counts[i]].tolist()


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 6)), max_size=8))
def test_halves_are_what_counting_and_comparing_gives(stretches):
    first, lengths = (np.array([pair[i] for pair in stretches], dtype=np.int64) for i in (0, 1))
    found = halves(first, lengths, np.array([True, False]))
    assert np.array_equal(found, within(lengths) < np.repeat(first, lengths))
