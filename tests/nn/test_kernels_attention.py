"""The C attention against float64, in every shape and mask it takes, and against torch where it declines."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.nn.common import made, small, tokens
from torch import Tensor

from assay.nn.kernels import attention
from assay.nn.kernels.attention import short_attention, why_not
from assay.spec.masks import Causal, Mask

pytestmark = pytest.mark.skipif(attention.NATIVE.load() is None, reason=f"no C kernel: {attention.NATIVE.reason}")

SHAPES = [(2, 4, 2, 21, 21, 16), (1, 3, 3, 64, 64, 32), (2, 2, 1, 5, 37, 16), (1, 2, 2, 1, 7, 48)]
SHAPES += [(1, 1, 1, 33, 16, 64), (1, 2, 2, 50, 700, 16), (1, 2, 2, 19, 40, 128)]


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def inputs(b: int, h: int, g: int, queries: int, keys: int, d: int) -> list[Tensor]:
    """q, k, v and the output's gradient, laid out as projections leave them."""
    sizes = [(h, queries), (g, keys), (g, keys), (h, queries)]
    return [draw(b, s, n, d, seed=seed).transpose(1, 2) for seed, (n, s) in enumerate(sizes)]


def hidden(mask: str, b: int, h: int, queries: int, keys: int) -> Tensor | None:
    """An additive bias in float64, or None."""
    if mask in ("open", "causal"):
        return None
    table = torch.zeros(b, 1, queries, keys, dtype=torch.float64)
    late = torch.ones(queries, keys, dtype=torch.bool).triu(1 + max(keys - queries, 0))
    table = table.masked_fill(late, float("-inf"))
    table[..., 0] = 0  # every row sees something
    return table if mask == "triangle" else table[:1] + draw(1, h, queries, keys, seed=9)


def exact(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, causal: bool) -> Tensor:
    group = q.shape[1] // k.shape[1]
    scores = 0.3 * q @ k.repeat_interleave(group, 1).transpose(-1, -2)
    scores = scores if bias is None else scores + bias
    if causal:
        late = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1 + k.shape[2] - q.shape[2])
        scores = scores.masked_fill(late, float("-inf"))
    return torch.softmax(scores, -1) @ v.repeat_interleave(group, 1)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("mask", ["open", "causal", "triangle", "bias"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_float64(shape: tuple[int, ...], mask: str, threads: int) -> None:
    b, h, _, queries, keys, _ = shape
    if mask == "causal" and keys < queries:
        pytest.skip("rows that see nothing have no softmax")
    torch.set_num_threads(threads)
    *wide, dout = inputs(*shape)
    wide = [t.requires_grad_() for t in wide]
    narrow = [t.detach().float().requires_grad_() for t in wide]
    bias = hidden(mask, b, h, queries, keys)
    low = None if bias is None else bias.float()
    assert why_not(*narrow, low) is None or keys > attention.LONGEST or narrow[0].shape[3] > attention.WIDEST
    ours, theirs = short_attention(*narrow, low, mask == "causal", 0.3), exact(*wide, bias, mask == "causal")
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-5)
    found = torch.autograd.grad(ours, narrow, dout.float())
    for one, other in zip(found, torch.autograd.grad(theirs, wide, dout), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=2e-5)


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_any_sizes_and_any_mask_equal_float64(data: st.DataObject) -> None:
    """Rows end anywhere in a register, a panel and a tile; what is seen begins and ends anywhere too."""
    b, g, group = (data.draw(st.integers(1, 2)) for _ in range(3))
    queries, keys = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 90))
    d = 16 * data.draw(st.integers(1, 4))
    causal = keys >= queries and data.draw(st.booleans())
    seed = data.draw(st.integers(0, 2**31))
    q, k, v, dout = (
        draw(b, n, s, d, seed=seed + i)
        for i, (n, s) in enumerate([(g * group, queries), (g, keys), (g, keys), (g * group, queries)])
    )
    bias = None
    if (kind := data.draw(st.sampled_from(["none", "scattered", "ends"]))) != "none":
        generator = torch.Generator().manual_seed(seed)
        hidden = torch.rand(b, 1, queries, keys, generator=generator) < data.draw(st.sampled_from([0.1, 0.95]))
        if kind == "ends":  # as documents of a row, or padding: sixteen queries in a row see about as far
            ends = torch.randint(1, keys + 1, (b, 1, -(-queries // 16), 1), generator=generator)
            hidden = torch.arange(keys) >= ends.repeat_interleave(16, 2)[:, :, :queries]
        hidden[..., 0] = False  # every row sees something
        bias = draw(1, g * group, queries, keys, seed=seed + 9).masked_fill(hidden, float("-inf"))
    wide = [t.requires_grad_() for t in (q, k, v)]
    narrow = [t.detach().float().requires_grad_() for t in wide]
    ours = short_attention(*narrow, None if bias is None else bias.float(), causal, 0.3)
    theirs = exact(*wide, bias, causal)
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=2e-5)
    found = torch.autograd.grad(ours, narrow, dout.float())
    for one, other in zip(found, torch.autograd.grad(theirs, wide, dout), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
def test_log_sum_exp_equals_float64(scale: float) -> None:
    q, k, v, _ = inputs(2, 4, 2, 45, 45, 16)
    _, found = torch.ops.assay.attention(q.float(), k.float(), v.float(), None, False, scale)
    scores = scale * q.float().double() @ k.float().double().repeat_interleave(2, 1).transpose(-1, -2)
    torch.testing.assert_close(found.double(), scores.logsumexp(-1), rtol=1e-6, atol=1e-6 * max(scale, 1) * 16)


@pytest.mark.parametrize("at", [1, 17, 33, 63])
def test_hidden_keys_change_no_bit(at: int) -> None:
    q, k, v, dout = (t.float().requires_grad_() for t in inputs(1, 2, 2, 70, 70, 16))
    before = short_attention(q, k, v, None, True, 0.25)
    slopes = torch.autograd.grad(before[:, :, :at], (q, k, v), dout[:, :, :at])
    with torch.no_grad():
        k[:, :, at:] = 50 * torch.randn_like(k[:, :, at:])
        v[:, :, at:] = 1e6
    after = short_attention(q, k, v, None, True, 0.25)
    assert torch.equal(before[:, :, :at], after[:, :, :at]) and not torch.isclose(before, after)[:, :, at:].any()
    for one, other in zip(slopes, torch.autograd.grad(after[:, :, :at], (q, k, v), dout[:, :, :at]), strict=True):
        assert torch.equal(one[:, :, :at], other[:, :, :at]) and not one[:, :, at:].any() and not other[:, :, at:].any()


def test_rows_that_see_nothing_are_zero_with_zero_gradient() -> None:
    q, k, v, dout = (t.float().requires_grad_() for t in inputs(1, 1, 1, 6, 6, 16))
    bias = torch.zeros(1, 1, 6, 6)
    bias[..., 2, :] = float("-inf")
    out = short_attention(q, k, v, bias, False, 0.25)
    assert not out[0, 0, 2].any() and out[0, 0, [0, 1, 3, 4, 5]].all()
    grads = torch.autograd.grad(out, (q, k, v), dout)
    assert all(torch.isfinite(g).all() for g in grads) and not grads[0][0, 0, 2].any()


def test_large_scores_do_not_overflow() -> None:
    q, k, v, dout = (t.float().requires_grad_() for t in inputs(1, 1, 1, 16, 16, 16))
    ours = short_attention(q, k, v, None, True, 300.0)
    torch.testing.assert_close(ours, F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=300.0))
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(ours, (q, k, v), dout))


def test_second_derivatives() -> None:
    shape = (1, 4, 2, 9, 9, 16)
    *wide, _ = (t.requires_grad_() for t in inputs(*shape))
    narrow = [t.detach().float().requires_grad_() for t in wide]

    def second(out: Tensor, of: list[Tensor]) -> tuple[Tensor, ...]:
        first = torch.autograd.grad(out.sin().sum(), of, create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in first), of)

    ours = second(short_attention(*narrow, None, True, 0.3), narrow)
    for one, other in zip(ours, second(exact(*wide, None, True), wide), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("case", ["float64", "long", "odd", "learned bias", "no grad", "few heads", "vmap"])
def test_what_it_declines_goes_to_torch(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v, _ = (t.float() for t in inputs(1, 2, 2, 8, 8, 24 if case == "odd" else 16))
    if case == "float64":
        q = q.double()
    if case == "long":
        monkeypatch.setattr(attention, "LONGEST", 7)
    bias = torch.zeros(1, 1, 8, 8, requires_grad=True) if case == "learned bias" else None
    if case == "no grad":
        with torch.no_grad():
            assert why_not(q, k, v, bias)
            monkeypatch.setattr(attention, "WORTH", 2 * 8 * 8 * 16)
            assert why_not(q, k, v, bias) is None, "much work is worth loading it"
    elif case == "few heads":
        monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
        assert why_not(q, k, v, bias) is None
        monkeypatch.setattr(attention, "SHORT", 7)
        assert why_not(q, k, v, bias)
    elif case == "vmap":
        torch.vmap(lambda q: torch.zeros(()) if why_not(q, k, v, None) else 1 / 0)(torch.stack((q, q)))
    else:
        assert why_not(q, k, v, bias)


@pytest.mark.parametrize("fields", [{}, {"placement": "deepnet"}, {"attention": {"heads": 2, "kv_heads": 1}}])
def test_a_model_trains_alike_with_and_without(fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(small(**{"attention": {"heads": 2}, **fields})).train()

    def gradients() -> list[Tensor]:
        model.zero_grad()
        model.logits(model.decode(tokens(2, 20), Mask(Causal())).hidden).logsumexp(-1).sum().backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    calls: list[int] = []
    real = attention._Attention.apply
    monkeypatch.setattr(attention._Attention, "apply", lambda *a: (calls.append(1), real(*a))[1])
    ours = gradients()
    assert len(calls) == 2
    monkeypatch.setattr(attention, "LONGEST", 0)
    for one, other in zip(ours, gradients(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    assert len(calls) == 2
