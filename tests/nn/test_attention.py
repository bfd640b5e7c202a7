"""Attention's options against straight-line references; the fused path against the explicit one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.nn.common import close, filled, small
from torch import Tensor

from assay.nn.attention import Attention, attend, attend_explicitly
from assay.nn.hooks import Record
from assay.nn.masks import EVERYTHING, Visible, visible
from assay.nn.positions import rotary
from assay.spec.masks import Causal, Mask, Window
from assay.spec.parts import PositionSpec
from assay.spec.placement import NOTHING

CAUSAL = Visible(causal=True)


def attention(layer: int = 0, *, cross: bool = False, norm: str = "rmsnorm", **say: Any) -> Attention:
    spec = small(attention=say, norm=norm)
    module = filled(Attention(spec, "decoder", layer, NOTHING, cross=cross))
    assert isinstance(module, Attention)
    return module.eval()


def stream(length: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(2, length, 32, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rms(module: Any, x: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + module.eps).sqrt() * module.weight


def reference(
    m: Attention,
    x: Tensor,
    memory: Tensor | None = None,
    *,
    causal: bool = True,
    scale: float | None = None,
    cap: float | None = None,
    clip: float | None = None,
    cap_after_mask: bool = False,
) -> Tensor:
    """One head at a time; key-value head h // (heads / kv heads) serves query head h."""
    source = x if memory is None else memory
    q, k, v = x @ m.q.weight.T, source @ m.k.weight.T, source @ m.v.weight.T
    if clip is not None:
        q, k, v = (y.where(y.abs() < clip, clip * y.sign()) for y in (q, k, v))
    if m.q_norm is not None and not m.per_head:
        q, k = rms(m.q_norm, q), rms(m.k_norm, k)
    d, heads = m.head_width, []
    for h in range(m.heads):
        g = h // (m.heads // m.kv_heads)
        qh, kh, vh = q[..., h * d : h * d + d], k[..., g * d : g * d + d], v[..., g * d : g * d + d]
        if m.q_norm is not None and m.per_head:
            qh, kh = rms(m.q_norm, qh), rms(m.k_norm, kh)
        scores = qh @ kh.transpose(-1, -2) * (d**-0.5 if scale is None else scale)
        mask = torch.full_like(scores, -torch.inf).triu(1) if causal else torch.zeros_like(scores)
        if cap and not cap_after_mask:
            scores = cap * torch.tanh(scores / cap)
        scores = scores + mask
        if cap and cap_after_mask:
            scores = cap * torch.tanh(scores / cap)
        heads.append(torch.softmax(scores, -1) @ vh)
    return torch.cat(heads, -1) @ m.o.weight.T


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_grouped_and_multi_query(kv_heads: int) -> None:
    m, x = attention(kv_heads=kv_heads), stream()
    close(m(x, CAUSAL), reference(m, x))
    full = attention()

    def spread(how: Any) -> dict[str, Tensor]:
        pieces = {n: getattr(m, n).weight.unflatten(0, (kv_heads, 8)) for n in ("k", "v")}
        return m.state_dict() | {f"{n}.weight": how(piece).flatten(0, 1) for n, piece in pieces.items()}

    full.load_state_dict(spread(lambda w: w.repeat_interleave(4 // kv_heads, 0)))  # heads repeated by hand
    close(m(x, CAUSAL), full(x, CAUSAL))
    if kv_heads == 2:  # the control: tiling the heads (0 1 0 1) in place of repeating each (0 0 1 1)
        full.load_state_dict(spread(lambda w: w.repeat(2, 1, 1)))
        assert not torch.allclose(m(x, CAUSAL), full(x, CAUSAL), atol=1e-3)


@pytest.mark.parametrize("kind", ["head", "full"])
@pytest.mark.parametrize("kv_heads", [2, 4])
def test_norms_on_queries_and_keys(kind: str, kv_heads: int) -> None:
    m, x = attention(qk_norm=kind, kv_heads=kv_heads, qk_norm_eps=1e-3), stream()
    assert m.q_norm is not None and m.k_norm is not None and m.q_norm.eps == 1e-3
    assert (m.q_norm.width, m.k_norm.width) == ((8, 8) if kind == "head" else (32, 8 * kv_heads))
    close(m(x, CAUSAL), reference(m, x))
    record = Record(lambda name: name == "q")
    m(x * 100, CAUSAL, tap=record)
    big = record.values["q"]
    m(x, CAUSAL, tap=record)
    close(big, record.values["q"], 0.05)


def test_norms_come_before_rotation() -> None:
    """OLMo 2 and Qwen 3: a gain that differs between the two features of a pair does not commute with RoPE."""
    m, x = attention(qk_norm="head"), stream()
    table = rotary(PositionSpec(), 8, torch.arange(6)[None])
    record = Record(lambda name: name == "q")
    m(x, CAUSAL, table, tap=record)
    assert m.q_norm is not None
    q = rms(m.q_norm, (x @ m.q.weight.T).unflatten(-1, (4, 8))).transpose(1, 2)
    first, second = q[..., :4], q[..., 4:]
    angle = torch.arange(6)[:, None].double() * 10_000.0 ** (-torch.arange(4).double() / 4)
    turned = torch.cat([first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()], -1)
    close(record.values["q"], turned, 1e-5)


def test_softcap_comes_before_the_mask() -> None:
    """After the mask, cap * tanh(-inf) = -cap would open every hidden key."""
    m, x = attention(softcap=0.5), stream()
    close(m(x, CAUSAL), reference(m, x, cap=0.5))
    assert not torch.allclose(m(x, CAUSAL), reference(m, x, cap=0.5, cap_after_mask=True), atol=1e-3)
    assert not torch.allclose(m(x, CAUSAL), reference(m, x), atol=1e-3)


@pytest.mark.parametrize("softcap", [None, 0.7])
def test_pb_relax_changes_nothing_in_exact_arithmetic(softcap: float | None) -> None:
    plain, relaxed, x = attention(softcap=softcap), attention(softcap=softcap, relax=32.0), stream() * 3
    for see in (CAUSAL, EVERYTHING, visible(Mask(Causal() & Window(2)), 6, 6, device="cpu", dtype=torch.float64)):
        close(relaxed(x, see), plain(x, see), 1e-12)
    bias = torch.randn(1, 4, 6, 6, dtype=torch.float64)
    close(relaxed(x, Visible(bias=bias)), plain(x, Visible(bias=bias)), 1e-12)


def test_pb_relax_keeps_float16_finite() -> None:
    """Scores of 2e5 are beyond float16; divided by 32 they are not."""
    q = torch.full((1, 1, 3, 64), 56.0, dtype=torch.float16)
    v = torch.arange(3 * 64).reshape(1, 1, 3, 64).half() / 64
    assert torch.isinf(q @ q.transpose(-1, -2)).all()
    assert not torch.isfinite(attend_explicitly(q, q, v, EVERYTHING, 1.0)).all()
    close(attend_explicitly(q, q, v, EVERYTHING, 1.0, relax=32.0), v.mean(2, keepdim=True).expand_as(v), 2e-3)


def test_scale_and_its_division_by_layer() -> None:
    x = stream()
    close((m := attention(scale=0.9))(x, CAUSAL), reference(m, x, scale=0.9))
    for layer in (0, 3):
        m = attention(layer, scale_by_layer=True)
        close(m(x, CAUSAL), reference(m, x, scale=8**-0.5 / (layer + 1)), 1e-6)
    assert not torch.allclose(m(x, CAUSAL), reference(m, x), atol=1e-3)


def test_clip() -> None:
    m, x = attention(clip_qkv=0.4), stream()
    close(m(x, CAUSAL), reference(m, x, clip=0.4))
    assert not torch.allclose(m(x, CAUSAL), reference(m, x), atol=1e-3)


def test_cross_attention_reads_the_memory() -> None:
    m, x, memory = attention(cross=True, kv_heads=2), stream(), stream(4, seed=5)
    close(m(x, EVERYTHING, memory=memory), reference(m, x, memory, causal=False))
    hidden = Visible(bias=torch.tensor([0.0, 0.0, -torch.inf, -torch.inf], dtype=torch.float64).view(1, 1, 1, 4))
    close(m(x, hidden, memory=memory), reference(m, x, memory[:, :2], causal=False))


@given(
    seed=st.integers(0, 2**20), groups=st.sampled_from([(4, 1), (4, 2), (4, 4)]), queries=st.integers(1, 9),
    keys=st.integers(1, 9), form=st.sampled_from(["causal", "bias", "everything"]), scale=st.floats(0.01, 1.5),
)  # fmt: skip
@settings(max_examples=50)
def test_fused_equals_explicit(
    seed: int, groups: tuple[int, int], queries: int, keys: int, form: str, scale: float
) -> None:
    generator = torch.Generator().manual_seed(seed)

    def draw(heads: int, length: int) -> Tensor:
        return torch.randn(2, heads, length, 8, generator=generator, dtype=torch.float64)

    keys = queries if form == "causal" else keys
    q, k, v = draw(groups[0], queries), draw(groups[1], keys), draw(groups[1], keys)
    bias = torch.randn(2, 1, queries, keys, generator=generator, dtype=torch.float64)
    bias[..., 1:][torch.rand(bias[..., 1:].shape, generator=generator) < 0.4] = -torch.inf
    see = {"causal": CAUSAL, "bias": Visible(bias=bias), "everything": EVERYTHING}[form]
    close(attend(q, k, v, see, scale, 0.0), attend_explicitly(q, k, v, see, scale), 1e-10)


@pytest.mark.parametrize("softcap", [None, 30.0])
def test_dropout_in_training_alone(softcap: float | None) -> None:
    m, x = attention(dropout=0.5, softcap=softcap), stream()
    assert torch.equal(m(x, CAUSAL), m(x, CAUSAL))
    close(m(x, CAUSAL), reference(m, x, cap=softcap))
    m.train()
    torch.manual_seed(1)
    first = m(x, CAUSAL)
    assert not torch.equal(first, m(x, CAUSAL))
    torch.manual_seed(1)
    assert torch.equal(first, m(x, CAUSAL)), "drawn from torch's generator, so a seed repeats it"
    torch.manual_seed(2)
    with torch.no_grad():
        mean = torch.stack([m(x, CAUSAL) for _ in range(2000)]).mean(0)
    close(mean, m.eval()(x, CAUSAL).detach(), 0.25)


def test_biases_where_asked() -> None:
    m = attention(qkv_bias=True, out_bias=True)
    assert all(linear.bias is not None for linear in (m.q, m.k, m.v, m.o))
    x, without = stream(), attention()
    without.load_state_dict({n: p for n, p in m.state_dict().items() if not n.endswith("bias")})
    assert not torch.allclose(m(x, CAUSAL), without(x, CAUSAL), atol=1e-3)


def test_gradients_of_the_explicit_path() -> None:
    q, k, v = (torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))
    assert torch.autograd.gradcheck(
        lambda q, k, v: attend_explicitly(q, k, v, CAUSAL, 0.5, 0.0, softcap=2.0, relax=4.0), (q, k, v)
    )
