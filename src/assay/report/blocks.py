"""Pictures of blocks, drawn from the block's equation (`spec.placement`), never from a placement's name.

In and out of a block run upward: the stream is the vertical line, sublayers stand beside it, a circle adds.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from assay.report.layout import Box, Drawing, lay_out, shape_of
from assay.report.masks import ranges
from assay.spec.axes import Family
from assay.spec.model import ModelSpec, StackName
from assay.spec.placement import BlockPlan, block_plan

if TYPE_CHECKING:
    from rich.text import Text

ROW, GAP, MARGIN = 14, 18, 10  # pixels: a row's height, between columns, around the picture

STYLE = (
    ".ab-l{stroke:#333;fill:none;stroke-width:1.5}.ab-a{fill:#333}.ab-t{fill:#111}.ab-d{fill:#444;font-size:11px}"
    ".ab-norm{fill:#fdf0d0;stroke:#b87f00}.ab-sublayer{fill:#dcecf7;stroke:#0072b2}.ab-scale{fill:#fff;stroke:#8a5a7c}"
    ".ab-add{fill:#fff;stroke:#333}"
    "@media screen and (prefers-color-scheme:dark){.ab-l,.ab-add{stroke:#bbb}.ab-a{fill:#bbb}.ab-t{fill:#eee}"
    ".ab-d{fill:#ccc}.ab-norm{fill:#4a3a10;stroke:#e69f00}.ab-sublayer{fill:#12324a;stroke:#56b4e9}"
    ".ab-scale,.ab-add{fill:#222}.ab-scale{stroke:#cc79a7}}"
)
"""Colours of the SVG's classes, for light and dark; on paper the first."""


@dataclass(frozen=True)
class BlockPicture:
    """One block of a model and the layers that it stands for."""

    title: str
    drawing: Drawing
    compact: Drawing
    """The same without sizes, for narrow terminals."""

    def svg(self) -> str:
        """The picture as an SVG element with a `<title>`; whole by itself."""
        return svg(self.drawing, self.title)

    def terminal(self, *, width: int = 80) -> Text:
        """The picture in box-drawing characters; `.plain` is without colour. Narrow: no sizes."""
        forms = ((self.drawing, 1), (self.compact, 1), (self.compact, 0.5))
        texts = [terminal(drawing, padding=padding) for drawing, padding in forms]
        fitting = [text for text in texts if max(map(len, text.plain.splitlines())) <= width]
        return fitting[0] if fitting else texts[-1]


def blocks_of(spec: ModelSpec) -> list[BlockPicture]:
    """Every distinct block of a model: each stack's, and each kind of layer where a stack's layers differ."""
    pictures = []
    for stack in spec.stacks:
        groups: dict[object, list[tuple[int, BlockPlan]]] = {}
        for layer in range(spec.depth(stack)):
            plan = block_plan(spec, stack, layer)
            groups.setdefault(shape_of(plan), []).append((layer, plan))
        two = spec.family is Family.encoder_decoder
        for layers in groups.values():
            name = f"{stack.capitalize()} block" if two else "Block"
            count = f"{len(layers)} layer{'s' * (len(layers) > 1)}"
            where = f", {ranges([n for n, _ in layers])}" if len(groups) > 1 else f", {count}"
            pictures.append(_picture(name + where, [plan for _, plan in layers], spec, stack))
    return pictures


def block_picture(spec: ModelSpec, stack: StackName, layer: int = 0) -> BlockPicture:
    """One layer's block."""
    return _picture(f"{stack.capitalize()} block, layer {layer}", [block_plan(spec, stack, layer)], spec, stack)


def _picture(title: str, plans: list[BlockPlan], spec: ModelSpec, stack: StackName) -> BlockPicture:
    return BlockPicture(title, lay_out(plans, spec, stack), lay_out(plans, spec, stack, details=False))


def _half_widths(drawing: Drawing, character: float, padding: float, least: float) -> list[float]:
    """Half of each column's width, from what stands in it."""
    halves = [least] * drawing.columns
    for box in drawing.boxes:
        halves[box.column] = max(halves[box.column], _box_half(box, character, padding))
    return halves


def _box_half(box: Box, character: float, padding: float) -> float:
    return max(len(line.text) + 4 * (line.style == "inner") for line in box.lines) * character / 2 + padding


def svg(drawing: Drawing, title: str) -> str:
    """A drawing as SVG."""
    halves = _half_widths(drawing, 6.7, 11, 14)
    centres, x = [], float(MARGIN)
    for half in halves:
        centres.append(round(x + half, 1))
        x += 2 * half + GAP
    width, height = round(x - GAP + MARGIN), drawing.rows * ROW + 2 * MARGIN

    def y(row: float) -> float:
        return height - MARGIN - (row + 0.5) * ROW

    adds = {(node.column, node.row) for node in drawing.nodes}
    steps = " ; ".join(", ".join(line.text for line in box.lines) for box in drawing.boxes)
    parts = [
        f'<svg class="block" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'width="{width}" height="{height}" font-family="system-ui,sans-serif" font-size="13" '
        'text-anchor="middle">'
        f"<title>{escape(title)}: from the bottom up, {escape(steps)}</title><style>{STYLE}</style>"
    ]
    for up in drawing.verticals:
        cx, high = centres[up.column], y(up.high) + (ROW / 2 if up.arrow else 0)
        parts.append(f'<path class="ab-l" d="M{cx} {y(up.low)}V{high}"/>')
        if up.arrow:
            parts.append(f'<path class="ab-a" d="M{cx} {high - 1}l-4 8h8z"/>')
    for along in drawing.horizontals:
        start, end, level = centres[along.start], centres[along.end], y(along.row)
        toward = 1 if end > start else -1
        end -= toward * 9 * ((along.end, along.row) in adds)
        parts.append(f'<path class="ab-l" d="M{start} {level}H{end}"/>')
        if along.arrow:
            parts.append(f'<path class="ab-a" d="M{end} {level}l{-8 * toward} -4v8z"/>')
    for node in drawing.nodes:
        cx, cy = centres[node.column], y(node.row)
        parts.append(f'<circle class="ab-add" cx="{cx}" cy="{cy}" r="9"/>')
        parts.append(f'<path class="ab-l" d="M{cx - 5} {cy}h10M{cx} {cy - 5}v10"/>')
    for box in drawing.boxes:
        parts += _box_svg(box, centres[box.column], y(box.top) - ROW / 2)
    for label in drawing.labels:
        place = f'x="{centres[label.column]}" y="{y(label.row) + 5}"'
        parts.append(f'<text class="ab-t" font-style="italic" {place}>{label.text}</text>')
    return "".join([*parts, "</svg>"])


def _box_svg(box: Box, centre: float, top: float) -> list[str]:
    half = round(_box_half(box, 6.7, 11), 1)
    parts = [
        f'<rect class="ab-{box.kind}" x="{centre - half:.1f}" y="{top}" width="{2 * half}" '
        f'height="{box.height * ROW}" rx="5"/>'
    ]
    # Two border rows are shared out so that the lines stand evenly.
    pitch = box.height * ROW / (len(box.lines) + 0.6)
    for index, line in enumerate(box.lines):
        middle = top + (index + 0.8) * pitch
        if line.style == "inner":
            inner = len(line.text) * 6.7 / 2 + 6
            parts.append(
                f'<rect class="ab-norm" x="{centre - inner:.1f}" y="{middle - pitch / 2 + 1:.1f}" '
                f'width="{2 * inner:.1f}" height="{pitch - 2:.1f}" rx="4"/>'
            )
        style = "ab-t" if line.style == "name" else "ab-d"
        parts.append(f'<text class="{style}" x="{centre}" y="{middle + 4.5:.1f}">{escape(line.text)}</text>')
    return parts


UP, DOWN, LEFT, RIGHT = 1, 2, 4, 8
JOINTS = {
    UP: "│", DOWN: "│", UP | DOWN: "│", LEFT: "─", RIGHT: "─", LEFT | RIGHT: "─",
    UP | RIGHT: "└", UP | LEFT: "┘", DOWN | RIGHT: "┌", DOWN | LEFT: "┐",
    UP | DOWN | RIGHT: "├", UP | DOWN | LEFT: "┤", UP | LEFT | RIGHT: "┴", DOWN | LEFT | RIGHT: "┬",
    UP | DOWN | LEFT | RIGHT: "┼",
}  # fmt: skip
COLOURS = {"norm": "#b87f00", "sublayer": "#0072b2", "scale": "#a0527f"}


def terminal(drawing: Drawing, *, padding: float = 1) -> Text:
    """A drawing in box-drawing characters; `padding` stands left and right of a box's text."""
    from rich.text import Text

    halves = [int(half + 0.5) for half in _half_widths(drawing, 1, padding, 1)]
    centres, x = [], 0
    for half in halves:
        centres.append(x + half)
        x += 2 * half + 2
    width, rows = x + 1, drawing.rows
    joints = [[0] * width for _ in range(rows)]
    glyphs: dict[tuple[int, int], tuple[str, str]] = {}
    for up in drawing.verticals:
        for row in range(up.low, up.high + 1):
            joints[row][centres[up.column]] |= UP * (row < up.high) | DOWN * (row > up.low)
        if up.arrow:
            # Under a box the arrow takes the row below its border; at the picture's top it takes the end.
            boxed = any(box.column == up.column and box.bottom == up.high for box in drawing.boxes)
            glyphs[up.high - boxed, centres[up.column]] = ("▲", "")
    for along in drawing.horizontals:
        start, end = sorted((centres[along.start], centres[along.end]))
        for column in range(start, end + 1):
            joints[along.row][column] |= LEFT * (column > start) | RIGHT * (column < end)
        if along.arrow:
            left = along.end < along.start
            glyphs[along.row, centres[along.end] + (1 if left else -1)] = ("◄" if left else "►", "")
    for node in drawing.nodes:
        glyphs[node.row, centres[node.column]] = ("⊕", "bold")
    for label in drawing.labels:
        for index, letter in enumerate(label.text):
            glyphs[label.row, centres[label.column] + index] = (letter, "italic")
    for box in drawing.boxes:
        _box_glyphs(box, centres[box.column], int(_box_half(box, 1, padding) + 0.5), glyphs)
    text = Text(no_wrap=True)
    for row in reversed(range(rows)):
        line = Text()
        for column in range(width):
            glyph, style = glyphs.get((row, column), (JOINTS.get(joints[row][column], " "), ""))
            line.append(glyph, style=style)
        line.rstrip()
        text.append_text(line)
        text.append("\n")
    text.rstrip()
    return text


def _box_glyphs(box: Box, centre: int, half: int, glyphs: dict[tuple[int, int], tuple[str, str]]) -> None:
    style, inside = COLOURS[box.kind], 2 * half - 1
    for offset in range(-half, half + 1):
        edge = "─" if abs(offset) < half else ""
        glyphs[box.top, centre + offset] = (edge or ("┌" if offset < 0 else "┐"), style)
        glyphs[box.bottom, centre + offset] = (edge or ("└" if offset < 0 else "┘"), style)
    for index, line in enumerate(box.lines):
        said = f"[ {line.text} ]" if line.style == "inner" else line.text
        row, content = box.top - 1 - index, f"│{said.center(inside)}│"
        look = {"detail": "dim", "inner": COLOURS["norm"]}.get(line.style, "bold")
        for place, letter in enumerate(content):
            glyphs[row, centre - half + place] = (letter, look if 0 < place < 2 * half else style)
