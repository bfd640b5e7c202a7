"""Norms against their papers' formulas in float64, their exact invariances, and what other libraries compute."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.nn.common import close, filled, scramble
from torch import Tensor

from assay.nn.norms import Norm
from assay.spec.parts import NormSpec

Floats = NDArray[np.float64]

MAKES: dict[str, dict[str, Any]] = {
    "layernorm": {"kind": "layernorm"},
    "layernorm without shift": {"kind": "layernorm", "bias": False},
    "layernorm without weights": {"kind": "layernorm", "weight": False},
    "rmsnorm": {"kind": "rmsnorm"},
    "rmsnorm plus one": {"kind": "rmsnorm", "plus_one": True},
    "rmsnorm cast first": {"kind": "rmsnorm", "cast": "before_weight"},
    "pRMSNorm": {"kind": "rmsnorm", "fraction": 0.25},
    "dyt": {"kind": "dyt"},
    "dyt without shift": {"kind": "dyt", "bias": False},
}


def reference(norm: Norm, x: Floats, eps: float) -> Floats:
    """The papers' formulas; biased variance."""
    gain = 1.0 if norm.weight is None else norm.weight.detach().double().numpy() + norm.plus_one
    shift = 0.0 if norm.bias is None else norm.bias.detach().double().numpy()
    if norm.kind == "layernorm":
        centred = x - x.mean(-1, keepdims=True)
        y = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps)
    elif norm.kind == "rmsnorm":
        y = x / np.sqrt((x[..., : norm.counted] ** 2).mean(-1, keepdims=True) + eps)
    else:
        y = np.tanh(norm.alpha.item() * x)
    return y * gain + shift


def make(fields: dict[str, Any], width: int, seed: int = 0) -> Norm:
    norm = filled(Norm(NormSpec.model_validate(fields), width), seed)
    assert isinstance(norm, Norm)
    return norm


def draw(*shape: int, seed: int = 0, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64) * scale + shift


@pytest.mark.parametrize("fields", MAKES.values(), ids=MAKES)
@given(seed=st.integers(0, 2**20), width=st.integers(2, 40), scale=st.floats(0.05, 50), shift=st.floats(-5, 5))
@settings(max_examples=15)
def test_formula_in_float64(fields: dict[str, Any], seed: int, width: int, scale: float, shift: float) -> None:
    norm, x = make({**fields, "eps": 1e-5}, width, seed), draw(3, width, seed=seed, scale=scale, shift=shift)
    close(norm(x), torch.from_numpy(reference(norm, x.numpy(), 1e-5)), 1e-10)


@pytest.mark.parametrize("dtype, tolerance", [("float32", 4e-6), ("bfloat16", 2**-6), ("float16", 2**-9)])
@pytest.mark.parametrize("fields", MAKES.values(), ids=MAKES)
def test_lower_precision_is_the_formula_rounded(fields: dict[str, Any], dtype: str, tolerance: float) -> None:
    kind = getattr(torch, dtype)
    norm = make(fields, 48).to(kind)
    x = draw(5, 48, scale=2).to(kind)
    y = norm(x)
    assert y.dtype == kind
    close(y.double(), torch.from_numpy(reference(norm, x.double().numpy(), norm.eps)), tolerance)


@pytest.mark.parametrize("kind", ["layernorm", "rmsnorm"])
def test_squares_beyond_float16_do_not_overflow(kind: str) -> None:
    norm = make({"kind": kind}, 64).half()
    x = draw(4, 64, scale=3000).half()
    assert torch.isinf((x * x).mean(-1)).all(), "the control: squares in float16 do overflow"
    close(norm(x).double(), torch.from_numpy(reference(norm, x.double().numpy(), norm.eps)), 2**-8)


@given(seed=st.integers(0, 2**20), scale=st.floats(0.01, 100), shift=st.floats(-100, 100))
@settings(max_examples=25)
def test_layernorm_ignores_shift_and_scale(seed: int, scale: float, shift: float) -> None:
    norm, x = make({"kind": "layernorm", "eps": 0}, 24, seed), draw(4, 24, seed=seed)
    close(norm(x * scale + shift), norm(x), 1e-8)


@given(seed=st.integers(0, 2**20), scale=st.floats(0.01, 100))
@settings(max_examples=25)
def test_rmsnorm_ignores_scale_alone(seed: int, scale: float) -> None:
    norm, x = make({"kind": "rmsnorm", "eps": 0}, 24, seed), draw(4, 24, seed=seed)
    close(norm(x * scale), norm(x), 1e-10)
    with pytest.raises(AssertionError):
        close(norm(x + 1), norm(x), 1e-3)


@given(seed=st.integers(0, 2**20))
@settings(max_examples=10)
def test_rmsnorm_is_layernorm_at_zero_mean(seed: int) -> None:
    x = draw(4, 24, seed=seed)
    layer, rms = make({"kind": "layernorm", "bias": False}, 24, seed), make({"kind": "rmsnorm"}, 24, seed)
    assert layer.weight is not None and rms.weight is not None and torch.equal(layer.weight, rms.weight)
    centred = x - x.mean(-1, keepdim=True)
    close(layer(centred), rms(centred), 1e-10)
    with pytest.raises(AssertionError):
        close(layer(x + 0.5), rms(x + 0.5), 1e-3)


PRECISIONS = [("float32", 4e-6), ("bfloat16", 2**-7), ("float16", 2**-10)]


def whole(*shape: int, seed: int = 0) -> Tensor:
    """Whole numbers from -8 to 8: every type holds them, their sums with one another and their doubles exactly."""
    return torch.randint(-8, 9, shape, generator=torch.Generator().manual_seed(seed)).double()


@pytest.mark.parametrize("dtype, tolerance", PRECISIONS)
@pytest.mark.parametrize("fields", [{"kind": "layernorm"}, {"kind": "rmsnorm"}, {"kind": "rmsnorm", "fraction": 0.25}])
def test_invariances_in_every_precision(fields: dict[str, Any], dtype: str, tolerance: float) -> None:
    """By inputs that lose nothing when they are doubled and shifted: what is left is the norm's own rounding."""
    kind = getattr(torch, dtype)
    norm = make({**fields, "eps": 0}, 24).to(kind)
    x = whole(4, 24).to(kind)
    assert torch.equal(norm(4 * x), norm(x)), "a power of two scales mean, deviation and root exactly"
    if fields["kind"] == "layernorm":
        close(norm(x + 5), norm(x), tolerance)
    else:
        with pytest.raises(AssertionError):
            close(norm(x + 5), norm(x), 0.1)


@pytest.mark.parametrize("dtype, tolerance", PRECISIONS)
def test_the_two_are_equal_at_zero_mean_in_every_precision(dtype: str, tolerance: float) -> None:
    kind = getattr(torch, dtype)
    half = whole(4, 12, seed=1).to(kind)
    x = torch.cat((half, -half), -1)
    layer, rms = (make({"kind": name, "bias": False}, 24).to(kind) for name in ("layernorm", "rmsnorm"))
    close(layer(x), rms(x), tolerance)
    with pytest.raises(AssertionError):
        close(layer(x + 5), rms(x + 5), 0.1)


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("bfloat16", 2**-5), ("float16", 2**-8)])
@pytest.mark.parametrize("fields", MAKES.values(), ids=MAKES)
def test_gradients_in_lower_precision_are_those_of_float64(
    fields: dict[str, Any], dtype: str, tolerance: float
) -> None:
    """Of the same numbers: weights and input are rounded first, then carried to float64 for the other side."""
    kind = getattr(torch, dtype)
    rounded = make(fields, 48).to(kind)
    exact = make(fields, 48)
    exact.load_state_dict({name: value.double() for name, value in rounded.state_dict().items()})
    x, slope = draw(5, 48, scale=2).to(kind), draw(5, 48, seed=1).to(kind)
    found = []
    for norm, type_ in ((rounded, kind), (exact, torch.float64)):
        own = x.to(type_).requires_grad_()
        found.append(torch.autograd.grad(norm(own), [own, *norm.parameters()], slope.to(type_)))
    for one, other in zip(*found, strict=True):
        assert one.dtype == kind
        # Relative to the largest: sums over rows cancel; most of all DyT's one scalar, whose published order rounds
        # alpha x to the type of x before the tanh.
        own_tolerance = tolerance * (4 if one.dim() == 0 else 1)
        close(one.double() / other.abs().max(), other / other.abs().max(), own_tolerance)


def test_unbiased_variance_is_caught() -> None:
    """The classic slip: torch.var's default divides by n - 1."""
    norm, x = make({"kind": "layernorm", "weight": False}, 16), draw(4, 16)
    close(norm(x), (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + norm.eps).sqrt())
    with pytest.raises(AssertionError):
        close(norm(x), (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True) + norm.eps).sqrt(), 1e-3)


def test_eps_outside_the_root_is_caught() -> None:
    norm, x = make({"kind": "rmsnorm", "weight": False, "eps": 1e-2}, 16), draw(4, 16, scale=0.1)
    close(norm(x), x / (x.square().mean(-1, keepdim=True) + 1e-2).sqrt())
    with pytest.raises(AssertionError):
        close(norm(x), x / (x.square().mean(-1, keepdim=True).sqrt() + 1e-2), 1e-3)


def test_partial_rmsnorm_reads_the_first_features_alone() -> None:
    norm, x = make({"kind": "rmsnorm", "fraction": 0.0625}, 32), draw(3, 32)
    assert norm.counted == 2
    other = x.clone()
    other[:, 2:] *= 7
    assert torch.equal(norm(x)[:, :2], norm(other)[:, :2])
    other[:, 1] *= 7
    assert not torch.isclose(norm(x)[:, 0], norm(other)[:, 0]).any()


def test_cast_order_is_bit_for_bit_that_of_llama_and_of_gemma() -> None:
    from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    x = draw(64, 48, scale=3).bfloat16()
    llama = make({"cast": "before_weight", "eps": 1e-6}, 48).bfloat16()
    gemma = make({"cast": "after_weight", "eps": 1e-6, "plus_one": True}, 48).bfloat16()
    theirs = LlamaRMSNorm(48, eps=1e-6).bfloat16(), GemmaRMSNorm(48, eps=1e-6).bfloat16()
    for ours, other in zip((llama, gemma), theirs, strict=True):
        other.load_state_dict(ours.state_dict())
        # torch's own kernel sums squares in another order: a last bit before rounding, rarely one after.
        same = (ours(x) == other(x)).double().mean()
        assert same > 0.999
    late = make({"cast": "after_weight", "eps": 1e-6}, 48).bfloat16()
    differ = (llama(x) != late(x)).double().mean()
    assert 0.05 < differ < 0.6, "the order shows in bfloat16"
    wide = draw(64, 48, scale=3).float()
    assert torch.equal(llama.float()(wide), late.float()(wide)), "and in float32 it does not"


def test_max_scale_divides_by_the_largest_magnitude() -> None:
    """CogView's: LN(x / (max|x| / 8)), the maximum taken as a constant."""
    norm = make({"kind": "layernorm", "max_scale": 8, "eps": 1e-2}, 16)
    x = draw(3, 5, 16, scale=1e3)
    shrunk = x.numpy() / (np.abs(x.numpy()).max() / 8)
    close(norm(x), torch.from_numpy(reference(norm, shrunk, 1e-2)))
    plain = make({"kind": "layernorm", "eps": 1e-2}, 16)
    assert not torch.allclose(plain(x), norm(x)), "eps weighs more after the division"
    x.requires_grad_()
    factor = x.detach().abs().max() / 8
    (ours,) = torch.autograd.grad(norm(x).square().sum(), x)
    (straight,) = torch.autograd.grad(plain(x / factor).square().sum(), x)
    close(ours, straight)


@pytest.mark.parametrize("fields", MAKES.values(), ids=MAKES)
def test_gradients(fields: dict[str, Any]) -> None:
    norm, x = make(fields, 12), draw(2, 12).requires_grad_()
    names, values = zip(*norm.named_parameters(), strict=True) if list(norm.parameters()) else ((), ())
    held = tuple(value.detach().clone().requires_grad_() for value in values)

    def run(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(norm, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(run, (x, *held), atol=1e-7, rtol=1e-6)


def test_no_norm_changes_nothing() -> None:
    norm = Norm(NormSpec(kind="none"), 8)
    x = draw(2, 8)
    assert norm(x) is x and not list(norm.parameters())


def test_a_norm_begins_as_the_plain_normalization() -> None:
    """Gain 1 (or 0 with plus_one), shift 0; scramble above must not hide a wrong start."""
    from tests.nn.common import small

    from assay.nn import build

    for kind in ({"kind": "layernorm"}, {"kind": "rmsnorm", "plus_one": True}, {"kind": "dyt", "alpha": 0.7}):
        model = build(small(norm=kind, layers=1))
        assert model.decoder is not None
        norm = model.decoder.final_norm
        assert isinstance(norm, Norm)
        x = draw(3, 32).float()
        plain = reference(norm, x.double().numpy(), norm.eps)
        gain = plain / np.tanh(0.7 * x.numpy()) if kind["kind"] == "dyt" else None
        close(norm(x), torch.from_numpy(plain), 1e-5)
        assert gain is None or np.allclose(gain, 1)
        assert norm.bias is None or not norm.bias.any()
        scramble(norm)
        assert not torch.allclose(norm(x).double(), torch.from_numpy(plain), atol=1e-2)
