"""Every placement against its paper's equation, written out here step by step in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.nn.common import close, filled, small
from torch import Tensor, nn

from assay.nn.block import Block, Surroundings
from assay.nn.masks import Visible
from assay.nn.stack import Stack
from assay.spec.masks import Bidirectional, Causal, Mask
from assay.spec.model import ModelSpec, StackName

Map = Callable[[Tensor], Tensor]
DEPTH = 8
SEE = Surroundings(Visible(causal=True))


def norm(module: nn.Module) -> Map:
    """LayerNorm with this module's gain and shift (Ba et al. 2016)."""

    def apply(x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * module.weight + module.bias

    return apply


def attention(module: nn.Module, *, causal: bool = True, memory: Tensor | None = None, inner: bool = False) -> Map:
    """Vaswani et al. 2017, equation 1, four heads, no positions."""

    def apply(x: Tensor) -> Tensor:
        source = x if memory is None else memory
        heads = []
        for h in range(4):
            rows = slice(8 * h, 8 * h + 8)
            q, k, v = x @ module.q.weight[rows].T, source @ module.k.weight[rows].T, source @ module.v.weight[rows].T
            scores = q @ k.transpose(-1, -2) / 8**0.5
            if causal and memory is None:
                scores = scores + torch.full_like(scores, -torch.inf).triu(1)
            heads.append(torch.softmax(scores, -1) @ v)
        mixed = torch.cat(heads, -1)
        return (norm(module.inner)(mixed) if inner else mixed) @ module.o.weight.T

    return apply


def feedforward(module: nn.Module, *, inner: bool = False) -> Map:
    """Shazeer 2020: (SiLU(x W) * x V) W2."""

    def apply(x: Tensor) -> Tensor:
        gate = x @ module.gate.weight.T
        wide = gate * torch.sigmoid(gate) * (x @ module.up.weight.T)
        return (norm(module.inner)(wide) if inner else wide) @ module.down.weight.T

    return apply


def spec_of(placement: Any, **fields: Any) -> ModelSpec:
    return small(placement=placement, norm="layernorm", positions="none", layers=DEPTH, **fields)


def block_of(spec: ModelSpec, layer: int = 0, stack: StackName = "decoder") -> Block:
    block = filled(Block(spec, stack, layer), seed=layer + 1)
    assert isinstance(block, Block)
    return block


def pair(block: Block, *, inner: bool = False) -> tuple[Map, Map]:
    return attention(block.attention, inner=inner), feedforward(block.feedforward, inner=inner)


def stream(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 6, 32, generator=generator, dtype=torch.float64) * 2 + 0.3


def post(b: Block, x: Tensor, layer: int) -> Tensor:
    f, g = pair(b)
    x = norm(b.attention_after)(x + f(x))
    return norm(b.feedforward_after)(x + g(x))


def pre(b: Block, x: Tensor, layer: int) -> Tensor:
    f, g = pair(b)
    x = x + f(norm(b.attention_before)(x))
    return x + g(norm(b.feedforward_before)(x))


def sandwich(b: Block, x: Tensor, layer: int) -> Tensor:
    """Ding et al. 2021, section 2.4, and Kim et al. 2025 (Peri-LN)."""
    f, g = pair(b)
    x = x + norm(b.attention_out)(f(norm(b.attention_before)(x)))
    return x + norm(b.feedforward_out)(g(norm(b.feedforward_before)(x)))


def reordered(b: Block, x: Tensor, layer: int) -> Tensor:
    """OLMo 2, section 2: h = x + norm(attention(x)), out = h + norm(mlp(h))."""
    f, g = pair(b)
    x = x + norm(b.attention_out)(f(x))
    return x + norm(b.feedforward_out)(g(x))


def deepnet(b: Block, x: Tensor, layer: int) -> Tensor:
    """Wang et al. 2022: x' = LN(alpha x + f(x)), alpha = (2M)^(1/4) in a decoder alone."""
    f, g = pair(b)
    alpha = (2 * DEPTH) ** 0.25
    x = norm(b.attention_after)(alpha * x + f(x))
    return norm(b.feedforward_after)(alpha * x + g(x))


def glm130b(b: Block, x: Tensor, layer: int) -> Tensor:
    """GLM-130B's code: h = LN(x), x' = alpha h + f(h), alpha = (2N)^(1/2)."""
    f, g = pair(b)
    alpha = (2 * DEPTH) ** 0.5
    h = norm(b.attention_before)(x)
    x = alpha * h + f(h)
    h = norm(b.feedforward_before)(x)
    return alpha * h + g(h)


def subln(b: Block, x: Tensor, layer: int) -> Tensor:
    """Foundation Transformers: a second LN in each sublayer, before its output projection."""
    f, g = pair(b, inner=True)
    x = x + f(norm(b.attention_before)(x))
    return x + g(norm(b.feedforward_before)(x))


def mix(b: Block, x: Tensor, layer: int) -> Tensor:
    """Li et al. 2024: Post-LN in the first quarter of the layers, Pre-LN after."""
    return post(b, x, layer) if layer < DEPTH // 4 else pre(b, x, layer)


def scaled(b: Block, x: Tensor, layer: int) -> Tensor:
    """Sun et al. 2025: every norm's output times 1/sqrt(l), l from 1."""
    f, g = pair(b)
    x = x + f(norm(b.attention_before)(x) / (layer + 1) ** 0.5)
    return x + g(norm(b.feedforward_before)(x) / (layer + 1) ** 0.5)


SERIAL: dict[str, Callable[[Block, Tensor, int], Tensor]] = {
    "post": post, "pre": pre, "sandwich": sandwich, "peri": sandwich, "reordered": reordered, "deepnet": deepnet,
    "glm130b": glm130b, "subln": subln, "mix": mix, "scaled": scaled,
}  # fmt: skip


@pytest.mark.parametrize("layer", [0, 1, 2, DEPTH - 1])
@pytest.mark.parametrize("placement", SERIAL)
def test_serial_block_is_the_papers_equation(placement: str, layer: int) -> None:
    block, x = block_of(spec_of(placement), layer), stream()
    expected = SERIAL[placement](block, x, layer)
    close(block(x, SEE), expected, 1e-6)
    for other, equation in SERIAL.items():  # the control: no two equations agree, where their norms allow to compare
        same = equation is SERIAL[placement] or ({other, placement} <= {"pre", "scaled"} and layer == 0)
        if same or placement == "mix" or other == "mix":
            continue
        try:
            rival = equation(block, x, layer)
        except AttributeError:
            continue
        assert not torch.allclose(rival, expected, atol=1e-3), other


def parallel_reference(b: Block, x: Tensor, placement: str, layer: int, two: bool) -> Tensor:
    """Attention and feed-forward in one residual step, each placement's norms kept where they were."""
    f, g = pair(b, inner=placement == "subln")
    kind = ("post" if layer < DEPTH // 4 else "pre") if placement == "mix" else placement
    alpha = {"deepnet": (2 * DEPTH) ** 0.25, "glm130b": (2 * DEPTH) ** 0.5}.get(kind, 1.0)
    if kind in ("post", "deepnet"):
        return norm(b.shared_after)(alpha * x + f(x) + g(x))
    if kind == "reordered":
        return x + norm(b.attention_out)(f(x)) + norm(b.feedforward_out)(g(x))
    shrink = (layer + 1) ** -0.5 if kind == "scaled" else 1.0
    if two:
        a, c = norm(b.attention_before)(x) * shrink, norm(b.feedforward_before)(x) * shrink
    else:
        a = c = norm(b.shared_before)(x) * shrink
    left, right = f(a), g(c)
    if kind in ("sandwich", "peri"):
        left, right = norm(b.attention_out)(left), norm(b.feedforward_out)(right)
    return alpha * (a if kind == "glm130b" else x) + left + right


@pytest.mark.parametrize("layer", [1, DEPTH - 1])
@pytest.mark.parametrize(
    "placement, parallel",
    # GLM-130B's skip carries one norm, so it has one form only (and `two_norms` is refused by the description).
    [(p, n) for p in SERIAL for n in ("one_norm", "two_norms") if (p, n) != ("glm130b", "two_norms")],
)
def test_parallel_block(placement: str, parallel: str, layer: int) -> None:
    block, x = block_of(spec_of(placement, parallel=parallel), layer), stream()
    expected = parallel_reference(block, x, placement, layer, parallel == "two_norms")
    close(block(x, SEE), expected, 1e-6)


def test_falcon_shares_one_norm_or_has_two() -> None:
    """Falcon-7B: x + attention(LN x) + mlp(LN x) with one LN; Falcon-40B: a LN each."""
    seven, forty = (block_of(spec_of("pre", parallel=p), 1) for p in ("one_norm", "two_norms"))
    x = stream()
    for block, names in ((seven, ["shared_before"] * 2), (forty, ["attention_before", "feedforward_before"])):
        f, g = pair(block)
        first, second = (norm(getattr(block, name)) for name in names)
        close(block(x, SEE), x + f(first(x)) + g(second(x)), 1e-9)
    assert sum("norm" in type(m).__name__.lower() for m in seven.children()) == 1
    assert sum("norm" in type(m).__name__.lower() for m in forty.children()) == 2


def test_bloom_may_carry_the_normed_stream() -> None:
    """BLOOM's apply_residual_connection_post_layernorm: h = LN(x), x' = h + f(h)."""
    block, x = block_of(spec_of({"kind": "pre", "skip": "normed"})), stream()
    f, g = pair(block)
    h = norm(block.attention_before)(x)
    x1 = h + f(h)
    h = norm(block.feedforward_before)(x1)
    close(block(x, SEE), h + g(h), 1e-9)


def test_glm130b_is_deepnorm_with_its_norms_moved_to_the_next_entry() -> None:
    """Post-LN on n1(e) with after-norms n2, n3 ..., final equals GLM's form on e with norms n1, n2 ... and final."""
    alpha = 1.7
    glm = filled(Stack(spec_of({"kind": "glm130b", "alpha": alpha}, family="prefix"), "decoder"))
    deep = filled(Stack(spec_of({"kind": "deepnet", "alpha": alpha}, family="prefix"), "decoder"), seed=1)
    assert isinstance(glm, Stack) and isinstance(deep, Stack) and deep.final_norm is None
    norms = [getattr(block, f"{name}_before") for block in glm.blocks for name in ("attention", "feedforward")]
    norms.append(glm.final_norm)
    after = [getattr(block, f"{name}_after") for block in deep.blocks for name in ("attention", "feedforward")]
    for mine, theirs in zip(after, norms[1:], strict=True):
        mine.load_state_dict(theirs.state_dict())
    for ours, theirs in zip(deep.blocks, glm.blocks, strict=True):
        ours.attention.load_state_dict(theirs.attention.state_dict())
        ours.feedforward.load_state_dict(theirs.feedforward.state_dict())
    e = stream()
    close(glm(e, Mask(Causal())).hidden, deep(norms[0](e), Mask(Causal())).hidden, 1e-9)


def test_residual_keeps_two_streams() -> None:
    """Xie et al. 2023: x_a' = LN(x_a + f(x_a)), x_d' = x_d + f(x_a); y = x_a + LN(x_d)."""
    stack, e = filled(Stack(spec_of("residual"), "decoder")), stream()
    assert isinstance(stack, Stack)
    near = far = e
    for block in stack.blocks:
        f, g = pair(block)
        y = f(near)
        near, far = norm(block.attention_after)(near + y), far + y
        y = g(near)
        near, far = norm(block.feedforward_after)(near + y), far + y
    out = stack(e, Mask(Causal()), states=True)
    close(out.hidden, near + norm(stack.final_norm)(far), 1e-9)
    assert out.states is not None and len(out.states) == DEPTH + 1


@pytest.mark.parametrize("placement", ["post", "pre", "deepnet", "subln"])
def test_decoder_of_two_stacks_has_cross_attention_between(placement: str) -> None:
    spec = spec_of(placement, family="encoder_decoder", encoder={"layers": 4})
    block, x, memory = block_of(spec, 1), stream(), stream(9)[:, :5]
    alpha = (3 * DEPTH) ** 0.25 if placement == "deepnet" else 1.0
    inner = placement == "subln"
    parts = {
        "attention": attention(block.attention, inner=inner),
        "cross_attention": attention(block.cross_attention, memory=memory, inner=inner),
        "feedforward": feedforward(block.feedforward, inner=inner),
    }
    expected = x
    for name, f in parts.items():
        if placement in ("post", "deepnet"):
            expected = norm(getattr(block, f"{name}_after"))(alpha * expected + f(expected))
        else:
            expected = expected + f(norm(getattr(block, f"{name}_before"))(expected))
    close(block(x, SEE._replace(memory=memory)), expected, 1e-6)


def test_encoder_of_two_stacks_has_its_own_alpha() -> None:
    """DeepNet, table 1: 0.81 (N^4 M)^(1/16) in the encoder."""
    spec = spec_of("deepnet", family="encoder_decoder", encoder={"layers": 4})
    block, x = block_of(spec, 1, "encoder"), stream()
    f, g = attention(block.attention, causal=False), feedforward(block.feedforward)
    alpha = 0.81 * (4**4 * DEPTH) ** (1 / 16)
    h = norm(block.attention_after)(alpha * x + f(x))
    close(block(x, Surroundings()), norm(block.feedforward_after)(alpha * h + g(h)), 1e-6)


def test_alpha_on_the_branch_is_caught() -> None:
    """A popular tutorial's mistake: LN(x + alpha f(x))."""
    block, x = block_of(spec_of("deepnet")), stream()
    f, g = pair(block)
    alpha = (2 * DEPTH) ** 0.25
    wrong = norm(block.attention_after)(x + alpha * f(x))
    wrong = norm(block.feedforward_after)(wrong + alpha * g(wrong))
    with pytest.raises(AssertionError):
        close(block(x, SEE), wrong, 1e-2)


def test_constants_survive_building_and_a_change_of_type() -> None:
    """alpha is no parameter and no part of a checkpoint, and stays float32 in a bfloat16 model."""
    from assay.nn import build

    model = build(spec_of("deepnet"), dtype="bfloat16")
    assert model.decoder is not None
    alpha = model.decoder.blocks[3].attention_alpha
    assert alpha.dtype == torch.float32 and float(alpha) == pytest.approx((2 * DEPTH) ** 0.25)
    assert not any("alpha" in name for name in model.state_dict())


def test_embedding_and_final_norms() -> None:
    """Peri-LN and BLOOM norm the embedding; Post-LN and DeepNet need no final norm."""
    from assay.spec.placement import ARRANGEMENTS

    for placement in ARRANGEMENTS:
        stack = filled(Stack(spec_of(str(placement)), "decoder"))
        assert isinstance(stack, Stack)
        assert (stack.embedding_norm is not None) == (placement == "peri")
        assert (stack.final_norm is None) == (placement in ("post", "deepnet"))
    bloom = filled(Stack(spec_of({"kind": "pre", "embedding_norm": True}), "decoder"))
    assert isinstance(bloom, Stack) and bloom.embedding_norm is not None
    out = bloom(stream(), Mask(Bidirectional()), states=True)
    assert out.states is not None
    close(out.states[0], norm(bloom.embedding_norm)(stream()), 1e-9)


def test_what_has_one_normed_skip_refuses_two_norms() -> None:
    with pytest.raises(ValueError, match="one_norm"):
        spec_of("glm130b", parallel="two_norms")
