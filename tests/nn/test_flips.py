"""Token flips on whole models: what changes is exactly what the rule lets through, and all else is bit-equal.

With one layer a flip of token j reaches the queries that see j; with L layers, whoever is reached in at most L
steps. Comparisons are exact: `torch.equal`, no tolerance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tests.nn.common import made, small, tokens
from torch import Tensor

from assay.nn import Transformer
from assay.nn.masks import to_device
from assay.spec.axes import Placement
from assay.spec.masks import Bidirectional, Causal, Mask, MaskFacts, Padding, Prefix, Rule, SameDocument, Window

N = 9
Reach = np.ndarray
"""[from token j, to position i]: a flip of j changes i."""


def flipped(run: Callable[[Tensor], Tensor], ids: Tensor) -> Reach:
    """What changes at which positions, from one flip of each token in turn."""
    before = run(ids)
    rows = []
    for j in range(ids.shape[1]):
        other = ids.clone()
        other[:, j] = (other[:, j] + 1 + j) % 37
        rows.append((run(other) != before).any(-1)[0].numpy())
    return np.array(rows)


def closure(table: np.ndarray, layers: int) -> Reach:
    """Who is reached through `layers` steps; the residual keeps a token's own change at its place."""
    step = table.astype(int) + np.eye(len(table), dtype=int)
    return np.linalg.matrix_power(step, layers).T > 0


def seen(rule: Rule, n: int, facts: MaskFacts = MaskFacts()) -> np.ndarray:  # noqa: B008
    q, k = np.arange(n)[:, None], np.arange(n)[None]
    return np.broadcast_to(rule(0, q, k, facts), (n, n))


def check(model: Transformer, mask: Mask, ids: Tensor, *, window: int | None = None) -> Reach:
    stack = "decoder" if model.encoder is None else "encoder"
    run = model.decode if stack == "decoder" else model.encode
    on = to_device(mask, "cpu")
    with torch.no_grad():
        reach = flipped(lambda x: run(x, on).hidden, ids)
    table = seen(mask.rule if window is None else mask.rule & Window(window), ids.shape[1], mask.facts)
    assert np.array_equal(reach, closure(table, model.spec.layers))
    return reach


PREFIX = Mask(Causal() | Prefix(), MaskFacts(prefix=np.arange(N)[None] < 4))
DOCUMENTS = np.array([[1, 1, 1, 2, 2, 2, 2, 0, 0]])
PACKED = Mask(SameDocument() & Causal(), MaskFacts(document_ids=DOCUMENTS))
PACKED_PREFIX = Mask(
    SameDocument() & (Causal() | Prefix()),
    MaskFacts(document_ids=DOCUMENTS, prefix=np.array([[1, 1, 0, 1, 1, 0, 0, 0, 0]], dtype=bool)),
)
LEFT_PADDED = Mask(Causal() & Padding(), MaskFacts(key_mask=np.arange(N)[None] >= 3))
MASKS = {
    "causal": Mask(Causal()),
    "prefix": PREFIX,
    "packed": PACKED,
    "packed prefix": PACKED_PREFIX,
    "left padded": LEFT_PADDED,
}

VARIANTS: dict[str, dict[str, Any]] = {
    **{str(kind): {"placement": str(kind)} for kind in Placement},
    "bloom": {"norm": "layernorm", "positions": "alibi", "placement": {"embedding_norm": True, "skip": "normed"}},
    "t5": {"positions": "relative"},
    "learned": {"positions": "learned", "norm": "layernorm"},
    "sinusoidal": {"positions": "sinusoidal"},
    "no positions": {"positions": "none"},
    "interleaved": {"positions": {"pairing": "interleaved", "fraction": 0.5}, "attention": {"kv_heads": 1}},
    "falcon": {"parallel": "two_norms"},
    "softcap and q/k norm": {"attention": {"softcap": 20.0, "qk_norm": "head"}},
    "relax": {"attention": {"relax": 32.0}},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_causal_decoder(variant: str) -> None:
    """Past outputs bit-equal, the future all changed."""
    reach = check(made(small(**VARIANTS[variant], layers=3)), Mask(Causal()), tokens(1, N))
    assert np.array_equal(reach, np.triu(np.ones((N, N), dtype=bool)))


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("mask", ["prefix", "packed", "packed prefix", "left padded"])
@pytest.mark.parametrize("variant", ["pre", "post", "deepnet", "glm130b", "residual", "bloom", "t5", "relax"])
def test_prefix_decoder_and_packed_rows(variant: str, mask: str, layers: int) -> None:
    model = made(small(**VARIANTS[variant], layers=layers, family="prefix"))
    reach = check(model, MASKS[mask], tokens(1, N))
    if mask == "prefix":
        assert reach[:4].all(), "the prefix is seen by all, itself included"
        assert not reach[4:, :4].any(), "and sees nothing behind itself"
    if mask.startswith("packed"):
        apart = DOCUMENTS[0][:, None] != DOCUMENTS[0][None]
        assert not reach[apart].any(), "nothing crosses a border between documents"
    if mask == "left padded":
        assert not reach[:3, 3:].any()


@pytest.mark.parametrize("variant", ["pre", "post", "sandwich", "t5", "bloom"])
def test_encoder(variant: str) -> None:
    """Everything reaches everything; padding reaches nothing but itself."""
    model = made(small(**VARIANTS[variant], family="encoder"))
    assert check(model, Mask(Bidirectional()), tokens(1, N)).all()
    padded = Mask(Padding(), MaskFacts(key_mask=np.arange(N)[None] < 6))
    reach = check(model, padded, tokens(1, N))
    assert reach[:6].all() and np.array_equal(reach[6:], np.eye(N, dtype=bool)[6:])


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_windows_widen_by_layers(layers: int) -> None:
    model = made(small(layers=layers, attention={"window": 3}))
    reach = check(model, Mask(Causal()), tokens(1, N), window=3)
    assert reach[0].sum() == min(1 + 2 * layers, N)


def test_a_window_in_some_layers_and_prefixes_within_it() -> None:
    model = made(small(layers=2, attention={"window": 2, "window_layers": [0]}))
    with torch.no_grad():
        reach = flipped(lambda x: model.decode(x, Mask(Causal())).hidden, tokens(1, N))
    assert np.array_equal(reach, np.triu(np.ones((N, N), dtype=bool))), "the second layer sees all"
    one = made(small(layers=1, family="prefix", attention={"window": 3}))
    check(one, PREFIX, tokens(1, N), window=3)


@pytest.mark.parametrize("variant", ["pre", "post", "deepnet", "t5", "learned", "residual", "subln"])
def test_encoder_decoder(variant: str) -> None:
    """Encoder tokens reach all; decoder tokens reach what follows, and never the encoder."""
    model = made(small(**VARIANTS[variant], family="encoder_decoder"))
    source, target = tokens(1, N, seed=1), tokens(1, 6, seed=2)
    everything = Mask(Bidirectional())

    def decode(source: Tensor, target: Tensor, see: Mask = everything, across: Mask = everything) -> Tensor:
        memory = model.encode(source, to_device(see, "cpu")).hidden
        return model.decode(
            target, Mask(Causal()), memory=memory, memory_mask=to_device(across, "cpu")
        ).hidden  # fmt: skip

    with torch.no_grad():
        assert flipped(lambda x: model.encode(x, everything).hidden, source).all()
        assert flipped(lambda x: decode(x, target), source).all()
        assert np.array_equal(flipped(lambda y: decode(source, y), target), np.triu(np.ones((6, 6), dtype=bool)))
        real = Mask(Padding(), MaskFacts(key_mask=np.arange(N)[None] < 6))
        reach = flipped(lambda x: decode(x, target, real, real), source)
        assert reach[:6].all() and not reach[6:].any(), "padding in the encoder reaches no decoder output"


def test_packed_encoder_decoder() -> None:
    """A decoder's document reads its own source, and no other."""
    model = made(small(family="encoder_decoder", placement="post", norm="layernorm"))
    own, queries = np.array([[1, 1, 1, 2, 2, 2, 2, 2, 0]]), np.array([[1, 1, 2, 2, 2, 0]])
    inside = to_device(Mask(SameDocument(), MaskFacts(document_ids=own)), "cpu")
    outside = to_device(Mask(SameDocument() & Causal(), MaskFacts(document_ids=queries)), "cpu")
    across = to_device(
        Mask(SameDocument(), MaskFacts(document_ids=own, query_document_ids=queries)), "cpu"
    )  # fmt: skip
    source, target = tokens(1, N, seed=1), tokens(1, 6, seed=2)

    def decode(source: Tensor, target: Tensor) -> Tensor:
        memory = model.encode(source, inside).hidden
        return model.decode(target, outside, memory=memory, memory_mask=across).hidden

    with torch.no_grad():
        from_source = flipped(lambda x: decode(x, target), source)
        from_target = flipped(lambda y: decode(source, y), target)
    same = (own[0][:, None] == queries[0][None]) & (own[0] > 0)[:, None]
    assert np.array_equal(from_source, same)
    rule = SameDocument() & Causal()
    assert np.array_equal(from_target, closure(seen(rule, 6, MaskFacts(document_ids=queries)), 1))


def test_batches_as_the_data_room_makes_them() -> None:
    """Rows of `assemble`, packed and padded, for all three families."""
    from assay.data.batch import assemble
    from assay.objectives.base import Key, Lengths, Vocabulary
    from assay.objectives.prefix_lm import PrefixLM

    vocabulary = Vocabulary(size=37, pad=0, bos=1, eos=2, decoder_start=3)
    texts = [np.arange(5, 9), np.arange(10, 13)]
    for family in ("causal", "prefix"):
        objective = PrefixLM(family, vocabulary)
        examples = [objective.example(text, Key(0, 0, i)) for i, text in enumerate(texts)]
        batch = assemble([examples], Lengths(12), family, vocabulary)
        reach = check(made(small(family=family)), batch.mask, torch.from_numpy(batch.input_ids))
        own = batch.document_ids[0]
        assert not reach[own[:, None] != own[None]].any()
        for document, example in enumerate(examples, 1):
            inside = reach[np.ix_(own == document, own == document)]
            whole = np.arange(len(inside)) < example.prefix
            assert np.array_equal(inside, np.triu(np.ones_like(inside)) | whole[:, None])


class LongPrefix(Prefix):
    """The commonest slip: `<=` where `<` belongs, so the prefix has one key too many."""

    def __call__(self, b: Any, q: Any, k: Any, facts: MaskFacts) -> Any:
        return super().__call__(b, q, np.maximum(k - 1, 0) if isinstance(k, np.ndarray) else (k - 1).clamp(0), facts)


@pytest.mark.parametrize("layers", [1, 2])
def test_a_prefix_border_off_by_one_is_caught(layers: int) -> None:
    model = made(small(family="prefix", layers=layers))
    wrong = to_device(Mask(Causal() | LongPrefix(), PREFIX.facts), "cpu")
    with torch.no_grad():
        reach = flipped(lambda x: model.decode(x, wrong).hidden, tokens(1, N))
    right = closure(seen(PREFIX.rule, N, PREFIX.facts), layers)
    assert not np.array_equal(reach, right)
    assert reach[4].all() and not right[4, :4].any(), "the first target is seen by what predicts it"


def test_a_mask_dropped_after_the_first_layer_is_caught() -> None:
    """Another project's bug: later layers ran unmasked."""
    model = made(small(layers=2))
    assert model.decoder is not None
    second = model.decoder.blocks[1]
    plain = second.forward

    def unmasked(x: Tensor, around: Any, *rest: Any, **more: Any) -> Tensor:
        from assay.nn.masks import EVERYTHING

        return plain(x, around._replace(see=EVERYTHING), *rest, **more)

    second.forward = unmasked  # type: ignore[method-assign]
    with pytest.raises(AssertionError):
        check(model, Mask(Causal()), tokens(1, N))


def test_experts_leak_nothing_but_rounding() -> None:
    """Routing changes how many tokens an expert multiplies at once, so last bits may differ; no more than that."""
    model, ids = made(small(feedforward={"experts": {"count": 4, "active": 2}})), tokens(1, N)
    with torch.no_grad():
        before = model.decode(ids, Mask(Causal())).hidden
        for j in range(N):
            other = ids.clone()
            other[:, j] = (other[:, j] + 1) % 37
            change = (model.decode(other, Mask(Causal())).hidden - before).abs().amax(-1)[0]
            assert (change[:j] < 1e-5).all()
            assert (change[j:] > 1e-3).all()
