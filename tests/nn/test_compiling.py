"""Compile by block: the same numbers, and one graph for all layers however many there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.nn.common import close, made, small, tokens
from torch import Tensor, nn

from assay.nn import Transformer
from assay.nn.block import Block
from assay.nn.compiling import cannot_compile, compile_blocks
from assay.nn.kernels import cross_entropy, norms
from assay.nn.stack import Group
from assay.spec.masks import Bidirectional, Causal, Mask

HERE = cannot_compile()


class Counting:
    """A backend that runs graphs as they are and counts them."""

    def __init__(self) -> None:
        self.graphs: list[Any] = []

    def __call__(self, graph: Any, inputs: Any) -> Callable[..., Any]:
        self.graphs.append(graph)
        return graph.forward


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    """Blocks compile with a backend that counts, everything else as `compile_blocks` says."""
    backend = Counting()
    monkeypatch.setattr(Block, "compile", lambda self, **how: nn.Module.compile(self, backend=backend, **how))
    monkeypatch.setattr(Group, "compile", lambda self, **how: nn.Module.compile(self, backend=backend, **how))
    monkeypatch.setattr("assay.nn.compiling.cannot_compile", lambda device="cpu": None)
    torch._dynamo.reset()
    return backend


def step(model: Transformer) -> tuple[Tensor, dict[str, Tensor]]:
    """A loss and its gradients."""
    model.zero_grad()
    ids = tokens(2, 8)
    if model.encoder is not None and model.decoder is not None:
        memory = model.encode(ids.flip(1), Mask(Bidirectional())).hidden
        hidden = model.decode(ids, Mask(Causal()), memory=memory, memory_mask=Mask(Bidirectional())).hidden
    else:
        hidden = model.decode(ids, Mask(Causal())).hidden
    value = torch.nn.functional.cross_entropy(model.logits(hidden).flatten(0, 1), tokens(16, seed=2))
    value.backward()
    return value.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


VARIANTS: dict[str, dict[str, Any]] = {
    "pre": {},
    "deepnet": {"placement": "deepnet", "norm": "layernorm"},
    "glm130b": {"placement": "glm130b"},
    "scaled": {"placement": "scaled"},
    "scale_by_layer": {"attention": {"scale_by_layer": True}},
    "residual": {"placement": "residual"},
    "alibi window": {"positions": "alibi", "attention": {"window": 3}},
    "falcon": {"parallel": "two_norms"},
}


BY_LAYER = ("pre", "deepnet", "scaled", "scale_by_layer")
"""Those with constants that differ by layer, and one without, at every depth; the others once."""


@pytest.mark.parametrize("variant, layers", [(v, n) for v in VARIANTS for n in ((2, 6, 12) if v in BY_LAYER else (3,))])
def test_one_graph_serves_all_layers(counting: Counting, variant: str, layers: int) -> None:
    model = made(small(**VARIANTS[variant], layers=layers)).train()
    before, grads = step(model)
    assert compile_blocks(model) is None
    after, others = step(model)
    assert len(counting.graphs) == 1
    close(after, before, 1e-6)
    for name in grads:
        close(others[name], grads[name], 1e-5)
    step(model)
    assert len(counting.graphs) == 1, "and the second step needs no new one"


def test_each_stack_of_an_encoder_decoder_has_its_graph(counting: Counting) -> None:
    model = made(small(family="encoder_decoder", layers=4, placement="deepnet")).train()
    before, _ = step(model)
    compile_blocks(model)
    after, _ = step(model)
    assert len(counting.graphs) == 2
    close(after, before, 1e-6)


@pytest.mark.parametrize("bias, products", [(False, 5), (True, 7)])
def test_queries_keys_and_values_are_one_product_where_that_is_the_same(
    counting: Counting, bias: bool, products: int
) -> None:
    """Of a small block: q, k and v, output, gate, up and down are five products; with biases, seven."""
    model = made(small(layers=2, attention={"qkv_bias": bias, "kv_heads": 2})).train()
    before, grads = step(model)
    compile_blocks(model)
    after, others = step(model)
    (graph,) = counting.graphs
    assert sum(node.target is torch._C._nn.linear for node in graph.graph.nodes) == products
    close(after, before, 1e-6)
    assert grads.keys() == others.keys()
    for name in grads:
        close(others[name], grads[name], 1e-5)


def test_a_constant_that_is_no_tensor_is_caught(counting: Counting) -> None:
    """The control: Python floats that differ by layer make a graph each."""
    model = made(small(placement="deepnet", layers=4)).train()
    assert model.decoder is not None
    for layer, block in enumerate(model.decoder.blocks):
        del block.attention_alpha
        block.attention_alpha = 1.0 + layer
    compile_blocks(model)
    step(model)
    assert len(counting.graphs) > 1


def test_without_gradients_blocks_run_as_written(counting: Counting) -> None:
    """Lengths vary in evaluation and generation; no graph is made for each."""
    model = made(small())
    compile_blocks(model)
    with torch.no_grad():
        for length in (3, 4, 5):
            model.decode(tokens(1, length), Mask(Causal()))
    assert not counting.graphs


@pytest.mark.parametrize("softcap", [None, 30.0])
@pytest.mark.parametrize("kernels", [True, False])
def test_what_a_c_kernel_does_alone_is_not_compiled(
    counting: Counting, monkeypatch: pytest.MonkeyPatch, kernels: bool, softcap: float | None
) -> None:
    """The chunk of logits and the final norm: compiled they are slower, and take seconds to compile."""
    for library in (cross_entropy.NATIVE, norms.NATIVE) if not kernels else ():
        monkeypatch.setattr(library, "tried", True)
        monkeypatch.setattr(library, "handle", None)
    if kernels and None in (cross_entropy.NATIVE.load(), norms.NATIVE.load()):
        pytest.skip(f"no C kernels: {cross_entropy.NATIVE.reason} {norms.NATIVE.reason}")
    model = made(small(head={"softcap": softcap}))
    assert compile_blocks(model) is None
    assert model.decoder is not None and model.decoder.final_norm is not None
    assert (model.head.chunk is None) == (kernels and softcap is None)
    assert (model.decoder.final_norm._compiled_call_impl is None) == kernels


@pytest.mark.parametrize("found", [None, "g++", "clang++"])
def test_no_compiler_is_a_reason_to_stay_eager(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, found: str | None
) -> None:
    if found:
        (tmp_path / found).write_text("#!/bin/sh\n")
        (tmp_path / found).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    compiled: list[Block] = []
    monkeypatch.setattr(Block, "compile", lambda self, **how: compiled.append(self))
    model = made(small())
    reason = compile_blocks(model)
    if found:
        assert reason is None and len(compiled) == 2
    else:
        assert reason is not None and "g++" in reason and "install" in reason
        assert not compiled
        assert torch.isfinite(step(model)[0])


@pytest.mark.slow
@pytest.mark.skipif(HERE is not None, reason=f"{HERE}")
def test_inductor_gives_the_same_numbers() -> None:
    torch._dynamo.reset()
    model = made(small(placement="deepnet", layers=3)).train()
    before, grads = step(model)
    assert compile_blocks(model) is None
    after, others = step(model)
    close(after, before, 1e-4)
    for name in grads:
        close(others[name], grads[name], 1e-3)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_groups_of_small_blocks_share_a_graph(
    counting: Counting, checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deep and narrow: a few blocks to a graph, one graph for all, and the numbers of blocks one by one."""
    from assay.nn import compiling

    monkeypatch.setattr(compiling, "DEEP", 4)
    model = made(small(placement="deepnet", layers=12)).train()
    before, grads = step(model)
    assert compile_blocks(model) is None
    assert model.decoder is not None and [len(group.blocks) for group in model.decoder.groups] == [6, 6]
    model.decoder.checkpointing = checkpointing
    after, others = step(model)
    assert len(counting.graphs) == 1
    close(after, before, 1e-6)
    assert grads.keys() == others.keys()
    for name in grads:
        close(others[name], grads[name], 1e-5)


def test_group_sizes() -> None:
    from assay.nn.compiling import group_size

    assert group_size(250, 64) == 10 and group_size(1000, 32) == 10 and group_size(96, 64) == 8
    assert group_size(6, 64) == 1 and group_size(250, 1024) == 1
    assert group_size(251, 64) == 1, "a prime depth has no equal groups"


@pytest.mark.parametrize("fields", [{}, {"placement": "deepnet"}, {"dropout": 0.3}, {"placement": "residual"}])
def test_checkpointing_changes_no_number(fields: dict[str, Any]) -> None:
    model = made(small(**fields, layers=3)).train()
    torch.manual_seed(1)
    before, grads = step(model)
    assert model.decoder is not None
    model.decoder.checkpointing = True
    torch.manual_seed(1)
    after, others = step(model)
    assert torch.equal(before, after)
    assert all(torch.equal(others[name], grads[name]) for name in grads)
