"""What one rank holds of every tensor, and what is gathered together: FSDP's arithmetic, without tensors.

Each block is one unit and the rest of the model another, as `fully_shard` is applied: the collectives of a unit carry
all of its tensors at once. A tensor is cut along its first dimension into equal pieces, the last ones shorter or
empty; on the wire every piece is as long as the first (Zhao et al. 2023; `torch.distributed.fsdp.fully_shard`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from assay.spec.axes import Placement
from assay.spec.model import ModelSpec
from assay.spec.parameters import ParameterInfo, block, layout

__all__ = ["Model", "Unit", "model_units", "shard_shape", "tensor_shape"]

COLUMN = ("q", "k", "v", "gate", "up")
ROW = ("o", "down")


def shard_shape(shape: tuple[int, ...], ranks: int, rank: int = 0) -> tuple[int, ...]:
    """What a rank holds of a tensor that is cut along its first dimension (rank 0 holds the most).

    A scalar stays whole.
    """
    if not shape:
        return ()
    first, *rest = shape
    piece = -(-first // ranks)
    return (max(min(piece, first - piece * rank), 0), *rest)


def tensor_shape(parameter: ParameterInfo, spec: ModelSpec, tensor: int) -> tuple[int, ...]:
    """What one of `tensor` tensor-parallel ranks holds (Shoeybi et al. 2019).

    Queries, keys, values and the inward matrices are cut by rows, output and outward matrices by columns, embedding
    and head by vocabulary; of keys and values no more pieces than heads. All else is on every rank.
    """
    shape = parameter.shape
    names = parameter.name.split(".")
    letter, kind = (names[-2], names[-1]) if len(names) > 1 else ("", names[-1])
    if tensor == 1:
        return shape
    if letter in COLUMN:
        stack = "encoder" if parameter.name.startswith("encoder") else "decoder"
        stack = stack if stack in spec.stacks else spec.output_stack
        ways = min(tensor, spec.kv_heads(stack)) if letter in ("k", "v") else tensor
        return (-(-shape[0] // ways), *shape[1:])
    if letter in ROW and kind == "weight":
        return (shape[0], -(-shape[1] // tensor))
    if parameter.name in ("embedding.weight", "head.weight", "head.bias"):
        return (-(-shape[0] // tensor), *shape[1:])
    return shape


@dataclass(frozen=True)
class Unit:
    """Tensors that travel together: (rows, elements a row) and how many there are of each."""

    tensors: tuple[tuple[int, int, int], ...]
    scalars: int = 0
    """Numbers that are never cut and travel apart (DyT's)."""
    known: dict[int, int] = field(default_factory=dict, compare=False, repr=False)
    """Pieces that were counted already, by ranks."""

    @cached_property
    def elements(self) -> int:
        """Of all tensors that travel, whole."""
        return sum(rows * rest * number for rows, rest, number in self.tensors)

    def kept(self, ranks: int) -> int:
        """Elements that the fullest rank holds between steps."""
        return self.piece(ranks) + self.scalars

    def piece(self, ranks: int) -> int:
        """Elements of the fullest rank's share, which is as much as each rank sends."""
        if ranks not in self.known:
            self.known[ranks] = sum(-(-rows // ranks) * rest * number for rows, rest, number in self.tensors)
        return self.known[ranks]

    def gathered(self, ranks: int) -> int:
        """Elements of an all-gather's output or a reduce-scatter's input, padding included."""
        return ranks * self.piece(ranks)


@dataclass(frozen=True)
class Model:
    """A model as units: `root` apart, and its blocks, alike ones counted."""

    root: Unit
    blocks: tuple[tuple[Unit, int], ...]

    @cached_property
    def depth(self) -> int:
        """Blocks of all stacks."""
        return sum(number for _, number in self.blocks)

    @cached_property
    def largest(self) -> Unit:
        """The block with the most elements."""
        return max((unit for unit, _ in self.blocks), key=lambda unit: unit.elements)


def model_units(spec: ModelSpec, tensor: int = 1) -> Model:
    """The units of a model, on one of `tensor` tensor-parallel ranks."""
    blocks: Counter[Unit] = Counter()
    for stack in spec.stacks:
        depth = spec.depth(stack)
        # Only Mix-LN's layers differ in what they hold.
        mixed = spec.placement.kind is Placement.mix
        for layer in range(depth) if mixed else (0,):
            name = f"{stack}.blocks.{layer}"
            blocks[_unit(block(spec, stack, layer, name), spec, tensor)] += 1 if mixed else depth
    return Model(_unit(_outside(spec), spec, tensor), tuple(blocks.items()))


def _outside(spec: ModelSpec) -> tuple[ParameterInfo, ...]:
    return tuple(parameter for parameter in layout(spec) if ".blocks." not in parameter.name)


def _unit(parameters: Iterable[ParameterInfo], spec: ModelSpec, tensor: int) -> Unit:
    counted: Counter[tuple[int, int]] = Counter()
    scalars = 0
    for parameter in parameters:
        shape = tensor_shape(parameter, spec, tensor)
        if shape:
            counted[shape[0], math.prod(shape[1:])] += 1
        else:
            scalars += 1
    return Unit(tuple((*key, number) for key, number in sorted(counted.items())), scalars)
