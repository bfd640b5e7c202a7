"""Attention by stretches against the dense rule: values, gradients (the bias's too), second derivatives, the model."""

import pytest
import torch
from tests.nn.common import close, made, small, tokens

from assay.nn import masks, ranged
from assay.nn.kernels import attention as kernel
from assay.nn.ranged import key_ranges, pays, ranged_attention
from assay.spec.masks import Bidirectional, Causal, Mask, MaskFacts, Padding, Prefix, SameDocument, Window

IDS = torch.tensor([[1, 1, 1, 2, 2, 2, 2, 3, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1, 1, 1], [0] * 10])
ALIKE = torch.tensor([[1, 1, 1, 1, 1, 1, 2, 2, 0, 0]]).repeat(3, 1)
FACTS = MaskFacts(document_ids=IDS, key_mask=IDS > 0, prefix=IDS == 1)
ASKING = torch.tensor([[1, 2, 2, 3, 3], [1, 1, 1, 0, 0], [0] * 5])
RULES = [
    Mask(Bidirectional()), Mask(Causal()), Mask(Padding(), FACTS), Mask(SameDocument(), FACTS),
    Mask(SameDocument() & Causal(), FACTS), Mask(Causal() & SameDocument(), FACTS),
    Mask(Padding(), MaskFacts(key_mask=ALIKE > 0)), Mask(SameDocument() & Causal(), MaskFacts(document_ids=ALIKE)),
    Mask(SameDocument(), MaskFacts(document_ids=(ALIKE == 1).int())),
]  # fmt: skip
"""The last three: rows that have the same stretch go together."""


@pytest.fixture(params=["kernel", "torch"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """By the C kernel, or by torch's products as where there is no compiler."""
    if request.param == "kernel" and kernel.NATIVE.load() is None:
        pytest.skip(f"no C kernel: {kernel.NATIVE.reason}")
    if request.param == "torch":
        monkeypatch.setattr(kernel, "suits", lambda keys, width: False)
    return str(request.param)


def inputs(queries: int, keys: int, heads: int = 2, width: int = 16) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    shapes = [(3, heads, n, width) for n in (queries, keys, keys)] + [(1, heads, queries, keys)]
    return [torch.randn(shape, generator=draw).requires_grad_() for shape in shapes]


def dense(given: list[torch.Tensor], mask: Mask, *, cross: bool = False) -> torch.Tensor:
    q, k, v, bias = (x.double() for x in given)
    seen = masks.dense(mask, q.shape[2], k.shape[2], cross=cross)[:, None]
    p = torch.softmax((q @ k.mT * 0.3 + bias).masked_fill(~seen, -1e30), -1) * seen
    return p @ v


def agree(ours: torch.Tensor, theirs: torch.Tensor, given: list[torch.Tensor]) -> None:
    """Values and gradients, ours in float32 and theirs in float64."""
    close(ours.double(), theirs, 1e-5)
    up = torch.randn(ours.shape)
    exact = torch.autograd.grad(theirs, given, up.double())
    for a, b in zip(torch.autograd.grad(ours, given, up), exact, strict=True):
        close(a, b, 1e-4)


@pytest.mark.parametrize("heads", [1, 2, 3])
@pytest.mark.parametrize("mask", RULES, ids=lambda m: str(m.rule))
def test_values_and_gradients_are_the_rules(mask: Mask, heads: int, way: str) -> None:
    """In float64; two threads, which share one, two or three heads."""
    torch.set_num_threads(2)
    given = inputs(10, 10, heads)
    if heads == 2:  # as a table looks it up
        given[3] = given[3].detach().permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2).requires_grad_()
    found = key_ranges(mask, 3, 10, 10)
    assert found is not None and ranged._by_kernel(*given[:2]) == (way == "kernel")
    ours, theirs = ranged_attention(*given, *found, 0.3), dense(given, mask)
    agree(ours, theirs, given)
    if mask.facts is FACTS:
        assert mask.rule == Padding() or not ours[IDS[:, None, :, None].expand_as(ours) == 0].any()


def test_a_decoder_that_reads_its_documents(way: str) -> None:
    mask = Mask(SameDocument(), MaskFacts(document_ids=IDS, query_document_ids=ASKING))
    given, found = inputs(5, 10), key_ranges(mask, 3, 5, 10)
    assert found is not None
    close(ranged_attention(*given, *found, 0.3).double(), dense(given, mask, cross=True), 1e-5)


def test_a_causal_range_begins_and_ends_anywhere(way: str) -> None:
    """Before its queries or among them, behind them or before the last: places count alike on both sides."""
    given, spans = inputs(10, 10), torch.tensor([(0, 7)] * 4 + [(2, 5)] * 3 + [(6, 10)] * 3)
    places = torch.arange(10)
    seen = (places >= spans[:, :1]) & (places < spans[:, 1:]) & (places <= places[:, None])
    q, k, v, bias = (x.double() for x in given)
    theirs = torch.softmax((q @ k.mT * 0.3 + bias).masked_fill(~seen, -1e30), -1) * seen @ v
    ours = ranged_attention(*given, spans.expand(3, 10, 2).contiguous(), True, 0.3)
    agree(ours, theirs, given)


def test_long_rows_go_on_over_a_register_and_a_panel(way: str) -> None:
    """Rows of 150: documents end anywhere, gradients of the bias are sums over all rows."""
    ids = torch.tensor([[1] * 37 + [2] * 100 + [0] * 13, [1] * 150, [1] * 16 + [2] * 16 + [3] * 118])
    for rule in (SameDocument(), SameDocument() & Causal()):
        mask = Mask(rule, MaskFacts(document_ids=ids))
        given, found = inputs(150, 150), key_ranges(mask, 3, 150, 150)
        assert found is not None
        ours, theirs = ranged_attention(*given, *found, 0.3), dense(given, mask)
        agree(ours, theirs, given)


def test_ranges_are_not_those_of_another_rule() -> None:
    """Control: the comparison sees documents that see each other."""
    given, found = inputs(10, 10), key_ranges(Mask(Padding(), FACTS), 3, 10, 10)
    assert found is not None
    ours = ranged_attention(*given, *found, 0.3)
    assert float((ours - dense(given, Mask(SameDocument(), FACTS))).detach().abs().max()) > 0.1


@pytest.mark.parametrize(
    "mask",
    [
        Mask(Causal() | Prefix(), FACTS), Mask(Causal() & Window(3)),
        Mask(SameDocument(), MaskFacts(document_ids=torch.tensor([[1, 2, 1]]))),
        Mask(Padding(), MaskFacts(key_mask=torch.tensor([[False, True, True]]))),
    ],
)  # fmt: skip
def test_what_is_no_range_is_left_to_the_dense_way(mask: Mask) -> None:
    assert key_ranges(mask, 1, 3, 3) is None


def test_what_is_kept_for_the_gradients(way: str) -> None:
    """The kernel keeps a number a row; torch's products the pattern."""
    kept = torch.ops.assay.ranged_attention(
        *(x.detach() for x in inputs(10, 10)), key_ranges(Mask(Causal()), 3, 10, 10)[0], True, 0.3
    )[1]
    assert kept.numel() == 3 * 2 * 10 * (1 if way == "kernel" else 10)


def test_second_derivatives(way: str) -> None:
    given = [x[:1].detach().requires_grad_() for x in inputs(5, 5)]
    mask = Mask(SameDocument() & Causal(), MaskFacts(document_ids=torch.tensor([[1, 1, 2, 2, 0]])))
    found = key_ranges(mask, 1, 5, 5)
    assert found is not None
    seconds = []
    for out in (ranged_attention(*given, *found, 0.3), dense(given, mask)):
        first = torch.autograd.grad((out**2).sum(), given, create_graph=True)
        seconds.append(torch.autograd.grad(sum((x**2).sum() for x in first), given))
    for a, b in zip(*seconds, strict=True):
        close(a, b, 1e-3)


def test_short_stretches_are_left_to_the_dense_way() -> None:
    whole, every = torch.tensor([0, 512]).expand(8, 512, 2), torch.arange(512)[:, None].expand(8, 512, 1)
    assert pays(whole.contiguous(), 4, 512) and not pays(torch.cat((every, every + 1), -1), 2, 512)


@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize("packed", [False, True])
def test_the_model_is_the_same_either_way(packed: bool, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder-decoder with relative positions: loss gradients with stretches and without; and they are used."""
    model = made(small(family="encoder_decoder", positions="relative", vocab_size=50, width=width))
    ids, ahead = tokens(3, 10, vocab=50), tokens(3, 10, vocab=50)
    own = Mask(SameDocument(), FACTS) if packed else Mask(Bidirectional())
    read = Mask(SameDocument(), FACTS) if packed else Mask(Bidirectional())
    write = Mask(SameDocument() & Causal(), FACTS) if packed else Mask(Causal())
    calls: list[int] = []
    operator = torch.ops.assay.ranged_attention
    by_kernel: list[int] = []
    real = kernel.backward_into
    monkeypatch.setattr(kernel, "backward_into", lambda *given: (by_kernel.append(1), real(*given))[1])

    def counting(*given: object) -> object:
        calls.append(1)
        return operator(*given)

    def gradients() -> dict[str, torch.Tensor]:
        model.zero_grad()
        memory = model.encode(ids, own).hidden
        model.decode(ahead, write, memory=memory, memory_mask=read).hidden[IDS > 0].square().sum().backward()
        return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    monkeypatch.setattr(torch.ops.assay, "ranged_attention", counting)
    monkeypatch.setattr(ranged, "LEAST_PAIRS", 10**9)
    without = gradients()
    assert not calls
    monkeypatch.setattr(ranged, "LEAST_PAIRS", 0)
    within = gradients()
    assert len(calls) == len(model.encoder.blocks) + len(model.decoder.blocks)
    assert bool(by_kernel) == (width == 64 and kernel.NATIVE.handle is not None), "heads of 8 features go to torch"
    assert without.keys() == within.keys() and any("relative" in name for name in within)
    for name, value in without.items():
        close(within[name], value, 1e-4)
