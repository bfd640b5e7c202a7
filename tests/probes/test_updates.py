"""How far a step moves the function: steps whose effect is known."""

import pytest
import torch
from tests.probes.common import assert_untouched, batch_of, made, spec_of, state

from assay.probes import function_update
from assay.probes.updates import outputs


def post(**fields: object) -> torch.nn.Module:
    return made(spec_of(placement="post", norm="layernorm", **fields))


def shift(model: torch.nn.Module, by: float):
    """Adds a constant to the last norm's bias: the output moves by it, whatever the input."""

    def step() -> None:
        with torch.no_grad():
            model.decoder.blocks[-1].feedforward_after.bias.add_(by)

    return step


@pytest.mark.parametrize("by", [0.25, -1.5])
def test_a_shift_of_the_output_is_measured_exactly(by: float) -> None:
    model, batch = post(), batch_of(room=9)
    found = function_update(model, batch, shift(model, by))
    assert found.output.change == pytest.approx(abs(by), rel=1e-12)
    size = outputs(model, batch)["decoder.final"].square().mean().sqrt()
    assert found.output.relative == pytest.approx(abs(by) / float(size), rel=1e-12)
    assert found.parameters == pytest.approx(abs(by) * 8**0.5, rel=1e-12)
    assert found.points["decoder.blocks.0.out"].change == 0, "layers before it stay"
    assert found.points["logits"].change > 0


def test_a_step_that_does_nothing_moves_nothing() -> None:
    model = post()
    found = function_update(model, batch_of(), lambda: None)
    assert found.output.change == 0 and found.parameters == 0
    assert {name.rpartition(".")[2] for name in found.points} == {"out", "final", "logits"}
    assert len(found.points) == 2 + 2, "two layers, the end, the logits: not the sublayers"


def test_weights_and_gradients_come_back_bit_for_bit() -> None:
    model, batch = made(spec_of(placement="deepnet", dropout=0.2)), batch_of()
    model.train()
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    before = state(model)

    def step() -> None:
        for p in model.parameters():
            p.grad.mul_(2)
            p.data.add_(p.grad)

    assert function_update(model, batch, step).output.change > 0
    assert_untouched(model, before)
    assert model.training
    kept = function_update(model, batch, step, restore=False)
    assert kept.output.change > 0
    with pytest.raises(AssertionError):
        assert_untouched(model, before)


def test_an_error_in_the_step_leaves_the_model_as_it_was() -> None:
    model = post()
    before = state(model)

    def step() -> None:
        shift(model, 1.0)()
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        function_update(model, batch_of(), step)
    assert_untouched(model, before)


@pytest.mark.parametrize("family", ["encoder", "encoder_decoder", "prefix"])
def test_every_family_has_an_output(family: str) -> None:
    model, batch = made(spec_of(family=family)), batch_of(family)

    def step() -> None:
        with torch.no_grad():
            model.embedding.weight.mul_(1.1).add_(0.1)

    found = function_update(model, batch, step)
    assert found.output == found.points[f"{model.spec.output_stack}.final"]
    assert found.output.change > 0
