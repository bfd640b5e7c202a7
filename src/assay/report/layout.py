"""Where everything of a block's picture stands, from the block's equation; `blocks.py` draws it.

The grid has columns (the stream first, then one a sublayer of a step, then ResiDual's second stream) and rows
counted upward: data flows from the bottom to the top, as in the field's figures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from assay.spec.axes import Family, NormKind, Skip
from assay.spec.model import ModelSpec, StackName
from assay.spec.placement import BlockPlan, Slot, Step, Sublayer, SublayerKind

NORMS = {NormKind.layernorm: "LayerNorm", NormKind.rmsnorm: "RMSNorm", NormKind.dyt: "DyT", NormKind.none: ""}
ACTIVATIONS = {"relu": "ReLU", "gelu": "GELU", "gelu_tanh": "tanh GELU", "silu": "SiLU", "relu2": "ReLU²"}
STREAM = 0


@dataclass(frozen=True)
class Line:
    """A line of text in a box: the main name, a detail, or a norm inside a sublayer."""

    text: str
    style: str = "name"


@dataclass(frozen=True)
class Box:
    """A box in a column, from row `bottom` upward; `kind` is norm, sublayer or scale. Lines from the top."""

    column: int
    bottom: int
    lines: tuple[Line, ...]
    kind: str

    @property
    def height(self) -> int:
        """Rows that it takes: its lines and two borders."""
        return len(self.lines) + 2

    @property
    def top(self) -> int:
        """Its highest row."""
        return self.bottom + self.height - 1


@dataclass(frozen=True)
class Node:
    """The sum of what arrives."""

    column: int
    row: int


@dataclass(frozen=True)
class Label:
    """Text on the stream's ends."""

    column: int
    row: int
    text: str


@dataclass(frozen=True)
class Vertical:
    """A line up a column; `arrow` at its upper end."""

    column: int
    low: int
    high: int
    arrow: bool = False


@dataclass(frozen=True)
class Horizontal:
    """A line along a row; `arrow` at its second end."""

    row: int
    start: int
    end: int
    arrow: bool = False


@dataclass
class Drawing:
    """Everything in one block's picture."""

    columns: int = 1
    rows: int = 0
    boxes: list[Box] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    verticals: list[Vertical] = field(default_factory=list)
    horizontals: list[Horizontal] = field(default_factory=list)


def lay_out(plans: Sequence[BlockPlan], spec: ModelSpec, stack: StackName, *, details: bool = True) -> Drawing:
    """The picture of layers that differ at most in scales (shown as a range then).

    Args:
        plans: the layers' equations, of one shape.
        spec: for the names of the norm and the sizes in the sublayers' boxes.
        stack: the stack that they belong to.
        details: whether boxes say sizes (False: narrower).
    """
    return _Layout(plans, spec, stack, details).run()


class _Layout:
    """Builds one drawing from the bottom up; `row` is where the stream has got to."""

    def __init__(self, plans: Sequence[BlockPlan], spec: ModelSpec, stack: StackName, details: bool) -> None:
        self.plans, self.spec, self.stack, self.details = plans, spec, stack, details
        self.plan, self.norm = plans[0], NORMS[spec.norm.kind]
        self.out = Drawing(columns=1 + max(len(step.sublayers) for step in self.plan.steps))
        self.dual = self.out.columns if self.plan.dual else None
        if self.dual is not None:
            self.out.columns += 1
        self.row = 1

    def run(self) -> Drawing:
        out = self.out
        out.labels.append(Label(STREAM, 0, "x"))
        dual_row = 1
        if self.dual is not None:
            out.labels.append(Label(self.dual, 0, "x′"))
        for index in range(len(self.plan.steps)):
            dual_row = self._step(index, dual_row)
        top = self.row + 2
        out.verticals.append(Vertical(STREAM, self.row, top, arrow=True))
        out.labels.append(Label(STREAM, top + 1, "x"))
        if self.dual is not None:
            out.verticals.append(Vertical(self.dual, dual_row, top, arrow=True))
            out.labels.append(Label(self.dual, top + 1, "x′"))
        out.rows = top + 2
        return out

    def _step(self, index: int, dual_row: int) -> int:
        """One residual step; the row that the second stream has got to."""
        step, out = self.plan.steps[index], self.out
        count = len(step.sublayers)
        on_stream = step.skip is Skip.normed
        before = self._slot(lambda plan: plan.steps[index].before)
        if before and on_stream:
            self._stream_box(before)
        branch = self.row + 1
        out.verticals.append(Vertical(STREAM, self.row, branch))
        row, split = branch, branch
        shared = before and not on_stream
        if shared:
            out.horizontals.append(Horizontal(branch, STREAM, 1))
            row = self._box(1, branch, before, "norm")
            split = row + 1 if count > 1 else row
            if count > 1:
                out.verticals.append(Vertical(1, row, split))
                out.horizontals.append(Horizontal(split, 1, count))
        else:
            out.horizontals.append(Horizontal(branch, STREAM, count))
        tops = [self._sublayer(index, k, split) for k in range(count)]
        add = max(tops) + 1
        for k, top in enumerate(tops):
            out.verticals.append(Vertical(k + 1, top, add))
        out.horizontals.append(Horizontal(add, count, STREAM, arrow=True))
        out.nodes.append(Node(STREAM, add))
        self._skip(index, branch, add)
        if self.dual is not None:
            out.horizontals.append(Horizontal(add, count, self.dual, arrow=True))
            out.verticals.append(Vertical(self.dual, dual_row, add))
            out.nodes.append(Node(self.dual, add))
        self.row = add
        after = self._slot(lambda plan: plan.steps[index].after)
        if after:
            self._stream_box(after)
        return add

    def _skip(self, index: int, branch: int, add: int) -> None:
        """The residual from the branch to the sum, with alpha on it."""
        alpha = _number([plan.steps[index].alpha for plan in self.plans])
        if alpha == "1":
            self.out.verticals.append(Vertical(STREAM, branch, add))
            return
        bottom = (branch + add) // 2 - 1
        self.out.verticals.append(Vertical(STREAM, branch, bottom))
        box = Box(STREAM, bottom, (Line(f"× {alpha}"),), "scale")
        self.out.boxes.append(box)
        self.out.verticals.append(Vertical(STREAM, box.top, add))

    def _sublayer(self, index: int, k: int, row: int) -> int:
        """A sublayer with the norms around it, in its column; the row of its top."""
        sublayer = self.plan.steps[index].sublayers[k]
        before = self._slot(lambda plan: plan.steps[index].sublayers[k].before)
        inner = self._slot(lambda plan: plan.steps[index].sublayers[k].inner)
        out = self._slot(lambda plan: plan.steps[index].sublayers[k].out)
        if before:
            row = self._box(k + 1, row, before, "norm")
        row = self._box(k + 1, row, self._names(sublayer, inner), "sublayer")
        if out:
            row = self._box(k + 1, row, out, "norm")
        return row

    def _names(self, sublayer: Sublayer, inner: tuple[Line, ...]) -> tuple[Line, ...]:
        spec, stack = self.spec, self.stack
        if sublayer.kind is SublayerKind.feedforward:
            feed = spec.feedforward
            shape = f"{'gated ' if feed.gated else ''}{ACTIVATIONS[feed.activation.value]}"
            lines = [Line("Feed-forward"), Line(f"{shape}, {spec.feedforward_width(stack)}", "detail")]
            if feed.experts:
                lines.append(Line(f"{feed.experts.active} of {feed.experts.count} experts", "detail"))
        else:
            heads, kv = spec.heads(stack), spec.kv_heads(stack)
            shape = f"{heads} head{'s' * (heads > 1)}" + ("" if kv == heads else f", {kv} key-value")
            cross = sublayer.kind is SublayerKind.cross_attention
            two = spec.family is Family.encoder_decoder and stack == "decoder"
            name = "Cross-attention" if cross else "Self-attention" if two else "Attention"
            lines = [Line(name), Line(shape, "detail")]
            if cross:
                lines.append(Line("to the encoder", "detail"))
        if not self.details:
            lines = [Line(lines[0].text.replace("-attention", "-attn"))]
        if inner:  # flow is upward: the projection comes after the norm, so above it
            lines = [Line("projection", "detail"), Line(inner[0].text, "inner"), *lines]
        return tuple(lines)

    def _slot(self, get: Callable[[BlockPlan], Slot]) -> tuple[Line, ...]:
        """The lines of a slot's box; none where it is empty."""
        slots = [get(plan) for plan in self.plans]
        scale = _number([slot.scale for slot in slots])
        name = self.norm if slots[0].norm else ""
        lines = [Line(name)] if name else []
        if scale != "1":
            lines.append(Line(f"× {scale}", "detail" if name else "name"))
        return tuple(lines)

    def _stream_box(self, lines: tuple[Line, ...]) -> None:
        """A box on the stream itself."""
        self.row = self._box(STREAM, self.row, lines, "norm")

    def _box(self, column: int, row: int, lines: tuple[Line, ...], kind: str) -> int:
        """A box two rows above what it reads, and the line into it; its top."""
        box = Box(column, row + 2, lines, kind)
        self.out.verticals.append(Vertical(column, row, box.bottom, arrow=True))
        self.out.boxes.append(box)
        return box.top


def _number(values: Sequence[float]) -> str:
    """2.213 as '2.21'; values that differ as 'first to last'."""
    shown = [f"{value:.3g}" for value in values]
    return shown[0] if len(set(shown)) == 1 else f"{shown[0]} to {shown[-1]}"


def shape_of(plan: BlockPlan) -> tuple[object, ...]:
    """What layers must share to be drawn as one picture: everything but the slots' scales."""

    def slot(s: Slot) -> bool:
        return s.norm

    def step(s: Step) -> tuple[object, ...]:
        inside = tuple((k.kind, slot(k.before), slot(k.inner), slot(k.out)) for k in s.sublayers)
        return inside, slot(s.before), slot(s.after), s.alpha, s.skip

    return (*map(step, plan.steps), plan.dual)
