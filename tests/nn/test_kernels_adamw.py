"""AdamW and the gradients' norm in C: against float64, against torch's own, and what torch must do itself."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assay.nn.kernels import adamw as kernel
from assay.spec.training import OptimizerSpec
from assay.training.optimizer import AdamW, adamw, clipped_step

NEEDS_C = pytest.mark.skipif(kernel.NATIVE.load() is None, reason=f"no C kernel here: {kernel.NATIVE.reason}")
SHAPES = [(7,), (16,), (3, 5), (40, 33), (), (130, 257)]
"""Shorter than a vector, whole vectors, rests, a scalar, more than one piece."""


class Parts(nn.Module):
    """Parameters of all kinds of sizes."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.parts = nn.ParameterList(
            [nn.Parameter(torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype)) for shape in SHAPES]
        )

    def learn(self, step: int) -> None:
        draw = torch.Generator().manual_seed(step + 1)
        for p in self.parts:
            p.grad = torch.randn(p.shape, generator=draw, dtype=torch.float64).to(p.dtype)


SPEC = OptimizerSpec(learning_rate=0.01, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.1)


def trained(model: Parts, steps: int = 6, most: float = 20.0) -> tuple[Parts, AdamW, list[float]]:
    optimizer, norms = adamw(model, SPEC), []
    for step in range(steps):
        model.learn(step)
        norms.append(clipped_step(optimizer, most))
    return model, optimizer, norms


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tensors in each call of the kernel."""
    seen: list[int] = []
    real = kernel.adamw_step

    def counted(parameters: list[Tensor], *rest: Any, **more: Any) -> None:
        seen.append(len(parameters))
        real(parameters, *rest, **more)

    monkeypatch.setattr("assay.training.optimizer.adamw_step", counted)
    return seen


@NEEDS_C
@pytest.mark.parametrize("threads", [1, 2])
def test_steps_equal_float64(threads: int, calls: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "SHARE", 64)
    torch.set_num_threads(threads)
    ours, _, norms = trained(Parts())
    assert calls == [3, 3] * 5, "five steps of two groups; the first is torch's, which makes the state"
    exact, _, wanted = trained(Parts(torch.float64))
    assert len(calls) == 10, "float64 is not the kernel's"
    assert norms == pytest.approx(wanted, rel=1e-6)
    for one, other in zip(ours.parts, exact.parts, strict=True):
        torch.testing.assert_close(one.double(), other.detach(), rtol=2e-6, atol=2e-6, check_dtype=False)


@NEEDS_C
def test_steps_equal_torchs_and_states_have_its_form(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, mine, norms = trained(Parts())
    monkeypatch.setattr("assay.training.optimizer.why_not", lambda *lists: "not now")
    theirs, torchs, wanted = trained(Parts())
    assert norms == pytest.approx(wanted, rel=1e-6)
    for one, other in zip(ours.parts, theirs.parts, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
        a, b = mine.state[one], torchs.state[other]
        assert a.keys() == b.keys() and torch.equal(a["step"], b["step"])
        for name in a:
            assert (a[name].dtype, a[name].shape) == (b[name].dtype, b[name].shape)
            torch.testing.assert_close(a[name], b[name], rtol=1e-5, atol=1e-7)


@NEEDS_C
def test_threads_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "SHARE", 64)
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        model, _, norms = trained(Parts())
        found.append((norms, [p.detach().clone() for p in model.parts]))
    torch.set_num_threads(1)
    for norms, parts in found[1:]:
        assert norms == found[0][0]
        assert all(torch.equal(a, b) for a, b in zip(parts, found[0][1], strict=True))


@NEEDS_C
def test_a_restored_state_goes_on_bit_for_bit() -> None:
    """The state travels through torch's own `state_dict`, whose tensors replace those that the kernel has seen."""
    model, optimizer, _ = trained(Parts(), 3)
    other = copy.deepcopy(model)
    second = adamw(other, SPEC)
    second.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for step in range(3, 6):
        for m, o in ((model, optimizer), (other, second)):
            m.learn(step)
            clipped_step(o, 20.0)
    assert all(torch.equal(a, b) for a, b in zip(model.parts, other.parts, strict=True))


def _no_gradient(model: Parts) -> None:
    model.parts[2].grad = None


def _strided(model: Parts) -> None:
    model.parts[3].grad = torch.ones(33, 40, dtype=model.parts[3].dtype).t()


@pytest.mark.parametrize("case", [_no_gradient, _strided])
def test_unusual_gradients(case: Callable[[Parts], None], calls: list[int]) -> None:
    ours, optimizer, _ = trained(Parts(), 2)
    exact, other, _ = trained(Parts(torch.float64), 2)
    calls.clear()
    for m, o in ((ours, optimizer), (exact, other)):
        m.learn(2)
        case(m)
        clipped_step(o, 0.0)
    if kernel.NATIVE.handle is not None:
        assert calls == ([2, 3] if case is _no_gradient else [])
    for one, two in zip(ours.parts, exact.parts, strict=True):
        torch.testing.assert_close(one.double(), two.detach(), rtol=2e-6, atol=2e-6, check_dtype=False)


@NEEDS_C
def test_a_weight_that_autograd_saved_is_known_to_have_changed() -> None:
    model, optimizer, _ = trained(Parts(), 2)
    loss = (model.parts[0] ** 2).sum()
    model.learn(2)
    clipped_step(optimizer, 0.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@NEEDS_C
def test_the_norm_sees_large_small_and_bad_values() -> None:
    big = [torch.full((40_000,), 1e30), torch.full((3,), 1e-30)]
    assert kernel.norm_of(big) == pytest.approx(1e30 * 200, rel=1e-6), "squares overflow float32"
    assert kernel.norm_of([torch.full((9,), 1e-30)]) == pytest.approx(3e-30, rel=1e-6)
    assert kernel.norm_of([torch.tensor([1.0, float("nan")])]) != kernel.norm_of([torch.ones(2)])
    assert kernel.norm_of([torch.empty(0)]) == 0
