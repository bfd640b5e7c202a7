"""A block is one equation, computed from its plan (`spec/placement.py`); no placement has a name here.

x ------------------ alpha ----------(+)-- after --> x
|                      |              |
+-- before -- h ----- or              |
              |                       |
              +-- before_k -- f_k -- out_k      for every sublayer k of the step
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.nn.attention import Attention, LayerCache
from assay.nn.feedforward import make_feedforward
from assay.nn.hooks import Tap, scoped, touch
from assay.nn.masks import EVERYTHING, Visible
from assay.nn.norms import Norm
from assay.nn.positions import Rotary
from assay.spec.axes import Skip
from assay.spec.model import ModelSpec, StackName
from assay.spec.placement import BlockPlan, Slot, Step, SublayerKind, block_plan


class Surroundings(NamedTuple):
    """All that a block reads besides the stream."""

    see: Visible = EVERYTHING
    rotary: Rotary | None = None
    memory: Tensor | None = None
    see_memory: Visible = EVERYTHING


class Wiring(NamedTuple):
    """One step of a block as names of the block's own modules ('' where a slot is empty)."""

    sublayers: tuple[tuple[str, str, str], ...]
    """(module, its norm before, its norm after) of every sublayer."""
    before: str
    after: str
    alpha: str
    normed_skip: bool


class Sum(NamedTuple):
    """alpha * skip + add, not added up yet."""

    skip: Tensor
    add: Tensor | None
    alpha: Tensor | None

    def value(self) -> Tensor:
        """The sum."""
        total = self.skip if self.alpha is None else self.skip * self.alpha
        return total if self.add is None else total + self.add

    def plus(self, y: Tensor) -> Sum:
        """One more sublayer's part."""
        return Sum(self.skip, y, self.alpha) if self.add is None else Sum(self.value(), y, None)


class Block(nn.Module):
    """One layer. Submodules: `attention`, `cross_attention`, `feedforward` and the norms of the occupied slots."""

    def __init__(self, spec: ModelSpec, stack: StackName, layer: int) -> None:
        """Args: spec: the model; stack, layer (from 0): where in it."""
        super().__init__()
        self.dropout = spec.dropout
        plan = block_plan(spec, stack, layer)
        self.dual = plan.dual
        self.constants: dict[str, float] = {}
        # A scale of 1 is kept where other layers have another, so that all of them run the same graph.
        self.scaled = _has_scales(block_plan(spec, stack, spec.depth(stack) - 1))
        self.wiring = tuple(self._wire(spec, stack, layer, step) for step in plan.steps)

    def _wire(self, spec: ModelSpec, stack: StackName, layer: int, step: Step) -> Wiring:
        sublayers = []
        before = self._slot(spec, step.before, f"{step.name}_before")
        for sub in step.sublayers:
            kind = sub.kind.value
            own = self._slot(spec, sub.before, f"{kind}_before")
            if sub.kind is SublayerKind.feedforward:
                self.add_module(kind, make_feedforward(spec, stack, sub.inner))
            else:
                cross = sub.kind is SublayerKind.cross_attention
                self.add_module(kind, Attention(spec, stack, layer, sub.inner, cross=cross))
            sublayers.append((kind, own, self._slot(spec, sub.out, f"{kind}_out")))
        after = self._slot(spec, step.after, f"{step.name}_after")
        alpha = self._constant(f"{step.name}_alpha", step.alpha)
        return Wiring(tuple(sublayers), before, after, alpha, step.skip is Skip.normed)

    def _slot(self, spec: ModelSpec, slot: Slot, name: str) -> str:
        if not slot:
            return ""
        if slot.norm:
            self.add_module(name, Norm(spec.norm, spec.width))
        self._constant(f"{name}_scale", slot.scale, keep=self.scaled)
        return name

    def _constant(self, name: str, value: float, *, keep: bool = False) -> str:
        """A per-layer constant as a float32 scalar tensor, so that one compiled block serves every layer."""
        if value == 1.0 and not keep:
            return ""
        self.constants[name] = value
        self.register_buffer(name, torch.tensor(value, dtype=torch.float32), persistent=False)
        return name

    def forward(
        self,
        x: Tensor,
        around: Surroundings,
        cache: dict[str, LayerCache] | None = None,
        tap: Tap | None = None,
    ) -> Tensor:
        """The stream [B, S, width] after this layer (ResiDual: both streams, stacked on a first axis of 2)."""
        if self.dual:
            return self._dual(x, around, cache, tap)
        x = touch(tap, "in", x)
        waiting: Sum | None = None
        for wire in self.wiring:
            # A sum waits for the norm that reads it next: the two are one pass through memory.
            if waiting is None:
                h = self._through(wire.before, x)
            else:
                h, x = self._through_sum(wire.before, waiting, keep=not wire.normed_skip)
            alpha = getattr(self, wire.alpha) if wire.alpha else None
            waiting = Sum(h if wire.normed_skip else x, None, alpha)
            for name, before, out in wire.sublayers:
                y = self._through(out, self._sublayer(name, self._through(before, h), around, cache, tap))
                waiting = waiting.plus(y)
            if wire.after:
                x, waiting = self._through_sum(wire.after, waiting, keep=False)[0], None
        return touch(tap, "out", x if waiting is None else waiting.value())

    def _dual(self, x: Tensor, around: Surroundings, cache: dict[str, LayerCache] | None, tap: Tap | None) -> Tensor:
        """ResiDual (Xie et al. 2023, section 3.1): x_a' = LN(x_a + f(x_a)), x_d' = x_d + f(x_a)."""
        near, far = touch(tap, "in", x).unbind(0)
        for wire in self.wiring:
            ((name, _, _),) = wire.sublayers
            y = self._sublayer(name, near, around, cache, tap)
            near, far = self._through(wire.after, near + y), far + y
        return touch(tap, "out", torch.stack((near, far)))

    def _sublayer(
        self, name: str, h: Tensor, around: Surroundings, cache: dict[str, LayerCache] | None, tap: Tap | None
    ) -> Tensor:
        module, inside = getattr(self, name), scoped(tap, name)
        kept = None if cache is None else cache.get(name)
        if name == SublayerKind.attention:
            y = module(h, around.see, around.rotary, cache=kept, tap=inside)
        elif name == SublayerKind.cross_attention:
            y = module(h, around.see_memory, memory=around.memory, cache=kept, tap=inside)
        else:
            y = module(h, tap=inside)
        return touch(inside, "out", F.dropout(y, self.dropout, self.training))

    def _through(self, slot: str, x: Tensor) -> Tensor:
        if not slot:
            return x
        norm, scale = getattr(self, slot, None), getattr(self, f"{slot}_scale", None)
        if norm is not None:
            x = norm(x)
        return x if scale is None else x * scale

    def _through_sum(self, slot: str, waiting: Sum, *, keep: bool) -> tuple[Tensor, Tensor]:
        """(the sum through the slot, the sum); the second is not to be used unless `keep`."""
        norm, add = getattr(self, slot, None) if slot else None, waiting.add
        if not isinstance(norm, Norm) or add is None:
            value = waiting.value()
            return self._through(slot, value), value
        y, total = norm.of_sum(waiting.skip, add, waiting.alpha, keep=keep)
        scale = getattr(self, f"{slot}_scale", None)
        return y if scale is None else y * scale, total


def _has_scales(plan: BlockPlan) -> bool:
    slots = [slot for step in plan.steps for slot in (step.before, step.after)]
    slots += [slot for step in plan.steps for sub in step.sublayers for slot in (sub.before, sub.out)]
    return any(slot.scale != 1.0 for slot in slots)
