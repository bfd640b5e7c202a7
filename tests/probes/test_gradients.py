"""Two norms of a gradient: against plain autograd in float64, and told apart."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.probes.common import assert_untouched, batch_of, made, spec_of, state

from assay.data.batch import Batch
from assay.errors import UserError
from assay.nn.batch import hidden_at_targets, to_tensors
from assay.nn.transformer import Transformer
from assay.probes import gradient_norms
from assay.probes.looking import row_of


def reference(model: Transformer, batch: Batch) -> dict[str, torch.Tensor]:
    """The gradient of the mean loss by plain cross-entropy over all logits."""
    rows = to_tensors(batch)
    logits = model.logits(hidden_at_targets(model, rows))
    grads = torch.autograd.grad(F.cross_entropy(logits, rows.targets), list(model.parameters()), allow_unused=True)
    names = [name for name, _ in model.named_parameters()]
    return {name: torch.zeros(()) if g is None else g for name, g in zip(names, grads, strict=True)}


@pytest.mark.parametrize("family", ["causal", "prefix", "encoder_decoder", "encoder"])
@pytest.mark.parametrize("placement", ["post", "pre", "residual"])
def test_both_norms_against_autograd(family: str, placement: str) -> None:
    model, batch = made(spec_of(family=family, placement=placement)), batch_of(family, room=8)
    found = gradient_norms(model, batch)
    whole = reference(model, batch)
    single = [reference(model, row_of(batch, index)) for index in range(3)]
    for name in found.names:
        assert found.norm_of_mean(name) == pytest.approx(float(whole[name].norm()), rel=1e-9, abs=1e-12)
        mean = np.mean([float(one[name].norm()) for one in single])
        assert found.mean_of_norms(name) == pytest.approx(mean, rel=1e-9, abs=1e-12)
    layer = [n for n in found.names if n.startswith(f"{model.spec.output_stack}.blocks.1.")]
    together = torch.cat([whole[n].flatten() for n in layer]).norm()
    assert found.norm_of_mean(lambda n: n in layer) == pytest.approx(float(together), rel=1e-9)


@given(st.integers(0, 10_000))
@settings(max_examples=20)
def test_the_norm_of_the_mean_is_at_most_the_mean_of_norms(seed: int) -> None:
    found = gradient_norms(made(spec_of(), seed), batch_of(seed=seed))
    for name in (None, *found.names):
        assert found.norm_of_mean(name) <= found.mean_of_norms(name) * (1 + 1e-12) + 1e-15


def test_equal_examples_agree_and_different_ones_do_not() -> None:
    """The control: where examples differ, one norm cannot stand for the other."""
    model, batch = made(spec_of()), batch_of(rows=4)
    first = np.zeros(4, dtype=int)
    equal = dataclasses.replace(
        batch, input_ids=batch.input_ids[first], targets=batch.targets[first], weights=batch.weights[first]
    )
    same, other = gradient_norms(model, equal), gradient_norms(model, batch)
    assert same.norm_of_mean() == pytest.approx(same.mean_of_norms(), rel=1e-9)
    assert other.norm_of_mean() < 0.95 * other.mean_of_norms()


def test_examples_count_by_their_targets() -> None:
    model, batch = made(spec_of()), batch_of()
    weights = batch.weights.copy()
    weights[0, 2:] = 0
    weights[1] = 0
    found = gradient_norms(model, dataclasses.replace(batch, weights=weights))
    assert found.shares == pytest.approx([2 / 8, 6 / 8])
    whole = reference(model, dataclasses.replace(batch, weights=weights))
    for name in found.names:
        assert found.norm_of_mean(name) == pytest.approx(float(whole[name].norm()), rel=1e-9, abs=1e-12)


def test_nothing_changes() -> None:
    model, batch = made(spec_of(dropout=0.5)), batch_of()
    model.train()
    next(iter(model.parameters())).requires_grad_(False)
    last = list(model.parameters())[-1]
    last.grad = torch.full_like(last, 3.0)
    before, generator = state(model), torch.get_rng_state()
    first, second = gradient_norms(model, batch), gradient_norms(model, batch)
    assert first.norm_of_mean() == second.norm_of_mean(), "dropout is off"
    assert_untouched(model, before)
    assert model.training and not next(iter(model.parameters())).requires_grad
    assert torch.equal(torch.get_rng_state(), generator)


def test_a_batch_without_targets_is_refused() -> None:
    batch = batch_of()
    with pytest.raises(UserError, match="no target"):
        gradient_norms(made(spec_of()), dataclasses.replace(batch, weights=np.zeros_like(batch.weights)))
