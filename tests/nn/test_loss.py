"""The loss against float64 autograd through all logits; parts, packing and memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.nn.common import close, made, small, tokens
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from assay.data.batch import Batch, assemble
from assay.nn import Transformer, loss
from assay.nn.batch import TensorBatch, to_tensors
from assay.nn.loss import cross_entropy_sum, loss_sum, target_nats
from assay.objectives.base import Example, Key, Lengths, Vocabulary
from assay.objectives.causal_lm import CausalLM
from assay.objectives.prefix_lm import PrefixLM
from assay.spec.masks import Mask
from assay.training.memory import peak_bytes


@contextmanager
def chunks_of(elements: int) -> Iterator[None]:
    before = loss.CHUNK_ELEMENTS, loss.LEAST_ROWS
    loss.CHUNK_ELEMENTS, loss.LEAST_ROWS = {"cpu": elements}, 16
    try:
        yield
    finally:
        loss.CHUNK_ELEMENTS, loss.LEAST_ROWS = before


def reference(
    hidden: Tensor, matrix: Tensor, targets: Tensor, weights: Tensor, bias: Tensor | None, cap: float | None, z: float
) -> Tensor:
    """sum w (nats + z log^2 Z), all logits at once, in float64, for autograd to differentiate."""
    logits = hidden.double() @ matrix.double().T
    if bias is not None:
        logits = logits + bias.double()
    if cap is not None:
        logits = cap * torch.tanh(logits / cap)
    log_z = torch.log(torch.exp(logits - logits.max()).sum(-1)) + logits.max()
    nats = log_z - logits[torch.arange(len(targets)), targets]
    return (weights.double() * (nats + z * log_z**2)).sum()


@st.composite
def problems(draw: Any) -> dict[str, Any]:
    n, width, vocabulary = draw(st.integers(1, 60)), draw(st.integers(1, 9)), draw(st.integers(2, 40))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return {
        "hidden": normal(n, width) * draw(st.sampled_from([0.3, 3.0])),
        "matrix": normal(vocabulary, width),
        "targets": torch.randint(0, vocabulary, (n,), generator=generator),
        "weights": torch.rand(n, generator=generator) if draw(st.booleans()) else torch.ones(n),
        "bias": normal(vocabulary) if draw(st.booleans()) else None,
        "cap": draw(st.sampled_from([None, 2.0, 30.0])),
        "z_loss": draw(st.sampled_from([0.0, 1e-4, 0.1])),
    }


def test_products_have_few_shapes_however_many_targets() -> None:
    """oneDNN keeps code for every shape that it has seen: 0.6 MB a number of targets would not stop growing."""
    seen = set()

    def watching(logits: torch.Tensor, *rest: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
        seen.add(len(logits))
        return loss.chunk_loss(logits, *rest)

    for n in range(1, 200):
        hidden, matrix = torch.randn(n, 8, requires_grad=True), torch.randn(50, 8)
        targets, weights = torch.arange(n) % 50, torch.ones(n)
        total = loss.cross_entropy_sum(hidden, matrix, targets, weights, chunk=watching)
        (slope,) = torch.autograd.grad(total, hidden)
        assert slope.shape == hidden.shape
    assert seen == {64, 128, 192, 256}


@given(problem=problems(), elements=st.sampled_from([1, 700, 2**22]), upstream=st.sampled_from([1.0, -2.5]))
@settings(max_examples=60)
def test_value_and_gradients_are_those_of_all_logits(problem: dict[str, Any], elements: int, upstream: float) -> None:
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 2e-4)):
        pieces = {
            name: value.detach().to(dtype).clone().requires_grad_()
            for name, value in problem.items()
            if name in ("hidden", "matrix", "bias") and value is not None
        }
        given_ = problem | pieces
        weights = given_["weights"]
        with chunks_of(elements):
            ours = cross_entropy_sum(
                given_["hidden"], given_["matrix"], given_["targets"], weights, bias=given_["bias"],
                cap=given_["cap"], z_loss=given_["z_loss"],
            )  # fmt: skip
        expected = reference(
            *(given_[name] for name in ("hidden", "matrix", "targets", "weights", "bias", "cap", "z_loss"))
        )
        close(ours, expected, tolerance)
        (ours * upstream).backward()
        mine = {name: piece.grad for name, piece in pieces.items()}
        for piece in pieces.values():
            piece.grad = None
        (expected * upstream).backward()
        for name, piece in pieces.items():
            close(mine[name], piece.grad, tolerance)


def test_wrong_losses_are_caught() -> None:
    """Controls: a mean instead of a sum, weights left out, the cap's slope left out."""
    hidden, matrix = torch.randn(20, 8, dtype=torch.float64), torch.randn(11, 8, dtype=torch.float64)
    targets, weights = tokens(20, vocab=11), torch.rand(20).double()
    ours = cross_entropy_sum(hidden, matrix, targets, weights, cap=2.0)
    assert not torch.isclose(ours, reference(hidden, matrix, targets, torch.ones(20), None, 2.0, 0.0))
    assert not torch.isclose(ours, reference(hidden, matrix, targets, weights, None, None, 0.0))
    assert not torch.isclose(ours / 20, reference(hidden, matrix, targets, weights, None, 2.0, 0.0))


def test_gradcheck() -> None:
    hidden = torch.randn(18, 3, dtype=torch.float64, requires_grad=True)
    matrix, bias = (torch.randn(5, *s, dtype=torch.float64, requires_grad=True) for s in ((3,), ()))
    targets, weights = tokens(18, vocab=5), torch.rand(18)
    with chunks_of(1):
        assert torch.autograd.gradcheck(
            lambda h, m, b: cross_entropy_sum(h, m, targets, weights, bias=b, cap=3.0, z_loss=0.05),
            (hidden, matrix, bias),
        )


def test_a_second_derivative_is_refused_not_wrong() -> None:
    hidden, matrix = torch.randn(4, 3, requires_grad=True), torch.randn(5, 3, requires_grad=True)
    value = cross_entropy_sum(hidden.tanh(), matrix, tokens(4, vocab=5), torch.ones(4))
    with pytest.raises(RuntimeError, match="second derivative"):
        torch.autograd.grad(value, hidden, create_graph=True)


def test_a_second_backward_gives_the_same_gradient_again() -> None:
    hidden, matrix = torch.randn(4, 3, requires_grad=True), torch.randn(5, 3, requires_grad=True)
    value = cross_entropy_sum(hidden, matrix, tokens(4, vocab=5), torch.ones(4)) * 0.3
    first = torch.autograd.grad(value, (hidden, matrix), retain_graph=True)
    assert all(torch.equal(a, b) for a, b in zip(first, torch.autograd.grad(value, (hidden, matrix)), strict=True))


def test_no_targets_cost_nothing() -> None:
    hidden, matrix = torch.randn(0, 3, requires_grad=True), torch.randn(5, 3, requires_grad=True)
    value = cross_entropy_sum(hidden, matrix, tokens(0), torch.ones(0))
    value.backward()
    assert value.item() == 0 and matrix.grad is not None and not matrix.grad.any()


class Largest(TorchDispatchMode):
    """The largest tensor that any operation makes, in elements, and all bytes made."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
                self.bytes += tensor.numel() * tensor.element_size()
        return out


def peak(work: Callable[[], Any]) -> int:
    found = peak_bytes(work, held=0)
    assert found is not None
    return found


COMPILED: loss.ChunkLoss = torch.compile(loss.chunk_loss, dynamic=True)


@pytest.mark.parametrize("z_loss", [0.0, 0.1])
def test_a_compiled_chunk_is_the_eager_one(z_loss: float) -> None:
    """torch 2.11 compiled the gradient over logits that the loss had yet to read: 12% off, and nothing said so."""
    for n in (64, 128, 64):
        logits, targets, weights = 3 * torch.randn(n, 5000), torch.randint(0, 5000, (n,)), torch.rand(n)
        eager, slope = loss.chunk_loss(logits.clone(), targets, weights, None, z_loss, True)
        value, given = COMPILED(logits.clone(), targets, weights, None, z_loss, True)
        assert slope is not None and given is not None
        torch.testing.assert_close(value, eager, rtol=1e-5, atol=0.0)
        torch.testing.assert_close(given, slope, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("chunk", [loss.chunk_loss, COMPILED])
def test_head_and_loss_stay_under_a_quarter_of_the_logits(chunk: loss.ChunkLoss) -> None:
    """At vocabulary 50,000, width 256 and 8,192 tokens, both gradients included: under an eighth, in fact.

    Beside gradients the peak does not depend on the number of chunks, so four of them show it.
    """
    n, vocabulary, width = 1024, 50_000, 16
    hidden, matrix = torch.randn(n, width, requires_grad=True), torch.randn(vocabulary, width, requires_grad=True)
    targets = tokens(n, vocab=vocabulary)
    cross_entropy_sum(hidden[:256], matrix, targets[:256], torch.ones(256), chunk=chunk).backward()  # compiles
    hidden.grad = matrix.grad = None

    def ours() -> None:
        cross_entropy_sum(hidden, matrix, targets, torch.ones(n), chunk=chunk).backward()

    beside = peak(ours) - 4 * width * (n + vocabulary)
    assert beside > 4 * 256 * vocabulary  # a chunk
    assert beside + 4 * 256 * (8192 + vocabulary) < 4 * 8192 * vocabulary / 8
    few = slice(0, 512)

    def full() -> None:
        torch.nn.functional.cross_entropy(hidden[few] @ matrix.T, targets[few], reduction="sum").backward()

    assert peak(full) > 2 * 4 * 512 * vocabulary  # control: the measure sees logits where there are any


def test_all_logits_are_never_held() -> None:
    n, vocabulary = 512, 600
    hidden, matrix = torch.randn(n, 8, requires_grad=True), torch.randn(vocabulary, 8, requires_grad=True)
    targets = tokens(n, vocab=vocabulary)
    with chunks_of(32 * vocabulary), Largest() as seen:
        cross_entropy_sum(hidden, matrix, targets, torch.ones(n)).backward()
    assert seen.elements == 32 * vocabulary
    with Largest() as full:
        torch.nn.functional.cross_entropy(hidden @ matrix.T, targets, reduction="sum").backward()
    assert full.elements == n * vocabulary
    with torch.no_grad(), chunks_of(32 * vocabulary), Largest() as without:
        cross_entropy_sum(hidden, matrix, targets, torch.ones(n))
    assert without.bytes < seen.bytes / 1.5, "and without grad mode no gradient is made"


def test_autocast_computes_in_bfloat16_and_returns_float32_gradients() -> None:
    hidden, matrix = torch.randn(64, 16, requires_grad=True), torch.randn(30, 16, requires_grad=True)
    targets, weights = tokens(64, vocab=30), torch.ones(64)
    exact = reference(hidden, matrix, targets, weights, None, None, 0.0)
    exact_grads = torch.autograd.grad(exact, (hidden, matrix))
    with torch.autocast("cpu", torch.bfloat16):
        value = cross_entropy_sum(hidden, matrix, targets, weights)
    assert value.dtype == torch.float32
    close(value, exact, 0.02)
    for ours, theirs in zip(torch.autograd.grad(value, (hidden, matrix)), exact_grads, strict=True):
        assert ours.dtype == torch.float32
        assert float((ours - theirs).norm() / theirs.norm()) < 0.02


def test_many_chunks_in_bfloat16_lose_no_more_than_one() -> None:
    """Sums over chunks that were kept in bfloat16 would be off by about 1% here, and by more with more chunks."""
    hidden, matrix, bias = torch.randn(2048, 32), torch.randn(500, 32) * 0.1, torch.randn(500)
    targets = tokens(2048, vocab=500)
    leaves = [x.double().requires_grad_() for x in (hidden, matrix, bias)]
    exact = torch.autograd.grad(reference(*leaves[:2], targets, torch.ones(2048), leaves[2], None, 0.0), leaves)
    for elements in (2**22, 1):
        low = [x.bfloat16().requires_grad_() for x in (hidden, matrix, bias)]
        with chunks_of(elements):
            value = cross_entropy_sum(low[0], low[1], targets, torch.ones(2048), bias=low[2])
        for ours, theirs, leaf in zip(torch.autograd.grad(value, low), exact, low, strict=True):
            assert ours.dtype == leaf.dtype
            assert float((ours - theirs).norm() / theirs.norm()) < 0.005


# Whole models: parts, packing, order. ------------------------------------------------------------------

VOCABULARY = Vocabulary(size=37, pad=0, bos=1, eos=2, decoder_start=3)
TEXTS = [np.arange(4, 4 + n) * 7 % 33 + 4 for n in (6, 3, 9, 5)]


def examples_of(family: str, objective: str) -> list[Example]:
    made_by = (CausalLM if objective == "causal_lm" else PrefixLM)(family, VOCABULARY)  # type: ignore[abstract]
    return [made_by.example(text, Key(0, 0, i)) for i, text in enumerate(TEXTS)]


def batch_of(rows: list[list[Example]], family: str, room: int = 30) -> Batch:
    lengths = Lengths(room, room if family == "encoder_decoder" else None)
    return assemble(rows, lengths, family, VOCABULARY)


def measured(model: Transformer, batches: list[TensorBatch]) -> tuple[float, dict[str, Tensor]]:
    model.zero_grad()
    total = 0.0
    for batch in batches:
        part = loss_sum(model, batch)
        part.total.backward()
        total += part.total.item()
    return total, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


VARIANTS: dict[str, dict[str, Any]] = {
    "rope pre": {},
    "learned post": {"positions": "learned", "placement": "post", "norm": "layernorm"},
    "alibi deepnet": {"positions": "alibi", "placement": "deepnet"},
    "relative window": {"positions": "relative", "attention": {"window": 4}},
    "sinusoidal residual": {"positions": "sinusoidal", "placement": "residual"},
    "xpos": {"positions": {"xpos": True, "xpos_base": 8}},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    "family, objective",
    [("causal", "causal_lm"), ("causal", "prefix_lm"), ("prefix", "prefix_lm"), ("encoder_decoder", "prefix_lm")],
)
def test_a_packed_batch_is_its_documents_one_by_one(family: str, objective: str, variant: str) -> None:
    model = made(small(family=family, **VARIANTS[variant]), dtype="float64").train()
    parts = examples_of(family, objective)
    packed = [to_tensors(batch_of([parts[:3], parts[3:]], family))]
    alone = [to_tensors(batch_of([[part]], family, room=30 - i)) for i, part in enumerate(parts)]
    exact = [to_tensors(assemble([[p]], Lengths(len(p.inputs), None if p.decoder_inputs is None else len(p.decoder_inputs)), family, VOCABULARY)) for p in parts]  # fmt: skip  # noqa: E501
    total, grads = measured(model, packed)
    assert total > 10
    for batches in (alone, exact):
        again, others = measured(model, batches)
        assert again == pytest.approx(total, rel=1e-9)
        assert grads.keys() == others.keys()
        for name in grads:
            close(grads[name], others[name], 1e-7)


def test_packing_without_its_mask_or_positions_is_caught() -> None:
    model = made(small(positions="learned"), dtype="float64")
    batch = to_tensors(batch_of([examples_of("causal", "causal_lm")], "causal"))
    right = loss_sum(model, batch).total.item()
    from dataclasses import replace

    from assay.spec.masks import Causal

    assert abs(loss_sum(model, replace(batch, mask=Mask(Causal()))).total.item() - right) > 1e-3
    assert abs(loss_sum(model, replace(batch, position_ids=None)).total.item() - right) > 1e-3


@pytest.mark.parametrize("family", ["causal", "prefix", "encoder_decoder"])
def test_parts_of_unequal_size_add_up(family: str) -> None:
    """Weighted by tokens the parts are the whole; a mean of the parts' means is not."""
    model = made(small(family=family, head={"softcap": 5.0, "bias": True}), dtype="float64")
    parts = examples_of(family, "prefix_lm")
    whole = loss_sum(model, to_tensors(batch_of([[p] for p in parts], family)))
    sums = [loss_sum(model, to_tensors(batch_of([[p] for p in some], family))) for some in (parts[:1], parts[1:])]
    assert sum(float(s.total) for s in sums) == pytest.approx(float(whole.total), rel=1e-9)
    assert sum(s.weight for s in sums) == whole.weight and sum(s.count for s in sums) == whole.count
    means = sum(float(s.total) / s.weight for s in sums) / 2
    assert abs(means - float(whole.total) / whole.weight) > 1e-4


@pytest.mark.parametrize(
    "head", [{}, {"tied": False, "bias": True}, {"softcap": 4.0}, {"normalised": True, "scale": 3.0}]
)
@pytest.mark.parametrize("family", ["causal", "prefix", "encoder_decoder"])
def test_nats_are_minus_log_p_of_each_target_in_order(family: str, head: dict[str, Any]) -> None:
    model = made(small(family=family, head=head), dtype="float64")
    rows = [examples_of(family, "prefix_lm")[:2], examples_of(family, "prefix_lm")[2:]]
    plain = batch_of(rows, family)
    batch = to_tensors(plain)
    if model.encoder is None:
        hidden = model.decode(batch.input_ids, batch.mask, position_ids=batch.position_ids).hidden
    else:
        memory = model.encode(batch.input_ids, batch.mask, position_ids=batch.position_ids).hidden
        assert batch.decoder_input_ids is not None and batch.decoder_mask is not None
        hidden = model.decode(
            batch.decoder_input_ids, batch.decoder_mask, position_ids=batch.decoder_position_ids, memory=memory,
            memory_mask=batch.cross_mask,
        ).hidden  # fmt: skip
    log_p = torch.log_softmax(model.logits(hidden), -1).flatten(0, 1)
    where = torch.from_numpy(plain.target_positions)
    expected = -log_p[where, torch.from_numpy(plain.targets).flatten()[where]]
    with chunks_of(1):
        nats = target_nats(model, batch)
    assert not nats.requires_grad and len(nats) == plain.target_count
    close(nats, expected, 1e-9)
    whole = loss_sum(model, batch)
    close(whole.total, expected.sum(), 1e-9)
    assert (whole.weight, whole.count) == (float(plain.target_count), plain.target_count)


def test_gradients_of_the_head_reach_through_scaling_and_tying() -> None:
    """loss_sum's gradients are those of autograd through `logits`, for every parameter."""
    for head in ({}, {"normalised": True}, {"scale": 0.5, "softcap": 3.0, "bias": True}, {"tied": False}):
        model = made(small(head=head), dtype="float64")
        batch = to_tensors(batch_of([examples_of("causal", "causal_lm")], "causal"))
        _, grads = measured(model, [batch])
        model.zero_grad()
        hidden = model.decode(batch.input_ids, batch.mask, position_ids=batch.position_ids).hidden
        logits = model.logits(hidden).flatten(0, 1)[batch.where]
        torch.nn.functional.cross_entropy(logits, batch.targets, reduction="sum").backward()
        for name, p in model.named_parameters():
            close(grads[name], p.grad, 1e-9)


def test_masked_lm_head_is_part_of_the_loss() -> None:
    model = made(small(family="encoder", norm="layernorm", head={"kind": "mlm", "bias": True}), dtype="float64")
    plain = batch_of([examples_of("causal", "causal_lm")], "causal")
    from dataclasses import replace

    from assay.spec.masks import MaskFacts, SameDocument

    batch = to_tensors(replace(plain, mask=Mask(SameDocument(), MaskFacts(document_ids=plain.document_ids))))
    hidden = model.encode(batch.input_ids, batch.mask, position_ids=batch.position_ids).hidden
    logits = model.logits(hidden).flatten(0, 1)[batch.where]
    close(loss_sum(model, batch).total, torch.nn.functional.cross_entropy(logits, batch.targets, reduction="sum"), 1e-9)
