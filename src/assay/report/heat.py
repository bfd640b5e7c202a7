"""Heat maps of `figure`: two axes of numbers or names, the value as colour and, where there is room, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from assay.report.charts import WIDE, Chart, _both
from assay.report.figure import CELLS, PLAIN, WRITTEN, distinct, footnote, is_text, left_out, number, say, title_of

__all__ = ["draw_heat"]


def draw_heat(picture: Mapping[str, Any], name: str = "") -> Chart | None:
    """A picture of kind "heat", see `figure.draw`. Cells without a finite value stay empty, and the chart says so."""
    import altair as alt

    rows = list(picture.get("rows", ()))
    cells: list[dict[str, Any]] = []
    omitted: list[str] = []
    across, up = _axis([row.get("x") for row in rows]), _axis([row.get("y") for row in rows], descending=True)
    for row in rows:
        value, x, y = number(row.get("value")), _place(row.get("x")), _place(row.get("y"))
        if math.isfinite(value):
            cells.append({"x": x, "y": y, "value": value, "said": f"{x}, {y}: {say(value)}", "short": _short(value)})
        else:
            omitted.append(f"{picture.get('x', '')} {x}, {picture.get('y', '')} {y} ({say(value)})")
    if not cells:
        return None
    values = [cell["value"] for cell in cells]
    middle = (min(values) + max(values)) / 2
    for cell in cells:
        # Viridis: dark below, light above.
        cell["ink"] = "#000" if cell["value"] > middle else "#fff"
    title = title_of(picture)

    def draw(width: int) -> Any:
        names = min(max(len(place) for place in up) * 6.6 + 70, width * 0.45)
        cell = min(max(max(map(len, across)) * 7 + 10, 56), 120)
        inner = min(int(width - names), cell * len(across))
        step = max(min(inner / len(across), 34.0, 480 / len(up)), 3.0)
        x = alt.X("x:N", sort=across, title=str(picture.get("x", "")), axis=_labels(across, inner))
        y = alt.Y("y:N", sort=up, title=str(picture.get("y", "")), axis=alt.Axis(labelLimit=int(names) - 30,
                  labelOverlap="greedy", domain=False, ticks=False))  # fmt: skip
        bar = alt.Legend(title=None, orient="top", gradientLength=min(inner, 240), tickCount=4, labelExpr=PLAIN)
        colour = alt.Color("value:Q", scale=alt.Scale(scheme="viridis", zero=False, nice=False), legend=bar)
        base = alt.Chart(alt.Data(values=cells)).encode(x=x, y=y)
        layers = [base.mark_rect(aria=len(cells) <= CELLS).encode(color=colour, description="said:N")]
        if len(cells) <= WRITTEN and inner / len(across) >= 9 + 6 * max(len(cell["short"]) for cell in cells):
            ink = alt.Color("ink:N", scale=None, legend=None)
            layers.append(base.mark_text(fontSize=11).encode(text="short:N", color=ink))
        chart = alt.layer(*layers).resolve_scale(color="independent").properties(width=inner, height=step * len(up))
        said = left_out(omitted)
        return chart.properties(title=footnote(said, WIDE if width == WIDE else 0)) if said else chart

    return _both(draw, title, name)


def _labels(places: Sequence[str], inner: int) -> Any:
    import altair as alt

    upright = max(map(len, places)) * 6.6 * len(places) > inner and max(map(len, places)) > 3
    return alt.Axis(labelAngle=-40 if upright else 0, labelOverlap="greedy", labelLimit=120, domain=False, ticks=False)


def _axis(values: Sequence[Any], descending: bool = False) -> list[str]:
    """Places in order: numbers by size, names as they come."""
    if is_text(values):
        return distinct([_place(value) for value in values])
    return [_place(value) for value in sorted(distinct(list(values)), key=number, reverse=descending)]


def _place(value: Any) -> str:
    return value if isinstance(value, str) else f"{number(value):g}"


def _short(value: float) -> str:
    return f"{value:.2g}" if abs(value) < 100 else f"{value:.3g}"
