"""Gradients of several models as one against those of each alone, in float64, and in float32 against the truth."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.data.batch import Batch
from assay.data.loader import Loader
from assay.nn import build
from assay.nn.transformer import Transformer
from assay.spec.study import RunSpec
from assay.training.setup import make_loader
from assay.training.step import gradients
from assay.training.text import load_text, resolve
from assay.training.together.eligible import why_alone
from assay.training.together.stacked import Stacked

Shared = Callable[..., RunSpec]

MODELS: dict[str, dict[str, Any]] = {
    "pre-LN, RMS, gated": {"norm": "rmsnorm"},
    "LayerNorm, biases, untied": {
        "norm": "layernorm", "attention.qkv_bias": True, "attention.out_bias": True, "feedforward.bias": True,
        "head.tied": False, "head.bias": True,
    },
    "DeepNorm, learned positions": {"placement": "deepnorm", "norm": "layernorm", "positions": "learned"},
    "Post-LN, sinusoids, plain": {"placement": "post", "positions": "sinusoidal", "feedforward.gated": False},
    "two streams, DyT": {"placement": "residual", "norm": "dyt"},
    "sandwich, a share of the features": {"placement": "sandwich", "norm.kind": "rmsnorm", "norm.fraction": 0.5},
    "ALiBi, one key head, norms on queries": {
        "positions": "alibi", "attention.kv_heads": 1, "attention.qk_norm": "head", "attention.softcap": 20.0,
    },
    "parallel, window, unit gain at 0": {"parallel": "one_norm", "attention.window": 8, "norm.plus_one": True},
}  # fmt: skip
FAMILIES = [("causal", None), ("prefix", None), ("encoder", None), ("encoder_decoder", "span_corruption"),
            ("encoder_decoder", None), ("prefix", "glm")]  # fmt: skip
OPERATIONS = 16 * 2**10
"""Roundings that a gradient can go through here in one order or another: sums of up to 2^10 terms, 16 in a row."""


def members(run: RunSpec, count: int, dtype: torch.dtype) -> tuple[list[Transformer], list[Batch], list[float]]:
    """Models of seeds 0, 1 ..., a batch of each one's own order, and its weight."""
    text, run = load_text(run.data), resolve(run)
    models = [build(run.model, seed=seed, dtype=dtype) for seed in range(count)]
    loaders = [make_loader(run.model_copy(update={"seed": s}), text) for s in range(count)]
    batches = [_with(loader, single=number == 0) for number, loader in enumerate(loaders)]
    for model in models:  # gains that differ, so that one member's for another's is seen
        for name, p in model.named_parameters():
            if p.ndim < 2:
                with torch.no_grad():
                    p.add_(0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(len(name)), dtype=dtype))
    return models, batches, [float(batch.weights.sum()) for batch in batches]


def _with(loader: Loader, *, single: bool) -> Batch:
    """A batch with one document a row, or with several: the two have other rules of who sees whom."""
    batches = (loader.batch(0, step) for step in range(40))
    return next((batch for batch in batches if batch.single_document == single), loader.batch(0, 3))


def alone(models: Sequence[Transformer], batches: Sequence[Batch], weights: Sequence[float], **how: Any) -> list[Any]:
    found = []
    for model, batch, weight in zip(models, batches, weights, strict=True):
        model.zero_grad(set_to_none=True)
        loss = gradients(model, batch, weight=weight, dtype="float32", **how)
        found.append((loss, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}))
    return found


def as_one(stacked: Stacked, batches: Sequence[Batch], weights: Sequence[float], **how: Any) -> list[Any]:
    losses = stacked.gradients(batches, weights, **how)
    return [
        (loss, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
        for loss, model in zip(losses, stacked.models, strict=True)
    ]


def distance(one: Any, other: Any) -> float:
    """The largest difference of a tensor, in units of its largest entry; of a loss, of the loss."""
    (loss, grads), (other_loss, other_grads) = one, other
    assert grads.keys() == other_grads.keys()
    parts = [abs(loss - other_loss) / abs(other_loss)]
    for name, grad in grads.items():
        scale = other_grads[name].double().abs().max()
        parts.append(float((grad.double() - other_grads[name].double()).abs().max() / scale) if scale > 0 else 0.0)
    return max(parts)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
def test_gradients_are_each_ones_own_in_float64(shared: Shared, model: dict[str, Any]) -> None:
    run = shared(model)
    assert why_alone(run) == ""
    models, batches, weights = members(run, 3, torch.float64)
    how = {"parts": 1, "z_loss": 1e-3}
    wanted = alone(models, batches, weights, **how)
    found = as_one(Stacked(models), batches, weights, **how)
    for one, other in zip(found, wanted, strict=True):
        assert distance(one, other) < OPERATIONS * torch.finfo(torch.float64).eps
    # Negative control: members are that far apart that one for another would be seen.
    assert distance(found[0], wanted[1]) > 1e-3


@pytest.mark.parametrize(("family", "objective"), FAMILIES)
def test_every_family_and_batches_in_parts(shared: Shared, family: str, objective: str | None) -> None:
    run = shared(family=family, objective=objective)
    models, batches, weights = members(run, 3, torch.float64)
    how = {"parts": 2, "z_loss": 0.0}
    wanted = alone(models, batches, weights, **how)
    for one, other in zip(as_one(Stacked(models), batches, weights, **how), wanted, strict=True):
        assert distance(one, other) < OPERATIONS * torch.finfo(torch.float64).eps


@settings(max_examples=6, deadline=None)
@given(width=st.sampled_from([16, 32, 48]), seed=st.integers(0, 99), norm=st.sampled_from(["rmsnorm", "layernorm"]))
def test_in_float32_it_is_as_near_the_truth_as_one_by_one(shared: Shared, width: int, seed: int, norm: str) -> None:
    models, batches, weights = members(shared(model={"width": width, "norm": norm}), 2, torch.float32)
    with torch.no_grad():
        for p in models[0].parameters():
            p.mul_(1 + seed / 100)
    exact = [build(m.spec, dtype=torch.float64) for m in models]
    for model, wide in zip(models, exact, strict=True):
        wide.load_state_dict({n: p.double() for n, p in model.state_dict().items()})
    truth = alone(exact, batches, weights, parts=1, z_loss=0.0)
    apart = alone(models, batches, weights, parts=1, z_loss=0.0)
    found = as_one(Stacked(models), batches, weights, parts=1, z_loss=0.0)
    for mine, theirs, right in zip(found, apart, truth, strict=True):
        assert distance(mine, right) < 3 * distance(theirs, right) + 4 * torch.finfo(torch.float32).eps


def test_what_is_not_finite_stays_with_its_member(shared: Shared) -> None:
    models, batches, weights = members(shared(), 3, torch.float32)
    wanted = alone(models, batches, weights, parts=1, z_loss=0.0)
    with torch.no_grad():
        models[1].embedding.weight.fill_(float("nan"))
    found = as_one(Stacked(models), batches, weights, parts=1, z_loss=0.0)
    assert found[1][0] != found[1][0]
    for number in (0, 2):
        assert distance(found[number], wanted[number]) < OPERATIONS * torch.finfo(torch.float32).eps


def test_members_are_slices_of_the_stack(shared: Shared) -> None:
    models, batches, weights = members(shared(), 2, torch.float64)
    stacked = Stacked(models)
    before = as_one(stacked, batches, weights)
    with torch.no_grad():
        for p in models[1].parameters():
            p.add_(0.01)
    after = as_one(stacked, batches, weights)
    assert after[0][0] == before[0][0] and after[1][0] != before[1][0]
    again = as_one(Stacked(models), batches, weights)  # as when a third has ended
    assert [loss for loss, _ in again] == [loss for loss, _ in after]
