"""Pictures of masks, drawn from the rule itself: for the terminal and as SVG.

Queries go down, keys go across. A cell is *visible*, *hidden*, or *prefix* (visible, and the key belongs to a
prefix). Shade and texture differ as well as colour, so the picture reads in print and without colour.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Literal

import numpy as np

from assay.errors import UserError
from assay.spec.axes import Family
from assay.spec.masks import Bidirectional, Causal, Mask, MaskFacts, Prefix, Rule, Window
from assay.spec.model import ModelSpec

if TYPE_CHECKING:
    from rich.text import Text

Attention = Literal["encoder", "decoder", "cross"]
"""Whose attention a mask belongs to; `cross`: a decoder's, over the encoder's positions."""

HIDDEN, VISIBLE, PREFIX = 0, 1, 2
NAMES = {VISIBLE: "visible", PREFIX: "prefix, visible", HIDDEN: "hidden"}
GLYPHS = {HIDDEN: "·", VISIBLE: "█", PREFIX: "▒"}
STYLES = {HIDDEN: "dim", VISIBLE: "#0072b2", PREFIX: "#e69f00"}

STYLE = (
    ".am-t{fill:#222;font:12px system-ui,sans-serif}.am-0{fill:#e7e7e4}.am-1{fill:#0072b2}.am-2{fill:#e69f00}"
    "@media screen and (prefers-color-scheme:dark)"
    "{.am-t{fill:#ddd}.am-0{fill:#34363a}.am-1{fill:#4aa3dc}.am-2{fill:#f0b429}}"
)
"""Colours of the SVG's classes; a dark screen gets lighter ones, paper always the first."""


@dataclass(frozen=True)
class MaskPicture:
    """One mask of a model: a caption, the mask, and the numbers of queries and keys that show it."""

    title: str
    mask: Mask
    queries: int
    keys: int


def mask_of(spec: ModelSpec, stack: Attention, length: int = 12, prefix: int | None = None, *, layer: int = 0) -> Mask:
    """The mask that a model's attention uses on one example sequence.

    Args:
        spec: the model.
        stack: whose attention: a stack's own, or `cross`.
        length: tokens of the example.
        prefix: tokens of a prefix decoder's prefix; None: half. Other families have none.
        layer: the layer (from 0), which decides on a window.

    Raises:
        UserError: the model has no such attention.
    """
    stacks: tuple[str, ...] = (*spec.stacks, *(("cross",) if len(spec.stacks) == 2 else ()))
    if stack not in stacks:
        raise UserError(f"stack = {stack!r}: family {spec.family.value} has {', '.join(stacks)}.", "Give one of those.")
    if stack == "cross":  # windows are about a sequence and itself; cross-attention joins two
        return Mask(Bidirectional())
    rule: Rule = Bidirectional() if stack == "encoder" else Causal()
    facts = MaskFacts()
    if spec.family is Family.prefix:
        rule = rule | Prefix()
        size = length // 2 if prefix is None else prefix
        facts = MaskFacts(prefix=np.arange(length)[None, :] < size)
    window = spec.window(layer)
    return Mask(rule if window is None else rule & Window(window), facts)


def masks_of(spec: ModelSpec, length: int = 12, prefix: int | None = None) -> list[MaskPicture]:
    """Every distinct mask of a model on one example: each attention, and each window where layers differ."""
    names = {
        Family.causal: {"decoder": "Self-attention"},
        Family.prefix: {"decoder": "Self-attention"},
        Family.encoder: {"encoder": "Self-attention"},
        Family.encoder_decoder: {"encoder": "Encoder", "decoder": "Decoder", "cross": "Cross-attention"},
    }[spec.family]
    pictures = []
    for stack, name in names.items():
        depth = 1 if stack == "cross" else spec.depth("encoder" if stack == "encoder" else "decoder")
        layers: dict[int | None, list[int]] = {}
        for layer in range(depth):
            layers.setdefault(None if stack == "cross" else spec.window(layer), []).append(layer)
        for window, at in layers.items():
            shown = length if window is None else max(length, min(2 * window, 24))
            mask = mask_of(spec, stack, shown, prefix, layer=at[0])  # type: ignore[arg-type]
            where = "" if len(layers) == 1 else f", {ranges(at)}"
            pictures.append(MaskPicture(f"{name}{where}: {describe(mask.rule)}", mask, shown, shown))
    return pictures


def describe(rule: Rule) -> str:
    """The rule as a caption says it."""
    return str(rule).replace("&", "and").replace("|", "or")


def cells(mask: Mask | Rule, queries: int, keys: int | None = None, *, row: int = 0) -> np.ndarray:
    """[queries, keys] of HIDDEN, VISIBLE, PREFIX for one row of the batch, asked of the rule itself."""
    mask = mask if isinstance(mask, Mask) else Mask(mask)
    keys = queries if keys is None else keys
    q, k = np.arange(queries)[:, None], np.arange(keys)[None, :]
    seen = np.broadcast_to(np.asarray(mask.rule(row, q, k, mask.facts), dtype=bool), (queries, keys))
    grid = np.where(seen, VISIBLE, HIDDEN)
    if mask.facts.prefix is not None and "prefix" in mask.rule.needs:
        grid = np.where(seen & np.asarray(mask.facts.prefix)[row][None, :keys], PREFIX, grid)
    return grid


def terminal(mask: Mask | Rule, queries: int, keys: int | None = None, *, width: int = 80, row: int = 0) -> Text:
    """The picture for a terminal `width` columns wide; `.plain` reads without colour.

    Two columns a cell where they fit, else one; where even that is too wide, positions are left out evenly
    and a last line says so.
    """
    from rich.text import Text

    grid = cells(mask, queries, keys, row=row)
    stride = -(-max(grid.shape[1], 1) // max(width - 4, 8))
    grid = grid[::stride, ::stride]
    double = 2 if 2 * grid.shape[1] + 4 <= width else 1
    text = Text(no_wrap=True)
    text.append("    key →\n" if grid.shape[1] * double >= 5 else "    k→\n", style="dim")
    margin = ["q", "u", "e", "r", "y", "↓"] if len(grid) >= 6 else ["q", "↓"]
    for index, line in enumerate(grid):
        text.append(f"  {margin[index] if index < len(margin) else ' '} ", style="dim")
        for value in line:
            text.append(GLYPHS[int(value)] * double, style=STYLES[int(value)])
        text.append("\n")
    text.append("    ")
    column = 4
    for value in (VISIBLE, PREFIX, HIDDEN):
        if not (grid == value).any():
            continue
        word = f"{GLYPHS[value] * 2} {NAMES[value]}   "
        if column > 4 and column + len(word.rstrip()) > width:
            text.append("\n    ")
            column = 4
        text.append(word[:2], style=STYLES[value])
        text.append(word[2:])
        column += len(word)
    if stride > 1:
        text.append(f"\n    one position in {stride} is shown", style="dim")
    text.rstrip()
    return text


def svg(mask: Mask | Rule, queries: int, keys: int | None = None, *, title: str = "", row: int = 0) -> str:
    """The picture as an SVG element with axis labels, a legend, and a `<title>` that says what it shows.

    It is whole by itself (colours for light and dark inside) and may stand in a page.
    """
    grid = cells(mask, queries, keys, row=row)
    rule = mask.rule if isinstance(mask, Mask) else mask
    rows, columns = grid.shape
    step = max(4, min(18, 216 // max(rows, columns, 1)))
    left, top = 26, 24
    legend = [value for value in (VISIBLE, PREFIX, HIDDEN) if (grid == value).any()]
    width = left + max(columns * step, 190 if len(legend) > 2 else 130) + 2
    height = top + rows * step + 30
    shape = f"{rows} queries down, {columns} keys across, rule {rule}"
    named = escape(f"{title} ({shape})" if title else f"Attention mask: {shape}")
    out = [
        f'<svg class="mask" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img"><title>{named}</title><style>{STYLE}</style>',
        f'<text class="am-t" x="{left}" y="15">key →</text>',
        f'<text class="am-t" transform="translate(15 {top}) rotate(-90)" text-anchor="end">← query</text>',
    ]
    gap = 1 if step > 5 else 0
    for value in legend:  # one path a kind keeps the file small
        path = "".join(
            f"M{left + k * step} {top + q * step}h{step - gap}v{step - gap}h-{step - gap}z"
            for q, k in zip(*np.nonzero(grid == value), strict=True)
        )
        out.append(f'<path class="am-{value}" d="{path}"/>')
    x, y = left, top + rows * step + 12
    for value in legend:
        word = NAMES[value].split(",")[0]
        out.append(f'<rect class="am-{value}" x="{x}" y="{y}" width="11" height="11"/>')
        out.append(f'<text class="am-t" x="{x + 16}" y="{y + 10}">{word}</text>')
        x += 16 + 7 * len(word) + 14
    return "".join([*out, "</svg>"])


def ranges(numbers: list[int]) -> str:
    """[0, 1, 2, 5] as 'layers 0-2, 5'."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] + 1 == number:
            runs[-1].append(number)
        else:
            runs.append([number])
    said = ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
    return f"layer{'s' * (len(numbers) > 1)} {said}"
