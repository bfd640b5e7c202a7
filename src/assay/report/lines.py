"""Lines with bands for instruments: any quantity against layer, rate or step, linear or logarithmic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from assay.report.charts import NARROW, WIDE, Chart, _both, _colour, _dash, _shape
from assay.report.format import scientific
from assay.stats import MINIMUM_REPEATS, mean_band

__all__ = ["Line", "Mark", "lines"]

POINTS = 120
"""Points of a line at most; more are thinned evenly, the last one kept."""
DOTS = 30
"""Lines of more points show no dots."""


@dataclass(frozen=True)
class Line:
    """One name's values: a curve for each repeat, all at the same places."""

    name: str
    x: Sequence[float]
    curves: Sequence[Sequence[float]]
    """[repeats][places]; values that are not finite leave a gap."""


@dataclass(frozen=True)
class Mark:
    """An upright line at a place, with words beside it."""

    x: float
    said: str


@dataclass
class _Frame:
    values: list[dict[str, Any]] = field(default_factory=list)
    banded: list[dict[str, Any]] = field(default_factory=list)


def lines(
    given: Sequence[Line],
    axes: tuple[str, str],
    title: str,
    *,
    log_x: bool = False,
    log_y: bool = False,
    marks: Sequence[Mark] = (),
) -> Chart | None:
    """Mean over repeats, with its 95% band from three repeats on; None where no value can be drawn.

    On a logarithmic axis mean and band are taken of the logarithms, and values that are not positive are left out.

    Args:
        given: the lines, told apart by colour, shape and dash.
        axes: titles of x and y.
        title: what the picture shows, for those who do not see it.
        log_x, log_y: logarithmic axes.
        marks: upright lines.
    """
    import altair as alt

    frame = _Frame()
    for line in given:
        _collect(frame, line, log_x, log_y)
    if not frame.values:
        return None
    names = [line.name for line in given]
    shown = [v["y"] for v in frame.values] + [v[k] for v in frame.banded for k in ("low", "high")]
    domain = _domain(shown, log_y)
    dots = max(sum(v["name"] == name for v in frame.values) for name in names) <= DOTS

    def draw(width: int) -> Any:
        scale_x = alt.Scale(type="log" if log_x else "linear", nice=False, padding=8, zero=False)
        whole = not log_x and all(float(v["x"]).is_integer() for v in frame.values)
        ticks: dict[str, Any] = {
            "tickCount": 6 if width == WIDE else 4,
            "grid": False,
            "format": "~d" if whole else "~g",
        }
        if whole:
            ticks["tickMinStep"] = 1
        x = alt.X("x:Q", title=axes[0], scale=scale_x, axis=alt.Axis(**ticks))
        scale_y = alt.Scale(type="log" if log_y else "linear", domain=domain, nice=False)
        y = alt.Y("y:Q", title=axes[1], scale=scale_y, axis=alt.Axis(tickCount=6, format="~g"))
        colour = _colour(names, legend=len(names) > 1, width=width)
        base = alt.Chart(alt.Data(values=frame.values)).encode(x=x, y=y, color=colour)
        layers = []
        if frame.banded:
            band = alt.Chart(alt.Data(values=frame.banded)).mark_area(opacity=0.16, clip=True)
            low = alt.Y("low:Q", scale=scale_y, title=axes[1])
            layers.append(band.encode(x=x, y=low, y2="high:Q", color=colour, description="name:N"))
        layers.append(base.mark_line(strokeWidth=2, clip=True).encode(strokeDash=_dash(names), description="name:N"))
        if dots:
            layers.append(
                base.mark_point(filled=True, size=36, opacity=1, clip=True).encode(
                    shape=_shape(names), description="said:N"
                )
            )
        if marks:
            rows = [{"x": mark.x, "said": mark.said, "y": 10 + 15 * i} for i, mark in enumerate(marks)]
            upright = alt.Chart(alt.Data(values=rows)).encode(x=x)
            layers.append(upright.mark_rule(strokeWidth=1.5, strokeDash=[5, 4], color="currentColor"))
            words = upright.mark_text(align="right", dx=-5, fontSize=12, color="currentColor")
            layers.append(words.encode(text="said:N", y=alt.Y("y:Q", scale=None, axis=None)))
        return alt.layer(*layers).properties(width=width - 60, height=280 if width != NARROW else 220)

    return _both(draw, title)


def _collect(frame: _Frame, line: Line, log_x: bool, log_y: bool) -> None:
    table = np.asarray(line.curves, dtype=float).reshape(len(line.curves), -1)
    chosen = np.unique(np.linspace(0, table.shape[1] - 1, min(table.shape[1], POINTS)).round().astype(int))
    for index in chosen:
        place, values = float(line.x[index]), table[:, index]
        values = values[np.isfinite(values)]
        if not len(values) or (log_x and place <= 0) or (log_y and values.min() <= 0):
            continue
        mean, low, high = (float(v[0]) for v in mean_band((np.log(values) if log_y else values)[:, None]))
        mean, low, high = (math.exp(v) if log_y and math.isfinite(v) else v for v in (mean, low, high))
        said = f"{line.name}, {scientific(place)}: {scientific(mean)}"
        if len(values) >= MINIMUM_REPEATS and low < high:
            said += f" [{scientific(low)}, {scientific(high)}]"
            frame.banded.append({"name": line.name, "x": place, "low": low, "high": high})
        frame.values.append({"name": line.name, "x": place, "y": mean, "said": said})


def _domain(values: list[float], log: bool) -> list[float]:
    low, high = min(values), max(values)
    if log:
        room = max((high / low) ** 0.06, 1.1)
        return [low / room, high * room]
    room = (high - low) * 0.08 or abs(high) * 0.05 or 1.0
    return [low - room, high + room]
