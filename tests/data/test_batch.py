"""Rows of equal fill are laid out without a mask, and hold what rows of unequal fill would."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.data.batch import _Side


def by_hand(values, counts, lengths, room, fill):
    """Row by row."""
    table, taken, example = np.full((len(counts), room), fill), 0, 0
    for row, count in enumerate(counts):
        length = sum(lengths[example : example + count])
        table[row, :length] = values[taken : taken + length]
        taken, example = taken + length, example + count
    return table


@given(
    st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=3), min_size=1, max_size=5),
    st.integers(0, 3),
    st.booleans(),
)
def test_values_lie_in_their_rows(rows, spare, even):
    rows = [rows[0]] * len(rows) if even else rows
    lengths = np.array([length for row in rows for length in row])
    counts, room = np.array([len(row) for row in rows]), max(map(sum, rows)) + spare
    values = np.arange(1, lengths.sum() + 1)
    side = _Side(lengths, counts, room)
    assert np.array_equal(side.put(values, -7), by_hand(values, counts, lengths, room, -7))
    documents = np.concatenate([np.repeat(np.arange(1, len(row) + 1), row) for row in rows])
    assert np.array_equal(side.documents, by_hand(documents, counts, lengths, room, 0))


def test_a_row_that_is_too_short_is_seen():
    with pytest.raises(AssertionError, match="longer than the row"):
        _Side(np.array([3, 3]), np.array([2]), 5)
