"""The algebra of masks in NumPy, against enumeration in plain Python, and by token flips."""

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.spec.masks import (
    And,
    Bidirectional,
    Causal,
    MaskFacts,
    Or,
    Padding,
    Prefix,
    Rule,
    SameDocument,
    Table,
    Window,
)

LENGTH = 7


def dense(rule: Rule, facts: MaskFacts, rows: int = 1, queries: int = LENGTH, keys: int = LENGTH) -> np.ndarray:
    """[rows, queries, keys] bool."""
    b, q, k = np.ogrid[:rows, :queries, :keys]
    return np.broadcast_to(rule(b, q, k, facts), (rows, queries, keys))


def facts_of(draw: st.DrawFn, length: int = LENGTH) -> MaskFacts:
    row = st.lists(st.booleans(), min_size=length, max_size=length)
    return MaskFacts(
        prefix=np.array([draw(row)]),
        document_ids=np.array([draw(st.lists(st.integers(0, 3), min_size=length, max_size=length))]),
        key_mask=np.array([draw(row)]),
        blocked=np.array([[draw(row) for _ in range(length)]]),
    )


Seen = Callable[[int, int], bool]


@st.composite
def rules(draw: st.DrawFn) -> tuple[Rule, Seen, MaskFacts]:
    """A rule, the same in plain Python, and what both look up."""
    facts = facts_of(draw)
    size = draw(st.integers(1, LENGTH))
    assert facts.document_ids is not None
    documents = facts.document_ids[0]
    atoms: list[tuple[Rule, Seen]] = [
        (Causal(), lambda q, k: k <= q),
        (Bidirectional(), lambda q, k: True),
        (Window(size), lambda q, k: abs(q - k) < size),
        (Prefix(), lambda q, k: bool(facts.prefix[0][k])),  # type: ignore[index]
        (SameDocument(), lambda q, k: documents[q] == documents[k] != 0),
        (Padding(), lambda q, k: bool(facts.key_mask[0][k])),  # type: ignore[index]
        (Table(), lambda q, k: not facts.blocked[0][q][k]),  # type: ignore[index]
    ]

    def joined(a: tuple[Rule, Seen], b: tuple[Rule, Seen], both: bool) -> tuple[Rule, Seen]:
        if both:
            return a[0] & b[0], lambda q, k: a[1](q, k) and b[1](q, k)
        return a[0] | b[0], lambda q, k: a[1](q, k) or b[1](q, k)

    made = draw(st.sampled_from(atoms))
    for _ in range(draw(st.integers(0, 4))):
        made = joined(made, draw(st.sampled_from(atoms)), draw(st.booleans()))
    return *made, facts


@given(rules())
@settings(max_examples=300)
def test_a_rule_is_its_predicate(case: tuple[Rule, Seen, MaskFacts]) -> None:
    rule, seen, facts = case
    expected = [[seen(q, k) for k in range(LENGTH)] for q in range(LENGTH)]
    assert (dense(rule, facts)[0] == np.array(expected)).all()


@given(rules())
@settings(max_examples=100)
def test_a_rule_asks_for_no_more_than_it_needs(case: tuple[Rule, Seen, MaskFacts]) -> None:
    rule, _, facts = case
    needed = MaskFacts(**{name: getattr(facts, name) for name in rule.needs})
    assert (dense(rule, needed) == dense(rule, facts)).all()


@given(rules())
@settings(max_examples=100)
def test_positions_are_absolute(case: tuple[Rule, Seen, MaskFacts]) -> None:
    # The last rows alone, as with a cache, are the last rows of the whole.
    rule, _, facts = case
    q, k = np.arange(4, LENGTH)[:, None], np.arange(LENGTH)[None, :]
    assert (np.broadcast_to(rule(0, q, k, facts), (3, LENGTH)) == dense(rule, facts)[0, 4:]).all()


def test_joining_is_flat_and_equal_rules_are_equal() -> None:
    a, b, c = Causal(), Window(3), SameDocument()
    assert a & (b & c) == (a & b) & c == And((a, b, c))
    assert a | (b | c) == (a | b) | c == Or((a, b, c))
    assert hash(a & b) == hash(a & b)
    assert Window(3) != Window(4)
    assert str((Causal() | Prefix()) & SameDocument()) == "(causal | prefix) & same document"
    assert (Causal() | Prefix()).needs == {"prefix"}


def attend(seen: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """What each query gathers: the tokens that it sees, mixed so that any change shows."""
    weights = np.arange(1, seen.shape[-1] + 1) * 1000
    return (seen * weights * (tokens + 1)).sum(-1)


def flips(rule: Rule, facts: MaskFacts, length: int = LENGTH) -> np.ndarray:
    """[changed token, query] bool: which outputs change when one token does; nothing but the mask is asked."""
    seen, tokens = dense(rule, facts)[0], np.arange(length)
    before = attend(seen, tokens)
    changed = []
    for position in range(length):
        other = tokens.copy()
        other[position] += 100
        changed.append(attend(seen, other) != before)
    return np.array(changed)


def test_causal_by_flips() -> None:
    changed = flips(Causal(), MaskFacts())
    for token, query in product(range(LENGTH), repeat=2):
        assert changed[token, query] == (token <= query), "outputs before a changed token stay, all after it change"


@pytest.mark.parametrize("border", range(LENGTH + 1))
def test_prefix_by_flips(border: int) -> None:
    facts = MaskFacts(prefix=(np.arange(LENGTH) < border)[None])
    changed = flips(Causal() | Prefix(), facts)
    for token, query in product(range(LENGTH), repeat=2):
        assert changed[token, query] == (token < border or token <= query)


@pytest.mark.parametrize("off", [-1, 1])
def test_the_border_off_by_one_is_seen_by_flips(off: int) -> None:
    # Negative control: the commonest published bug must not pass the test above.
    border = 3
    right = flips(Causal() | Prefix(), MaskFacts(prefix=(np.arange(LENGTH) < border)[None]))
    wrong = flips(Causal() | Prefix(), MaskFacts(prefix=(np.arange(LENGTH) < border + off)[None]))
    assert (right != wrong).any()


def test_a_window_counts_itself() -> None:
    seen = dense(Causal() & Window(4), MaskFacts())[0]
    assert seen.sum(-1).tolist() == [1, 2, 3, 4, 4, 4, 4]


def test_packed_documents_do_not_see_each_other_nor_padding() -> None:
    ids = np.array([[1, 1, 2, 2, 2, 0, 0]])
    prefix = np.array([[True, False, True, True, False, False, False]])
    rule = (Causal() | Prefix()) & SameDocument()
    seen = dense(rule, MaskFacts(prefix=prefix, document_ids=ids))[0]
    own = ids[0][:, None] == ids[0][None, :]
    assert not seen[~own].any()
    assert not seen[5:].any(), "a padding row sees nothing"
    assert not seen[:, 5:].any()
    # Each document alone gives the same.
    for document, length in ((1, 2), (2, 3)):
        where = ids[0] == document
        alone = dense(Causal() | Prefix(), MaskFacts(prefix=prefix[:, where]), queries=length, keys=length)[0]
        assert (seen[np.ix_(where, where)] == alone).all()


def test_cross_attention_matches_documents_of_two_sequences() -> None:
    facts = MaskFacts(document_ids=np.array([[1, 1, 2, 0]]), query_document_ids=np.array([[1, 2, 2]]))
    seen = dense(SameDocument(), facts, queries=3, keys=4)[0]
    assert seen.astype(int).tolist() == [[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0]]


def test_rows_of_a_batch_have_their_own_facts() -> None:
    facts: Any = MaskFacts(prefix=np.array([[True, False, False], [True, True, False]]))
    seen = dense(Causal() | Prefix(), facts, rows=2, queries=3, keys=3)
    assert seen[0, 0].tolist() == [True, False, False]
    assert seen[1, 0].tolist() == [True, True, False]
