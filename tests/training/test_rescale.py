"""Layers' gradients scaled to one norm: the whole keeps its length, directions stay, other runs keep their hash."""

from collections.abc import Callable

import pytest
import torch

from assay.nn import build
from assay.spec.study import RunSpec
from assay.spec.training import OptimizerSpec, TrainSpec
from assay.training.rescale import equalise_layers, layer_norms
from assay.training.setup import make_loader
from assay.training.step import gradients, take_step
from assay.training.text import load_text, resolve

Tiny = Callable[..., RunSpec]


@pytest.mark.parametrize("family", ["causal", "encoder_decoder"])
def test_layers_end_with_one_norm_and_their_own_directions(tiny: Tiny, family: str) -> None:
    run = resolve(tiny(family))
    batch = make_loader(run, load_text(run.data)).batch(0, 0)
    model = build(run.model, seed=0)
    gradients(model, batch, weight=float(batch.weights.sum()), parts=1, z_loss=0.0, dtype="float32")
    before = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    norms = layer_norms(model)
    assert norms.max() / norms.min() > 1.01  # or there is nothing to equalise
    equalise_layers(model)
    after = layer_norms(model)
    torch.testing.assert_close(after, norms.square().mean().sqrt().expand_as(after), rtol=1e-5, atol=0)
    for name, p in model.named_parameters():
        if p.grad is not None and ".blocks." not in name:
            assert torch.equal(p.grad, before[name])
        elif p.grad is not None:
            cosine = torch.nn.functional.cosine_similarity(p.grad.flatten(), before[name].flatten(), dim=0)
            assert float(cosine) == pytest.approx(1, abs=1e-5) or not float(before[name].norm())


def test_a_step_does_it_only_when_asked(tiny: Tiny) -> None:
    run = resolve(tiny(model={"dropout": 0.0}))
    batch = make_loader(run, load_text(run.data)).batch(0, 0)
    moved = []
    for equal in (False, True, False):
        model = build(run.model, seed=0)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        take_step(
            model, optimizer, batch, weight=float(batch.weights.sum()), parts=1, learning_rate=0.1, most=0.0,
            z_loss=0.0, dtype="float32", equal_layers=equal,
        )  # fmt: skip
        moved.append(next(p for name, p in model.named_parameters() if ".blocks.0." in name).detach().clone())
    assert torch.equal(moved[0], moved[2])
    assert not torch.equal(moved[0], moved[1])


def test_a_run_that_does_not_ask_keeps_its_hash(tiny: Tiny) -> None:
    plain = tiny()
    fields = plain.to_dict(full=True)
    assert fields["train"]["optimizer"].pop("equal_layers") is False
    assert RunSpec.from_dict(fields).hash == plain.hash
    assert plain.with_(**{"train.optimizer.equal_layers": True}).hash != plain.hash
    assert TrainSpec(steps=1, optimizer=OptimizerSpec(equal_layers=True)).hash != TrainSpec(steps=1).hash
    assert "equal_layers" not in str(plain._hashed())
