"""What a training step of one more layer costs, counted: products, operators, copies, allocations, bytes, kernels."""

import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.guards.counting import above, extra_copy, operators, per_unit, work_of

from assay.nn import build
from assay.nn.batch import TensorBatch
from assay.nn.compiling import compile_blocks
from assay.nn.feedforward import FeedForward
from assay.nn.loss import cross_entropy_sum, loss_sum
from assay.nn.transformer import Transformer
from assay.spec.masks import Causal, Mask
from assay.spec.model import ModelSpec
from assay.spec.training import OptimizerSpec
from assay.training.memory import peak_bytes
from assay.training.optimizer import adamw

pytestmark = [
    pytest.mark.skipif(shutil.which("cc") is None, reason="the stated numbers are those of the C kernels"),
    pytest.mark.usefixtures("one_thread"),
]

ROWS, LENGTH, WIDTH, VOCABULARY = 2, 128, 128, 512
ONE = 4 * ROWS * LENGTH * WIDTH
"""Bytes of one stream, [rows, length, width]."""

LAYER = {"products": 21, "operators": 422, "copies": 0, "allocations": 46, "bytes": 6_456_320}
"""A LLaMA-like layer, forward and backward, eager, AdamW and clearing included: 7 matrices, 3 products each.

The bytes are 49 streams. Fewer is better: lower these numbers with the work that lowers them.
"""
KERNELS = {"graphs": 3, "kernels": 49}
"""Of a compiled model, whatever its depth: the block, the final norm, the loss."""


def model_of(layers: int) -> Transformer:
    spec = ModelSpec.from_dict(
        {
            "vocab_size": VOCABULARY, "width": WIDTH, "layers": layers, "context": LENGTH, "attention": {"heads": 4},
            "feedforward": {"width": 344}, "norm": {"kind": "rmsnorm"},
        }
    )  # fmt: skip
    return build(spec).train()


def step_of(model: Transformer) -> Callable[[], Any]:
    optimizer = adamw(model, OptimizerSpec())
    ids = torch.randint(0, VOCABULARY, (ROWS, LENGTH + 1), generator=torch.Generator().manual_seed(0))
    targets = ids[:, 1:].flatten()
    every = torch.arange(len(targets))
    batch = TensorBatch(
        ids[:, :-1], Mask(Causal()), None, None, None, None, None, every, targets, torch.ones(len(targets))
    )

    def step() -> None:
        loss_sum(model, batch).total.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def layer_cost(change: Callable[[Transformer], Any] = lambda model: None) -> dict[str, float]:
    found = []
    for layers in (2, 4):
        model = model_of(layers)
        change(model)
        found.append(work_of(step_of(model)))
    return per_unit(*found, 2)


def hook(model: Transformer) -> None:
    for block in model.decoder.blocks:
        block.feedforward.register_forward_hook(extra_copy)


def test_a_layer_of_a_training_step_costs_what_is_stated() -> None:
    assert not above(layer_cost(), LAYER)


def test_an_extra_copy_a_layer_is_seen() -> None:
    worse = above(layer_cost(hook), LAYER)
    assert {"copies", "operators", "allocations", "bytes"} <= set(worse)


def test_products_are_three_a_matrix() -> None:
    """Two would leave out a gradient; four would compute something twice."""
    assert layer_cost()["products"] == 3 * 7


def head(chunked: bool) -> Callable[[], Any]:
    tokens, vocabulary, width = 1024, 8192, 64
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(tokens, width, generator=draw).requires_grad_()
    matrix = torch.randn(vocabulary, width, generator=draw).requires_grad_()
    targets = torch.randint(0, vocabulary, (tokens,), generator=draw)

    def step() -> Any:
        if chunked:
            loss = cross_entropy_sum(hidden, matrix, targets, torch.ones(tokens))
        else:
            loss = torch.nn.functional.cross_entropy(hidden @ matrix.t(), targets, reduction="sum")
        return torch.autograd.grad(loss, (hidden, matrix))

    step()
    return step


HEAD_SHARE = 0.6
"""Of the logits' bytes, both gradients included, at 1,024 tokens x 8,192."""


def test_head_and_loss_hold_a_stated_share_of_the_logits() -> None:
    logits = 4 * 1024 * 8192
    assert (peak_bytes(head(True), held=0) or 0) <= HEAD_SHARE * logits


def test_full_logits_would_be_seen() -> None:
    assert (peak_bytes(head(False), held=0) or 0) > HEAD_SHARE * 4 * 1024 * 8192


def compiled_counts(layers: int, change: Callable[[Transformer], Any] = lambda model: None) -> dict[str, int]:
    from torch._dynamo.utils import counters
    from torch._inductor import metrics

    torch._dynamo.reset()
    counters.clear()
    metrics.reset()
    model = model_of(layers)
    change(model)
    assert compile_blocks(model) is None
    step_of(model)()
    return {"graphs": counters["stats"]["unique_graphs"], "kernels": metrics.generated_kernel_count}


@pytest.mark.slow
def test_one_compiled_block_serves_every_layer_with_the_stated_kernels() -> None:
    two, four = compiled_counts(2), compiled_counts(4)
    assert two == four
    assert not above(four, KERNELS)


class Sorting(FeedForward):
    def forward(self, x: torch.Tensor, tap: Any = None) -> torch.Tensor:
        return super().forward(x, tap).sort(-1)[0]


@pytest.mark.slow
def test_a_block_that_differs_is_compiled_again_and_seen() -> None:
    def change(model: Transformer) -> None:
        model.decoder.blocks[1].feedforward.__class__ = Sorting  # what cannot be fused into the rest

    assert above(compiled_counts(2, change), KERNELS)


def test_profiler_counts_an_operator_that_is_there() -> None:
    """The guard's own eyes: three additions are three."""
    x = torch.ones(4)
    assert operators(lambda: x + x + x + x)["aten::add"] == 3
