"""What one more decoded token costs, counted: operators, copies, allocations, bytes."""

import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.guards.counting import above, extra_copy, per_unit, work_of

from assay.generation import decoding
from assay.generation.build import build
from assay.generation.model import Model
from assay.spec.model import ModelSpec

pytestmark = [
    pytest.mark.skipif(shutil.which("cc") is None, reason="the stated numbers are those of the native step"),
    pytest.mark.usefixtures("one_thread"),
]

NATIVE = {"operators": 9, "products": 0, "copies": 2, "allocations": 1}
"""A token of every row, at any depth: the whole step is one call."""
BEAMS = {"operators": 210, "products": 0, "copies": 31, "allocations": 79}
"""A token of four beams, at any depth: one call, and the search among its logits."""
LAYER = {"operators": 187, "products": 7, "copies": 10, "allocations": 33, "bytes": 40_502}
"""A token of three rows, a layer of the modules, where they run. Fewer is better: lower the numbers with the work."""


def model_of(layers: int) -> Model:
    return build(
        ModelSpec.from_dict(
            {
                "vocab_size": 512, "width": 128, "layers": layers, "context": 256, "attention": {"heads": 4},
                "feedforward": {"width": 344}, "norm": {"kind": "rmsnorm"},
            }
        )
    )  # fmt: skip


def token_cost(
    layers: int, rows: int, change: Callable[[Model], Any] = lambda model: None, beams: int = 1
) -> dict[str, float]:
    model = model_of(layers)
    change(model)
    ids = torch.randint(11, 512, (rows, 16), generator=torch.Generator().manual_seed(0))
    few, many = (
        work_of(lambda new=new: model.generate(ids, max_new_tokens=new, ignore_eos=True, num_beams=beams))
        for new in (16, 48)
    )  # fmt: skip
    return per_unit(few, many, 32)


def hook(model: Model) -> None:
    for block in model.transformer.decoder.blocks:
        block.feedforward.register_forward_hook(extra_copy)


@pytest.mark.parametrize("layers", [2, 4])
@pytest.mark.parametrize("rows", [1, 3, 20])
def test_a_native_token_costs_the_same_few_operators_at_any_depth(layers: int, rows: int) -> None:
    assert not above(token_cost(layers, rows), NATIVE)


@pytest.mark.parametrize("layers", [2, 4])
def test_a_token_of_beams_copies_no_cache(layers: int) -> None:
    assert not above(token_cost(layers, 1, beams=4), BEAMS)


@pytest.mark.parametrize("rows", [1, 3])
def test_a_token_that_runs_the_modules_is_seen(rows: int) -> None:
    worse = above(token_cost(2, rows, hook), NATIVE)
    assert {"operators", "products", "copies", "allocations"} <= set(worse)


def layer_cost(change: Callable[[Model], Any] = lambda model: None) -> dict[str, float]:
    return per_unit(token_cost(2, 3, change), token_cost(4, 3, change), 2)


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "why_not", lambda *_: "the test counts the modules")


def test_a_layer_of_a_token_of_several_rows_costs_what_is_stated(modules: None) -> None:
    assert not above(layer_cost(), LAYER)


def test_an_extra_copy_a_layer_is_seen(modules: None) -> None:
    assert {"operators", "copies", "allocations", "bytes"} <= set(above(layer_cost(hook), LAYER))
