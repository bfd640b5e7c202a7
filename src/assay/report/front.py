"""Verdicts at a glance: words, symbols and colours of each state, and the front page as one SVG for a README."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

__all__ = ["BEYOND", "STATES", "State", "front_svg", "state_of"]


class State(NamedTuple):
    """How a claim stands. The symbol is drawn, so that it looks the same in every font."""

    en: str
    zh: str
    colour: str
    symbol: str
    """Inside of an SVG of 16 by 16, in the text's colour."""


def _stroke(path: str) -> str:
    return (
        f'<path d="{path}" fill="none" stroke="currentColor" stroke-width="2.4" stroke-linecap="round" '
        'stroke-linejoin="round"/>'
    )


STATES: dict[str, State] = {
    "supported": State("supported", "支持", "#00664b", _stroke("M3 8.6l3.4 3.4L13 4.6")),
    "refuted": State("refuted", "否定", "#a63a00", _stroke("M4 4l8 8M12 4l-8 8")),
    "depends": State(
        "depends",
        "视条件而定",
        "#0a5c99",
        '<circle cx="8" cy="8" r="5.4" fill="none" stroke="currentColor" stroke-width="2"/>'
        '<path d="M8 2.6a5.4 5.4 0 0 1 0 10.8z" fill="currentColor"/>',
    ),
    "undecided": State(
        "undecided", "未定", "#5b616b", _stroke("M5.2 5.8a2.9 2.9 0 1 1 4.4 2.4C8.4 9 8 9.3 8 10.4M8 13.4v0.1")
    ),
    "failed": State("failed", "运行失败", "#8f1d5c", _stroke("M8 2.6v6.8M8 13v0.1")),
    "not run": State("not run", "未运行", "#7a808a", _stroke("M4.5 8h7")),
}  # fmt: skip
"""By name, in the order in which they are counted."""

BEYOND = (
    {
        "what": {"en": "ChatGLM's strength in Chinese", "zh": "ChatGLM 的中文能力"},
        "why": {
            "en": "It is a property of the trained weights and of their data: it needs the published weights.",
            "zh": "这是训练好的权重及其数据的性质：需要公开的权重才能测量。",
        },
    },
    {
        "what": {"en": "Images and music", "zh": "图像与音乐"},
        "why": {
            "en": "assay describes and trains language models of text alone.",
            "zh": "assay 只描述和训练文本语言模型。",
        },
    },
    {
        "what": {"en": "Commonsense at scale", "zh": "大规模下的常识"},
        "why": {
            "en": "It shows in models thousands of times larger than those that can be trained here.",
            "zh": "只有比此处可训练的模型大数千倍的模型才会表现出来。",
        },
    },
    {
        "what": {"en": "Misuse", "zh": "滥用"},
        "why": {
            "en": "It is about people and deployments, not a quantity that a run could measure.",
            "zh": "它关乎使用者与部署方式，不是一次训练能测量的量。",
        },
    },
)
"""What the note says and no run of the book can decide, with the reason."""


def state_of(page: Mapping[str, Any]) -> str:
    """A page's state: its verdict where it is done, else that it failed or was not run."""
    status = page.get("status", "not run")
    if status == "done" and page.get("verdict") in STATES:
        return str(page["verdict"])
    return "failed" if status == "failed" else "not run"


COLUMNS, TILE, ROW, MARGIN = 4, 236, 66, 14


def front_svg(pages: Sequence[Mapping[str, Any]]) -> str:
    """All verdicts as a standalone SVG on light paper: key, title, verdict with symbol and word, and their counts.

    Args:
        pages: claims' pages, see `book.write_book`.
    """
    from assay.report.book import ordered

    pages = ordered(pages)
    rows = -(-len(pages) // COLUMNS)
    width = 2 * MARGIN + COLUMNS * TILE + (COLUMNS - 1) * 8
    head, height = 46, 46 + rows * (ROW + 8) + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'role="img" font-family="Liberation Sans,Arial,Helvetica,sans-serif" font-size="12.5">'
        f"<title>{escape(_counted(pages))}</title>"
        f'<rect width="{width}" height="{height}" rx="8" fill="#ffffff" stroke="#dfe1e5"/>'
    ]
    x = MARGIN
    for name, state in STATES.items():
        count = sum(state_of(page) == name for page in pages)
        if count:
            said = f"{count} {state.en}"
            parts.append(_symbol(state, x, 16) + f'<text x="{x + 22}" y="29" font-size="15" font-weight="bold" '
                         f'fill="{state.colour}">{said}</text>')  # fmt: skip
            x += 40 + int(len(said) * 8.6)
    for index, page in enumerate(pages):
        row, column = divmod(index, COLUMNS)
        parts += _tile(page, MARGIN + column * (TILE + 8), head + row * (ROW + 8))
    return "".join([*parts, "</svg>"])


def _counted(pages: Sequence[Mapping[str, Any]]) -> str:
    """The counts in words, for those who do not see the picture."""
    counts = {name: sum(state_of(page) == name for page in pages) for name in STATES}
    return f"{len(pages)} claims: " + ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def _symbol(state: State, x: float, y: float) -> str:
    return f'<g transform="translate({x} {y})">{state.symbol.replace("currentColor", state.colour)}</g>'


def _tile(page: Mapping[str, Any], x: float, y: float) -> list[str]:
    state = STATES[state_of(page)]
    title = page["title"]
    lines = textwrap.wrap(str(title["en"] if isinstance(title, Mapping) else title), 36, max_lines=2, placeholder=" …")
    parts = [
        f'<rect x="{x}" y="{y}" width="{TILE}" height="{ROW}" rx="5" fill="{state.colour}" fill-opacity="0.07"/>'
        f'<rect x="{x}" y="{y}" width="4" height="{ROW}" fill="{state.colour}"/>',
        _symbol(state, x + 12, y + 7),
        f'<text x="{x + 34}" y="{y + 20}" fill="#1b1d21" font-weight="bold">{escape(str(page["key"]))}</text>'
        f'<text x="{x + TILE - 10}" y="{y + 20}" fill="{state.colour}" text-anchor="end">{state.en}</text>',
    ]
    for number, line in enumerate(lines):
        parts.append(f'<text x="{x + 12}" y="{y + 39 + 16 * number}" fill="#1b1d21">{escape(line)}</text>')
    return parts
