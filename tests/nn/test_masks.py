"""Every form of a mask against the rule, spelt out in loops; rows that see nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.nn.common import close
from torch import Tensor

from assay.nn.attention import attend, attend_explicitly
from assay.nn.masks import Visible, block_mask, dense, is_causal, narrow, to_device, visible
from assay.spec.masks import (
    And,
    Bidirectional,
    Causal,
    Mask,
    MaskFacts,
    Or,
    Padding,
    Prefix,
    Rule,
    SameDocument,
    Table,
    Window,
)

LEAVES = st.one_of(
    st.sampled_from([Causal(), Bidirectional(), Prefix(), SameDocument(), Padding(), Table()]),
    st.integers(1, 6).map(Window),
)
RULES = st.recursive(
    LEAVES,
    lambda inner: st.tuples(inner, inner, st.booleans()).map(lambda t: t[0] & t[1] if t[2] else t[0] | t[1]),
    max_leaves=5,
)


def sees(rule: Rule, b: int, q: int, k: int, facts: MaskFacts) -> bool:
    """The meaning of a rule, one pair at a time."""
    match rule:
        case Causal():
            return k <= q
        case Bidirectional():
            return True
        case Window(size):
            return abs(q - k) < size
        case Prefix():
            return bool(facts.prefix[b][k])
        case SameDocument():
            own = facts.document_ids if facts.query_document_ids is None else facts.query_document_ids
            return facts.document_ids[b][k] != 0 and own[b][q] == facts.document_ids[b][k]
        case Padding():
            return bool(facts.key_mask[b][k])
        case Table():
            return not facts.blocked[b][q][k]
        case And(parts):
            return all(sees(part, b, q, k, facts) for part in parts)
        case Or(parts):
            return any(sees(part, b, q, k, facts) for part in parts)
    raise AssertionError(rule)


def brute(mask: Mask, batch: int, queries: int, keys: int, offset: int = 0) -> np.ndarray:
    return np.array(
        [[[sees(mask.rule, b, q + offset, k, mask.facts) for k in range(keys)] for q in range(queries)]
         for b in range(batch)]
    )  # fmt: skip


@st.composite
def facts(draw: Any, batch: int, length: int, queries: int | None = None) -> MaskFacts:
    """Prefixes, packed documents with padding at either end, padding left or right, and a random table."""
    random = np.random.default_rng(draw(st.integers(0, 2**30)))
    prefix, documents, real = np.zeros((3, batch, length), dtype=np.int64)
    for b in range(batch):
        cuts = np.sort(random.integers(0, length + 1, 3))
        for document, (start, stop) in enumerate(((cuts[0], cuts[1]), (cuts[1], cuts[2])), 1):
            documents[b, start:stop] = document
            prefix[b, start : random.integers(start, stop + 1)] = 1
        edge = random.integers(0, length + 1)
        real[b, slice(edge, None) if random.random() < 0.5 else slice(0, edge)] = 1
    return MaskFacts(
        prefix=prefix.astype(bool),
        document_ids=documents,
        query_document_ids=None if queries is None else random.integers(0, 3, (batch, queries)),
        key_mask=real.astype(bool),
        blocked=random.random((batch, queries or length, length)) < 0.3,
    )


@given(data=st.data(), rule=RULES, batch=st.integers(1, 2), length=st.integers(1, 9))
@settings(max_examples=120)
def test_dense_table_is_the_rule(data: Any, rule: Rule, batch: int, length: int) -> None:
    mask = Mask(rule, data.draw(facts(batch, length)))
    table = dense(to_device(mask, "cpu"), length, length)
    expected = brute(mask, batch, length, length)
    assert np.array_equal(table.expand(batch, -1, -1).numpy(), expected)
    last = data.draw(st.integers(1, length))  # with a cache, queries stand at the end of the keys
    assert np.array_equal(dense(to_device(mask, "cpu"), last, length).expand(batch, -1, -1), expected[:, -last:])


def table_of(see: Visible, batch: int, queries: int, keys: int) -> Tensor:
    """Who sees whom according to what SDPA is given."""
    if see.causal:
        assert see.bias is None and see.empty is None and queries == keys
        return torch.ones(queries, keys, dtype=torch.bool).tril().expand(batch, -1, -1)
    table = torch.ones(batch, queries, keys, dtype=torch.bool)
    if see.bias is not None:
        assert set(see.bias.unique().tolist()) <= {0.0, -torch.inf}
        table = table & (see.bias[:, 0] == 0)
    return table if see.empty is None else table & ~see.empty[:, 0]


@given(data=st.data(), rule=RULES, batch=st.integers(1, 2), length=st.integers(1, 9))
@settings(max_examples=120)
def test_sdpa_form_is_the_rule(data: Any, rule: Rule, batch: int, length: int) -> None:
    mask = Mask(rule, data.draw(facts(batch, length)))
    queries = data.draw(st.integers(1, length))
    see = visible(to_device(mask, "cpu"), queries, length, device="cpu", dtype=torch.float32)
    expected = brute(mask, batch, queries, length, length - queries)
    assert np.array_equal(table_of(see, batch, queries, length).numpy(), expected)
    if see.bias is not None:
        assert (see.bias == 0).any(-1).all(), "every row keeps a key, or softmax gives NaN"
    bias = torch.randn(1, 2, queries, length)
    with_bias = visible(to_device(mask, "cpu"), queries, length, device="cpu", dtype=torch.float32, bias=bias)
    assert with_bias.bias is not None and not with_bias.causal
    plain = torch.where(torch.from_numpy(expected)[:, None], bias, -torch.inf)
    seen = with_bias.bias.expand_as(plain)
    if with_bias.empty is not None:
        plain, seen = (x.masked_fill(with_bias.empty, 0.0) for x in (plain, seen))
    assert torch.equal(seen, plain)


@given(data=st.data(), batch=st.integers(1, 2), queries=st.integers(1, 7), keys=st.integers(1, 7))
@settings(max_examples=40)
def test_cross_attention_counts_both_from_zero(data: Any, batch: int, queries: int, keys: int) -> None:
    mask = Mask(data.draw(st.sampled_from([SameDocument(), Padding(), SameDocument() & Padding()])),
                data.draw(facts(batch, keys, queries)))  # fmt: skip
    see = visible(to_device(mask, "cpu"), queries, keys, device="cpu", dtype=torch.float32, cross=True)
    assert np.array_equal(table_of(see, batch, queries, keys), brute(mask, batch, queries, keys))


@given(rule=RULES, size=st.integers(1, 9), keys=st.integers(1, 6))
@settings(max_examples=40)
def test_a_window_as_wide_as_the_keys_hides_nothing(rule: Rule, size: int, keys: int) -> None:
    narrowed = narrow(rule, size, keys)
    q, k = np.arange(keys)[None, :, None], np.arange(keys)[None, None]
    whole = Window(size)(0, q, k, MaskFacts()).all()
    assert (narrowed == rule) == whole or rule == narrowed
    assert narrow(rule, None, keys) == rule
    assert narrowed == rule or Window(size) in getattr(narrowed, "parts", (narrowed,))


@given(data=st.data(), rule=RULES)
@settings(max_examples=60)
def test_causal_means_that_no_later_key_is_seen(data: Any, rule: Rule) -> None:
    if is_causal(rule):
        assert not brute(Mask(rule, data.draw(facts(1, 6))), 1, 6, 6)[0][np.triu_indices(6, 1)].any()


def test_a_border_off_by_one_is_caught() -> None:
    """The control of the whole file: k < q, and a prefix that is one token longer, differ from the rule."""

    class Strict(Causal):
        def __call__(self, b: Any, q: Any, k: Any, facts: MaskFacts) -> Any:
            return k < q

    assert not np.array_equal(dense(Mask(Strict()), 5, 5)[0], brute(Mask(Causal()), 1, 5, 5)[0])
    tables = [dense(Mask(Causal() | Prefix(), MaskFacts(prefix=torch.arange(6)[None] < n)), 6, 6) for n in (2, 3)]
    assert not torch.equal(*tables)


EXAMPLES: dict[str, Rule] = {
    "causal": Causal(),
    "bidirectional": Bidirectional(),
    "window": Causal() & Window(3),
    "prefix": Causal() | Prefix(),
    "packed": SameDocument() & Causal(),
    "packed prefix": SameDocument() & (Causal() | Prefix()),
    "padding": Causal() & Padding(),
    "encoder window": SameDocument() & Window(4),
    "table": Causal() & Table(),
}


def example_facts(length: int) -> MaskFacts:
    """Two rows: one packed with two documents and padding at the end, one padded at the left."""
    place = np.arange(length)
    documents = np.stack([np.select([place < length // 3, place < length - 2], [1, 2]), (place >= 3) * 1])
    return MaskFacts(
        prefix=np.stack([(place < 2) | ((place >= length // 3) & (place < length // 3 + 2)), place < 5]),
        document_ids=documents,
        key_mask=documents > 0,
        blocked=np.random.default_rng(0).random((2, length, length)) < 0.3,
    )


def randoms(length: int, heads: int = 2, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    return [torch.randn(2, heads, length, 8, dtype=dtype) for _ in range(3)]


def straight(q: Tensor, k: Tensor, v: Tensor, table: np.ndarray) -> Tensor:
    """Attention in float64, one row at a time; a row that sees nothing gives zero."""
    out = torch.zeros_like(q, dtype=torch.float64)
    q, k, v = q.double(), k.double(), v.double()
    for b, i in np.ndindex(table.shape[:2]):
        seen = np.flatnonzero(table[b, i])
        for h in range(q.shape[1] if len(seen) else 0):
            weights = torch.softmax(k[b, h, seen] @ q[b, h, i] * 0.3, 0)
            out[b, h, i] = weights @ v[b, h, seen]
    return out


@pytest.mark.parametrize(
    "name, length",
    # One simple and one rich rule cross the border between two blocks of 128.
    [*((name, 11) for name in EXAMPLES), ("bidirectional", 140), ("packed prefix", 140)],
)
def test_all_paths_give_the_rules_output(name: str, length: int) -> None:
    from torch.nn.attention.flex_attention import flex_attention

    mask = Mask(EXAMPLES[name], example_facts(length))
    expected = straight(*(qkv := randoms(length)), brute(mask, 2, length, length))
    on = to_device(mask, "cpu")
    see = visible(on, length, length, device="cpu", dtype=torch.float32)
    close(attend(*qkv, see, 0.3, 0.0), expected, 1e-5)
    close(attend_explicitly(*qkv, see, 0.3), expected, 1e-5)
    with torch.no_grad():
        close(flex_attention(*qkv, block_mask=block_mask(on, length, length), scale=0.3), expected, 1e-5)


@pytest.mark.parametrize("name", ["causal", "packed prefix", "window"])
def test_all_paths_with_cached_keys(name: str) -> None:
    """Four queries at the end of eleven keys."""
    from torch.nn.attention.flex_attention import flex_attention

    mask = Mask(EXAMPLES[name], example_facts(11))
    (q, k, v), on = randoms(11), to_device(mask, "cpu")
    expected = straight(q, k, v, brute(mask, 2, 11, 11))[:, :, -4:]
    q = q[:, :, -4:]
    see = visible(on, 4, 11, device="cpu", dtype=torch.float32)
    close(attend(q, k, v, see, 0.3, 0.0), expected, 1e-5)
    close(attend_explicitly(q, k, v, see, 0.3), expected, 1e-5)
    with torch.no_grad():
        close(flex_attention(q, k, v, block_mask=block_mask(on, 4, 11), scale=0.3), expected, 1e-5)


@pytest.mark.parametrize("path", ["sdpa", "explicit", "flex"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_that_see_nothing_give_exactly_zero(path: str, dtype: torch.dtype) -> None:
    """Padding at the left of row 1, at the right of row 0: no output, and no gradient through any of them."""
    rule, length = SameDocument() & Causal(), 9
    mask = to_device(Mask(rule, example_facts(length)), "cpu")
    q, k, v = (x.requires_grad_(path != "flex") for x in randoms(length, dtype=dtype))
    table = dense(mask, length, length)
    nothing = ~table.any(-1)
    assert nothing.sum() == 5
    if path == "flex":
        from torch.nn.attention.flex_attention import flex_attention

        out = flex_attention(q, k, v, block_mask=block_mask(mask, length, length))
        assert not out.transpose(1, 2)[nothing].any() and torch.isfinite(out).all()
        return
    see = visible(mask, length, length, device="cpu", dtype=dtype)
    out = (attend if path == "sdpa" else attend_explicitly)(q, k, v, see, 0.3, 0.0)
    assert not out.transpose(1, 2)[nothing].any() and out.transpose(1, 2)[~nothing].any()
    out.float().pow(2).sum().backward()
    out.detach_()
    unseen = ~table.any(-2)
    assert q.grad is not None and k.grad is not None and v.grad is not None
    for grad, still in ((q.grad, nothing), (k.grad, unseen), (v.grad, unseen)):
        assert torch.isfinite(grad).all()
        assert not grad.transpose(1, 2)[still].any(), "no gradient at all"
        assert grad.transpose(1, 2)[~still].any()


@pytest.mark.parametrize("path", ["sdpa", "explicit"])
def test_a_gradient_into_an_empty_row_reaches_nothing(path: str) -> None:
    """A loss on padding's own output must not leak into key 0, which stands in for such rows."""
    mask = to_device(Mask(Causal() & Padding(), MaskFacts(key_mask=np.zeros((2, 6), dtype=bool))), "cpu")
    q, k, v = (x.requires_grad_() for x in randoms(6))
    see = visible(mask, 6, 6, device="cpu", dtype=torch.float32)
    out = (attend if path == "sdpa" else attend_explicitly)(q, k, v, see, 0.3, 0.0)
    out.backward(torch.randn_like(out))
    assert not out.any()
    for x in (q, k, v):
        assert x.grad is not None and not x.grad.any()


def test_a_large_score_cannot_beat_the_mask() -> None:
    """The trap of -1e4: hidden keys stay hidden whatever the scores."""
    q, k, v = randoms(5)
    q, k = q * 300, k * 300
    v[:, :, 4] = 1e3
    see = visible(Mask(Causal() & Window(5)), 5, 5, device="cpu", dtype=torch.float32)
    for path in (attend, attend_explicitly):
        assert path(q, k, v, see, 1.0, 0.0)[:, :, :4].abs().max() < 100
