"""Every parameter of a model by name, shape and part, from the description alone.

The names are those of the built model (`tests/nn` holds the two equal), so that counting, inspecting and mapping
published checkpoints need no tensors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from assay.spec.axes import HeadKind, NormKind, PositionKind, QKNorm
from assay.spec.model import ModelSpec, StackName
from assay.spec.parts import NormSpec
from assay.spec.placement import Slot, SublayerKind, block_plan, has_embedding_norm, has_final_norm

PARTS = ("embedding", "positions", "attention", "cross_attention", "feedforward", "norm", "head")
"""The parts that counts are given by."""


@dataclass(frozen=True)
class ParameterInfo:
    """One parameter tensor."""

    name: str
    shape: tuple[int, ...]
    part: str

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


class ParameterCount(int):
    """A number of parameters; `.parts` has it by part."""

    parts: dict[str, int]

    def __new__(cls, parts: dict[str, int]) -> ParameterCount:
        """Sum of the parts."""
        self = super().__new__(cls, sum(parts.values()))
        self.parts = parts
        return self


def count(spec: ModelSpec) -> ParameterCount:
    """Parameters by part; tied matrices count once."""
    parts = dict.fromkeys(PARTS, 0)
    for parameter in layout(spec):
        parts[parameter.part] += parameter.size
    return ParameterCount({part: size for part, size in parts.items() if size})


def layout(spec: ModelSpec) -> Iterator[ParameterInfo]:
    """Every parameter in the order of the forward pass."""
    yield ParameterInfo("embedding.weight", (spec.vocab_size, spec.width), "embedding")
    for stack in spec.stacks:
        yield from _stack(spec, stack)
    yield from _head(spec)


def _stack(spec: ModelSpec, stack: StackName) -> Iterator[ParameterInfo]:
    positions = spec.positions
    if positions.kind is PositionKind.learned:
        shape = (spec.context + positions.offset, spec.width)
        yield ParameterInfo(f"{stack}.positions.weight", shape, "positions")
        if positions.axes == 2:
            yield ParameterInfo(f"{stack}.block_positions.weight", shape, "positions")
    if spec.embedding.token_types:
        yield ParameterInfo(f"{stack}.token_types.weight", (spec.embedding.token_types, spec.width), "embedding")
    if has_embedding_norm(spec):
        yield from norm(spec, f"{stack}.embedding_norm", spec.width)
    if positions.kind is PositionKind.relative and not positions.per_layer:
        yield ParameterInfo(f"{stack}.relative.weight", (positions.buckets, spec.heads(stack)), "positions")
    for layer in range(spec.depth(stack)):
        yield from block(spec, stack, layer, f"{stack}.blocks.{layer}")
    if has_final_norm(spec):
        yield from norm(spec, f"{stack}.final_norm", spec.width)


def block(spec: ModelSpec, stack: StackName, layer: int, prefix: str) -> Iterator[ParameterInfo]:
    """Parameters of one layer, under `prefix`."""
    for step in block_plan(spec, stack, layer).steps:
        yield from _slot(spec, step.before, f"{prefix}.{step.name}_before")
        for sublayer in step.sublayers:
            name = f"{prefix}.{sublayer.kind}"
            yield from _slot(spec, sublayer.before, f"{name}_before")
            if sublayer.kind is SublayerKind.feedforward:
                yield from _feedforward(spec, stack, name, sublayer.inner)
            else:
                yield from _attention(spec, stack, name, sublayer.inner, sublayer.kind)
            yield from _slot(spec, sublayer.out, f"{name}_out")
        yield from _slot(spec, step.after, f"{prefix}.{step.name}_after")


def _attention(
    spec: ModelSpec, stack: StackName, name: str, inner: Slot, kind: SublayerKind
) -> Iterator[ParameterInfo]:
    attention, head, part = spec.attention, spec.head_width(stack), kind.value
    widths = {
        "q": spec.heads(stack) * head,
        "k": spec.kv_heads(stack) * head,
        "v": spec.kv_heads(stack) * head,
    }
    for letter, width in widths.items():
        yield from _linear(f"{name}.{letter}", spec.width, width, attention.qkv_bias, part)
    if attention.qk_norm is not QKNorm.none:
        for letter in ("q", "k"):
            width = head if attention.qk_norm is QKNorm.head else widths[letter]
            yield from norm(spec, f"{name}.{letter}_norm", width, spec.query_norm)
    if kind is SublayerKind.attention and spec.positions.kind is PositionKind.relative and spec.positions.per_layer:
        yield ParameterInfo(f"{name}.relative.weight", (spec.positions.buckets, spec.heads(stack)), "positions")
    yield from _slot(spec, inner, f"{name}.inner", widths["q"])
    yield from _linear(f"{name}.o", widths["q"], spec.width, attention.out_bias, part)


def _feedforward(spec: ModelSpec, stack: StackName, name: str, inner: Slot) -> Iterator[ParameterInfo]:
    forward, width, part = spec.feedforward, spec.feedforward_width(stack), "feedforward"
    inward = ("gate", "up") if forward.gated else ("up",)
    if forward.experts is None:
        for matrix in inward:
            yield from _linear(f"{name}.{matrix}", spec.width, width, forward.bias, part)
        yield from _slot(spec, inner, f"{name}.inner", width)
        yield from _linear(f"{name}.down", width, spec.width, forward.bias, part)
        return
    number = forward.experts.count
    yield ParameterInfo(f"{name}.router.weight", (number, spec.width), part)
    for expert in range(number):
        for matrix in inward:
            yield from _linear(f"{name}.experts.{expert}.{matrix}", spec.width, width, forward.bias, part)
        yield from _slot(spec, inner, f"{name}.experts.{expert}.inner", width)
        yield from _linear(f"{name}.experts.{expert}.down", width, spec.width, forward.bias, part)


def _head(spec: ModelSpec) -> Iterator[ParameterInfo]:
    head, width = spec.head, spec.width
    if head.kind is HeadKind.mlm:
        yield from _linear("head.dense", width, width, True, "head")
        yield from norm(spec, "head.norm", width)
    if head.kind is not HeadKind.none:
        if not head.tied:
            yield ParameterInfo("head.weight", (spec.vocab_size, width), "head")
        if head.bias:
            yield ParameterInfo("head.bias", (spec.vocab_size,), "head")
    if head.sentence_pair:
        yield from _linear("head.pooler", width, width, True, "head")
        yield from _linear("head.sentence", width, 2, True, "head")


def _linear(name: str, inputs: int, outputs: int, bias: bool, part: str) -> Iterator[ParameterInfo]:
    yield ParameterInfo(f"{name}.weight", (outputs, inputs), part)
    if bias:
        yield ParameterInfo(f"{name}.bias", (outputs,), part)


def _slot(spec: ModelSpec, slot: Slot, name: str, width: int | None = None) -> Iterator[ParameterInfo]:
    if slot.norm:
        yield from norm(spec, name, width or spec.width)


def norm(spec: ModelSpec, name: str, width: int, make: NormSpec | None = None) -> Iterator[ParameterInfo]:
    """Parameters of one norm over `width` features; `make` instead of the model's own."""
    make = make or spec.norm
    if make.kind is NormKind.dyt:
        yield ParameterInfo(f"{name}.alpha", (), "norm")
    if make.has_weight:
        yield ParameterInfo(f"{name}.weight", (width,), "norm")
    if make.has_bias:
        yield ParameterInfo(f"{name}.bias", (width,), "norm")
