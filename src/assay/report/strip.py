"""The interval against the rule: a strip that shows where a quantity supports a claim, and where it came to lie."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from html import escape
from typing import Any

from assay.report.figure import number, say
from assay.report.format import MINUS

__all__ = ["strip", "zones"]

WIDTH, MINI = 380, 150
YES, NO = "var(--v-supported,#00664b)", "var(--v-refuted,#a63a00)"
LOGARITHM = 40
"""Positive numbers that lie this far apart are shown on a logarithmic scale."""


def zones(rule: Mapping[str, Any]) -> list[tuple[float, float, bool]]:
    """Where a rule, as `Rule.to_dict` wrote it, supports and where it refutes: (from, to, supports), ascending.

    Empty for a rule that is not known.
    """
    bound = number(rule.get("margin", rule.get("value")))
    kind = rule.get("rule")
    if not math.isfinite(bound):
        return []
    if kind == "equivalence":
        return [(-math.inf, -bound, False), (-bound, bound, True), (bound, math.inf, False)]
    if kind == "threshold":
        above = rule.get("side", "above") == "above"
    elif kind == "superiority":
        above = rule.get("better", "higher") == "higher"
        bound = bound if above else 0.0 - bound  # no -0.0
    else:
        return []
    return [(-math.inf, bound, not above), (bound, math.inf, above)]


def strip(rule: Mapping[str, Any], answer: Mapping[str, Any] | None, *, mini: bool = False) -> str:
    """The rule's zones with the interval over them, as SVG.

    Args:
        rule: as `Rule.to_dict` wrote it.
        answer: {"estimate", "low", "high", ...}; None: the zones alone.
        mini: small and without words, for a list.

    Returns:
        An `<svg>` in the page's colours; empty for a rule that is not known.
    """
    parts = zones(rule)
    if not parts:
        return ""
    bounds = [low for low, _, _ in parts[1:]]
    got = [number((answer or {}).get(key)) for key in ("estimate", "low", "high")]
    place = _scale(bounds, got, MINI if mini else WIDTH, zero=rule.get("rule") == "superiority")
    width, top, height = (MINI, 1, 14) if mini else (WIDTH, 16, 22)
    drawn = []
    for low, high, yes in parts:
        left, right = place(low), place(high)
        drawn.append(_zone(left, right, top, height, yes))
        if not mini and right - left > 64:
            word, ink = ("supported", YES) if yes else ("refuted", NO)
            centre = (left + right) / 2
            drawn.append(f'<text x="{centre:.1f}" y="11" text-anchor="middle" fill="{ink}">{word}</text>')
    if not mini:
        drawn += _bounds(bounds, place, top + height)
    drawn += _interval(got, place, top + height / 2, width, mini)
    total = top + height + (2 if mini else 22)
    where = " or ".join(_where(low, high) for low, high, yes in parts if yes)
    found = f"; found {say(got[0])} [{say(got[1])}, {say(got[2])}]" if answer else ""
    return (
        f'<svg class="strip{" mini" if mini else ""}" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {total}" '
        f'width="{width}" height="{total}" role="img" font-size="11" font-family="Liberation Sans,Arial,sans-serif">'
        f"<title>{escape(f'supported {where}{found}')}</title>{''.join(drawn)}</svg>"
    )


def _where(low: float, high: float) -> str:
    if math.isinf(low):
        return f"below {say(high)}"
    return f"above {say(low)}" if math.isinf(high) else f"between {say(low)} and {say(high)}"


def _scale(bounds: list[float], got: list[float], width: float, *, zero: bool) -> Callable[[float], float]:
    """From a value to its place; infinity lies at the edge."""
    known = bounds + [value for value in got if math.isfinite(value)] + ([0.0] if zero else [])
    logarithmic = min(known) > 0 and max(known) / min(known) > LOGARITHM

    def scaled(value: float) -> float:
        return math.log(value) if logarithmic else value

    low, high = scaled(min(known)), scaled(max(known))
    room = (high - low) * 0.22 or abs(high) * 0.5 or 1.0
    low, high = low - room, high + room

    def place(value: float) -> float:
        if math.isinf(value) or (logarithmic and value <= 0):
            return 0.0 if value <= 0 else float(width)
        return min(max((scaled(value) - low) / (high - low), 0.0), 1.0) * width

    return place


def _zone(left: float, right: float, top: float, height: float, yes: bool) -> str:
    """A zone; what supports has a bold foot too, so that colour alone does not tell."""
    size = f'x="{left:.1f}" width="{max(right - left, 1):.1f}"'
    ink, opacity = (YES, 0.22) if yes else (NO, 0.17)
    area = f'<rect {size} y="{top}" height="{height}" fill="{ink}" fill-opacity="{opacity}"/>'
    return area + (f'<rect {size} y="{top + height - 3}" height="3" fill="{YES}"/>' if yes else "")


def _bounds(bounds: list[float], place: Callable[[float], float], foot: float) -> list[str]:
    """Marks at the rule's bounds; two that are close share their words."""
    drawn = [f'<path d="M{place(b):.1f} 13V{foot + 4}" stroke="currentColor" stroke-opacity="0.6"/>' for b in bounds]
    words = [(place(b), f"{b:.5g}".replace("-", MINUS)) for b in bounds]
    if len(words) == 2 and words[1][0] - words[0][0] < 56:
        words = [((words[0][0] + words[1][0]) / 2, f"±{words[1][1]}")]
    for x, said in words:
        x = min(max(x, 24), WIDTH - 24)
        drawn.append(f'<text x="{x:.1f}" y="{foot + 17}" text-anchor="middle" fill="currentColor">{said}</text>')
    return drawn


def _interval(got: list[float], place: Callable[[float], float], y: float, width: int, mini: bool) -> list[str]:
    """The interval with its estimate; arrows where it has no end."""
    estimate, low, high = got
    if math.isnan(estimate):
        return []
    drawn, cap = [], 3 if mini else 5
    if not (math.isnan(low) or math.isnan(high)):
        left, right = place(low), place(high)
        path = f"M{left:.1f} {y}H{right:.1f}"
        for end, value, toward in ((left, low, 1), (right, high, -1)):
            if math.isinf(value):
                path += f"M{end + toward * cap:.1f} {y - cap}L{end + toward:.1f} {y}L{end + toward * cap:.1f} {y + cap}"
            elif right - left > 2:
                path += f"M{end:.1f} {y - cap}v{2 * cap}"
        drawn.append(f'<path d="{path}" fill="none" stroke="currentColor" stroke-width="{1.6 if mini else 2.2}"/>')
    radius = 3 if mini else 4.5
    x = min(max(place(estimate), radius), width - radius)
    drawn.append(f'<circle cx="{x:.1f}" cy="{y}" r="{radius}" fill="currentColor" stroke="var(--paper,#fff)"/>')
    return drawn
