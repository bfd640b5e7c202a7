"""The C rotation: bit for bit torch's, in both directions, for every pairing, fraction, layout and table."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.nn.common import made, small, tokens
from torch import Tensor

from assay.nn import positions
from assay.nn.kernels import rotary as kernel
from assay.nn.positions import Rotary, rotate, rotate_both
from assay.spec.masks import Causal, Mask

NEEDS_C = pytest.mark.skipif(kernel.NATIVE.load() is None, reason=f"no C kernel here: {kernel.NATIVE.reason}")


def by_matrix(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool, axes: int) -> Tensor:
    """The rotation as a product with its matrix, pair by pair, in float64."""
    rotated, width = cos.shape[-1], x.shape[-1]
    part = rotated // axes
    pairs = [(i, i + 1) for i in range(0, rotated, 2)]
    if not interleaved:
        pairs = [(start + i, start + i + part // 2) for start in range(0, rotated, part) for i in range(part // 2)]
    matrix = torch.eye(width, dtype=torch.float64).repeat(*cos.shape[:2], 1, 1)
    for one, two in pairs:
        matrix[..., one, one], matrix[..., one, two] = cos[..., one].double(), -sin[..., one].double()
        matrix[..., two, two], matrix[..., two, one] = cos[..., two].double(), sin[..., two].double()
    return torch.einsum("bsij,bhsj->bhsi", matrix.expand(len(x), -1, -1, -1), x.double())


@st.composite
def cases(draw: Any) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    batch, rows, groups = draw(st.integers(1, 3)), draw(st.integers(1, 9)), draw(st.integers(1, 3))
    heads, axes = groups * draw(st.integers(1, 2)), draw(st.sampled_from([1, 1, 2]))
    rotated = 2 * axes * draw(st.sampled_from([1, 3, 8, 16, 21]))
    width = rotated + draw(st.sampled_from([0, 0, 1, 5]))
    order = draw(st.permutations([0, 1, 2]))  # how batch, heads and rows lie in memory

    def laid(count: int) -> Tensor:
        sizes = (batch, count, rows)
        made = torch.randn(*(sizes[i] for i in order), width, generator=generator)
        return made.permute(*(order.index(i) for i in range(3)), 3)

    # One table a tensor and no two halves alike, as the general adjoint needs.
    one, two = (draw(st.sampled_from([1, batch])) for _ in "qk")
    table = Rotary(*(torch.randn(tables, rows, rotated, generator=generator) for tables in (one, one, two, two)))
    return {
        "q": laid(heads), "k": laid(groups), "by": table, "axes": axes,
        "interleaved": axes == 1 and draw(st.booleans()), "dq": laid(heads), "dk": laid(groups),
    }  # fmt: skip


def torchs(case: dict[str, Any], **changed: Any) -> list[Tensor]:
    case = case | changed
    q, k = case["q"].clone().requires_grad_(), case["k"].clone().requires_grad_()
    how = {"interleaved": case["interleaved"], "axes": case["axes"]}
    out = rotate(q, *case["by"][:2], **how), rotate(k, *case["by"][2:], **how)
    return [*(t.detach() for t in out), *torch.autograd.grad(out, (q, k), (case["dq"], case["dk"]))]


def ours(case: dict[str, Any]) -> list[Tensor]:
    q, k = case["q"].clone().requires_grad_(), case["k"].clone().requires_grad_()
    out = rotate_both(q, k, case["by"], interleaved=case["interleaved"], axes=case["axes"])
    assert type(out[0].grad_fn).__name__ == "_TurnBackward", "the kernel is what ran"
    return [*(t.detach() for t in out), *torch.autograd.grad(out, (q, k), (case["dq"], case["dk"]))]


@NEEDS_C
@given(case=cases(), threads=st.sampled_from([1, 2]))
@settings(max_examples=60, deadline=None)
def test_results_and_gradients_are_torchs_bit_for_bit(case: dict[str, Any], threads: int) -> None:
    torch.set_num_threads(threads)
    before, kernel.native.SHARE = kernel.native.SHARE, 16
    try:
        for one, other in zip(ours(case), torchs(case), strict=True):
            assert torch.equal(one, other)
    finally:
        kernel.native.SHARE = before
    exact = by_matrix(case["q"], *case["by"][:2], case["interleaved"], case["axes"])
    torch.testing.assert_close(ours(case)[0].double(), exact, rtol=1e-5, atol=1e-5)


@NEEDS_C
@given(case=cases())
@settings(max_examples=20, deadline=None)
def test_without_gradients_the_same(case: dict[str, Any]) -> None:
    with torch.no_grad():
        out = rotate_both(case["q"], case["k"], case["by"], interleaved=case["interleaved"], axes=case["axes"])
    assert all(torch.equal(one, other) for one, other in zip(out, torchs(case)[:2], strict=True))


def plain_case(**more: Any) -> dict[str, Any]:
    draw = torch.Generator().manual_seed(3)
    x = [torch.randn(2, 3, 5, 16, generator=draw) for _ in range(4)]
    angles = torch.randn(1, 5, 8, generator=draw)
    cos, sin = angles.cos().repeat(1, 1, 2), angles.sin().repeat(1, 1, 2)
    case = {"q": x[0], "k": x[1], "dq": x[2], "dk": x[3], "by": Rotary(cos, sin, cos, sin), "axes": 1}
    return case | {"interleaved": False} | more


@NEEDS_C
def test_classic_mistakes_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Controls: a backward that turns on instead of back, the other pairing, one sign, keys by the queries' table."""
    case = plain_case()
    cos, sin = case["by"][:2]
    assert not torch.equal(ours(case)[0], torchs(case, interleaved=True)[0])
    assert not torch.equal(ours(case)[0], torchs(case, by=Rotary(cos, -sin, cos, -sin))[0])
    assert not torch.equal(ours(case)[1], torchs(case, by=Rotary(cos, sin, cos * 2, sin))[1])
    real = kernel._turn
    monkeypatch.setattr(kernel, "_turn", lambda x, cos, sin, axes, back: real(x, cos, sin, axes, False))
    wrong = ours(case)
    assert torch.equal(wrong[0], torchs(case)[0]) and not torch.allclose(wrong[2], torchs(case)[2], atol=1e-2)


@NEEDS_C
def test_second_derivatives() -> None:
    def second(turn: Any, dtype: torch.dtype) -> tuple[Tensor, ...]:
        case = plain_case()
        q, k = (case[name].to(dtype).requires_grad_() for name in "qk")
        a, b = turn(q, k, Rotary(*(t.to(dtype) for t in case["by"])), interleaved=True, axes=1)
        first = torch.autograd.grad((a.sin() * b.cos()).sum(), (q, k), create_graph=True)
        return torch.autograd.grad(sum(d.square().sum() for d in first), (q, k))

    for one, other in zip(second(rotate_both, torch.float32), second(rotate_both, torch.float64), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-4)


def test_other_types_vmap_and_fake_tensors_go_through_torch() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    case = plain_case()
    both = {"interleaved": False, "axes": 1}
    for dtype in (torch.float64, torch.bfloat16):
        q, k = rotate_both(case["q"].to(dtype), case["k"].to(dtype), case["by"], **both)
        assert q.dtype == k.dtype == dtype
    many = torch.vmap(lambda q, k: rotate_both(q, k, case["by"], **both)[0])(case["q"][None], case["k"][None])
    assert torch.equal(many[0], torchs(case)[0])
    with FakeTensorMode() as mode:
        q, k = (mode.from_tensor(case[name]) for name in "qk")
        turned, _ = rotate_both(q, k, Rotary(*(mode.from_tensor(t) for t in case["by"])), **both)
        assert turned.shape == case["q"].shape
    learned = Rotary(*(t.clone().requires_grad_() for t in case["by"]))
    rotate_both(case["q"], case["k"], learned, **both)[0].sum().backward()
    assert learned.q_cos.grad is not None


@NEEDS_C
@pytest.mark.parametrize("fields", [{}, {"fraction": 0.5, "pairing": "interleaved"}, {"xpos": True}], ids=str)
def test_a_model_is_the_same_with_and_without(fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(small(positions={"kind": "rope", **fields}, attention={"heads": 4, "kv_heads": 2}))
    ids = tokens(2, 12)

    def run() -> list[Tensor]:
        model.zero_grad()
        hidden = model.decode(ids, Mask(Causal())).hidden
        hidden.square().sum().backward()
        return [hidden.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]

    calls: list[bool] = []
    real = kernel.turn
    monkeypatch.setattr(positions.kernel, "turn", lambda *a: (calls.append(True), real(*a))[1])
    with_c = run()
    monkeypatch.setattr(kernel.NATIVE, "handle", None)
    without = run()
    assert len(calls) == 2 and all(torch.equal(a, b) for a, b in zip(with_c, without, strict=True))
