"""Any picture given as data: lines with bands, points with error bars, bars, heat maps. One function draws them all.

A value that is not finite (a run that diverged), or not positive on a logarithmic axis, cannot be drawn; the chart
says which were left out.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from assay.report.charts import DASHES, NARROW, PALETTE, SHAPES, WIDE, Chart, _both, _cycle
from assay.report.format import scientific

__all__ = ["KINDS", "draw", "number"]

KINDS = ("lines", "points", "bars", "heat")
POINTS, DOTS, TICKS = 120, 30, 8
"""Points of a line at most (thinned evenly); points up to which a line shows dots; places that are all axis ticks."""
CELLS, WRITTEN = 1500, 80
"""Cells of a heat map up to which each tells its value when pointed at; up to which it is written in the cell."""
NAMED = 6
"""Values left out that are named; of more, the number is said."""
PLAIN = (
    "datum.value != 0 && (abs(datum.value) >= 1e5 || abs(datum.value) < 1e-3)"
    " ? replace(format(datum.value, '.3~e'), 'e+', 'e') : format(datum.value, ',.5~r')"
)
"""How an axis says a number, as a Vega expression: 0.002, 1,500, 1e9."""
_NOT_FINITE = ("inf", "+inf", "-inf", "nan", "infinity", "-infinity")


def draw(picture: Mapping[str, Any], name: str = "") -> Chart | None:
    """Draw a picture; None where no value of it can be drawn.

    Args:
        picture: plain data: `title` (text, or {"en", "zh"}: the chart has the English one), `rows`
            ({"series", "x", "y"}, perhaps "low" and "high"; a heat map: "x", "y", "value"), `x` and `y` (axis
            titles), `kind` ("lines", "points", "bars", "heat"), `log_x`, `log_y`. x may be text; numbers may be the
            strings "inf", "-inf", "nan".
        name: tells apart charts of one title in one page.

    Raises:
        ValueError: an unknown kind.
    """
    kind = picture.get("kind", "lines")
    if kind not in KINDS:
        raise ValueError(f"picture of kind {kind!r}: there are {', '.join(KINDS)}")
    if kind == "heat":
        from assay.report.heat import draw_heat

        return draw_heat(picture, name)
    data = _read(picture)
    if not data.points:
        return None
    if data.text and kind != "lines":
        return _both(lambda width: _categories(data, width, bars=kind == "bars"), data.title, name)
    return _both(lambda width: _plane(data, width, lines=kind == "lines"), data.title, name)


def number(value: Any) -> float:
    """A number from plain data, where what is not finite may be a string; NaN for what is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def say(value: float) -> str:
    """A number with its sign and four digits, infinity as its sign."""
    if math.isfinite(value):
        return scientific(value, 4)
    return "not a number" if math.isnan(value) else "∞" if value > 0 else "−∞"


def title_of(picture: Mapping[str, Any]) -> str:
    """The English title."""
    title = picture.get("title", "")
    return str(title.get("en", "") if isinstance(title, Mapping) else title)


def is_text(values: Sequence[Any]) -> bool:
    """Whether an axis has names on it: one text that is no way of writing a number that is not finite."""
    return any(isinstance(value, str) and value.strip().lower() not in _NOT_FINITE for value in values)


def distinct(values: Sequence[Any]) -> list[Any]:
    """In order of appearance."""
    return list(dict.fromkeys(values))


def footnote(said: str, width: int) -> Any:
    """Words below a chart."""
    import altair as alt

    lines = textwrap.wrap(said, 108 if width == WIDE else 46)
    return alt.Title(lines, orient="bottom", anchor="start", frame="bounds", fontSize=11.5, fontWeight="normal",
                     color="currentColor", offset=8)  # fmt: skip


def left_out(said: Sequence[str]) -> str:
    """What could not be drawn, in words; empty where everything was."""
    if not said:
        return ""
    more = f" and {len(said) - NAMED} more" if len(said) > NAMED else ""
    return f"Left out: {'; '.join(said[:NAMED])}{more}."


@dataclass
class _Data:
    """What can be drawn, and what is said of the rest."""

    title: str
    axes: tuple[str, str]
    log: tuple[bool, bool]
    text: bool
    names: list[str]
    points: list[dict[str, Any]] = field(default_factory=list)
    omitted: list[str] = field(default_factory=list)
    domain: list[float] = field(default_factory=list)
    cut: bool = False
    """Whether bands reach beyond the frame."""

    @property
    def note(self) -> str:
        cut = "Intervals are cut at the frame." if self.cut else ""
        return " ".join(filter(None, [left_out(self.omitted), cut]))


def _read(picture: Mapping[str, Any]) -> _Data:
    kind, rows = picture.get("kind", "lines"), list(picture.get("rows", ()))
    log = bool(picture.get("log_x")), bool(picture.get("log_y"))
    text = is_text([row.get("x") for row in rows]) or kind == "bars"
    names = distinct([str(row.get("series", "")) for row in rows])
    data = _Data(title_of(picture), (str(picture.get("x", "")), str(picture.get("y", ""))), log, text, names)
    for row in rows:
        series, x, y = str(row.get("series", "")), row.get("x"), number(row.get("y"))
        place: Any = _plain(x) if text else number(x)
        where = f"{series} at {_plain(place)}" if series and series != place else _plain(place)
        if _drawable(y, log[1]) and (text or _drawable(place, log[0])):
            point = {"name": series, "x": place, "y": y, "said": f"{where}: {say(y)}"}
            low, high = number(row.get("low")), number(row.get("high"))
            if not (math.isnan(low) or math.isnan(high)) and (math.isfinite(low) or math.isfinite(high)):
                point |= {"low": low, "high": high, "said": f"{point['said']} [{say(low)}, {say(high)}]"}
            data.points.append(point)
        else:
            data.omitted.append(f"{where} ({say(y)})")
    if kind == "lines" and not text:
        data.points = [p for n in names for p in _thin([q for q in data.points if q["name"] == n])]
    if data.points:
        _frame(data, kind)
    return data


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else f"{number(value):g}"


def _drawable(value: float, log: bool) -> bool:
    return math.isfinite(value) and (value > 0 or not log)


def _thin(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sorted along x, POINTS at most, both ends kept."""
    points = sorted(points, key=lambda point: point["x"])
    if len(points) <= POINTS:
        return points
    return [points[round(i * (len(points) - 1) / (POINTS - 1))] for i in range(POINTS)]


def _frame(data: _Data, kind: str) -> None:
    """Set the value axis: all values, and their intervals as far as they do not dwarf them; cut bounds to it."""
    log = data.log[1]

    def scaled(value: float) -> float:
        return math.log(value) if log else value

    def known(value: float) -> bool:
        return _drawable(value, log)

    values = [scaled(p["y"]) for p in data.points] + ([0.0] if kind == "bars" and not log else [])
    low, high = min(values), max(values)
    bounds = [scaled(p[k]) for p in data.points for k in ("low", "high") if k in p and known(p[k])]
    # Points and bars show their intervals whole; the bands of lines are cut where they would flatten the lines.
    reach = (high - low) if kind == "lines" and high > low and len(data.points) > len(data.names) else math.inf
    low, high = max(min([low, *bounds]), low - reach), min(max([high, *bounds]), high + reach)
    room = (high - low) * 0.06 or abs(high) * 0.05 or 1.0
    grounded = kind == "bars" and not log
    low, high = low - room * (not grounded or low < 0), high + room * (not grounded or high > 0)
    data.domain = [math.exp(low), math.exp(high)] if log else [low, high]
    for point in data.points:
        if "low" in point:
            ends = max(point["low"], data.domain[0]), min(point["high"], data.domain[1])
            data.cut |= ends != (point["low"], point["high"])
            point |= {"low": ends[0], "high": ends[1]}


def _marks(names: list[str], width: int, *, legend: bool, told: str = "shape") -> dict[str, Any]:
    """Colour, shape and dash of a series, with one legend for the colour and what tells them apart beside it.

    No two series share colour and shape: where the colours come round again, the shapes are moved on by one.
    """
    import altair as alt

    longest, count = max(map(len, names)), len(names)
    columns = 1 if longest > (40 if width == WIDE else 14) else 2 if width == NARROW or longest > 22 else 3
    limit = width // columns - 34
    shown = alt.Legend(orient="top", title=None, columns=columns, labelLimit=limit, symbolOpacity=1) if legend else None
    shapes = [SHAPES[(i + i // len(PALETTE)) % len(SHAPES)] for i in range(count)]
    dashes = [DASHES[i // 2 % len(DASHES)] for i in range(count)]

    def scale(values: Sequence[Any]) -> Any:
        return alt.Scale(domain=names, range=list(values))

    return {
        "color": alt.Color("name:N", scale=scale(_cycle(PALETTE, count)), legend=shown),
        "shape": alt.Shape("name:N", scale=scale(shapes), legend=shown if told == "shape" else None),
        "dash": alt.StrokeDash("name:N", scale=scale(dashes), legend=shown if told == "dash" else None),
    }


def _ticks(data: _Data, count: int) -> dict[str, Any]:
    return {"values": log_ticks(*data.domain)} if data.log[1] else {"tickCount": count}


def log_ticks(low: float, high: float) -> list[float]:
    """Round places of a logarithmic axis, some 3 to 9 of them: powers of ten, or 1, 2 and 5 times those."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    tens = [10.0**power for power in range(first, last + 1) if low <= 10.0**power <= high]
    if len(tens) > 2:
        return tens[:: math.ceil(len(tens) / 9)]
    fine = [float(f"{m}e{power}") for power in range(first, last + 1) for m in (1, 2, 5)]
    fine = [value for value in fine if low <= value <= high]
    if len(fine) > 2:
        return fine
    # Less than about a decade: even steps, of 1, 2 or 5 times a power of ten.
    rough = (high - low) / 3
    power = 10.0 ** math.floor(math.log10(rough))
    step = max(size * power for size in (1, 2, 5) if size * power <= rough)
    places = range(math.ceil(low / step), math.floor(high / step) + 1)
    return [float(f"{place * step:.6g}") for place in places]


def _value_scale(data: _Data) -> Any:
    import altair as alt

    return alt.Scale(type="log" if data.log[1] else "linear", domain=data.domain, nice=False, zero=False)


def _finished(layers: list[Any], data: _Data, width: int, height: Any) -> Any:
    import altair as alt

    chart = alt.layer(*layers).properties(width=width, height=height)
    return chart.properties(title=footnote(data.note, WIDE if width > NARROW else NARROW)) if data.note else chart


def _plane(data: _Data, width: int, *, lines: bool) -> Any:
    """Numbers against numbers, or lines over names in their order."""
    import altair as alt

    most = max(sum(point["name"] == name for point in data.points) for name in data.names)
    dotted = not lines or data.text or most <= DOTS
    marks = _marks(data.names, width, legend=len(data.names) > 1, told="shape" if dotted else "dash")
    colour = marks["color"]
    scale = _value_scale(data)
    y = alt.Y("y:Q", title=data.axes[1], scale=scale, axis=alt.Axis(labelExpr=PLAIN, **_ticks(data, 6)))
    ranged = [point for point in data.points if "low" in point]
    places = distinct([point["x"] for point in data.points])
    # Few places are the axis's ticks: a reader looks for the rates that were run, not for round numbers.
    ticks: dict[str, Any] = {"tickCount": 5}
    if not data.text and len(places) <= TICKS:
        ticks = {"values": sorted(places)}
    elif not data.text and data.log[0]:
        ticks = {"values": log_ticks(min(places), max(places))}
    shown = {"labelAngle": -30} if data.text else {"labelExpr": PLAIN, **ticks}
    axis = alt.Axis(grid=False, labelOverlap="greedy", **shown)
    if data.text:
        x = alt.X("x:N", sort=places, title=data.axes[0], scale=alt.Scale(type="point", padding=0.4), axis=axis)
    else:
        along = alt.Scale(type="log" if data.log[0] else "linear", nice=False, padding=10, zero=False)
        x = alt.X("x:Q", title=data.axes[0], scale=along, axis=axis)
    base = alt.Chart(alt.Data(values=data.points)).encode(x=x, y=y, color=colour)
    layers = []
    if ranged:
        spread = alt.Chart(alt.Data(values=ranged))
        banded = lines and not data.text and len(ranged) > len({point["name"] for point in ranged})
        mark = spread.mark_area(opacity=0.15, clip=True) if banded else spread.mark_rule(strokeWidth=2, opacity=0.6)
        low = alt.Y("low:Q", scale=scale, title=data.axes[1])
        layers.append(mark.encode(x=x, y=low, y2="high:Q", color=colour, description="name:N"))
    if lines:
        line = base.mark_line(strokeWidth=2, clip=True)
        layers.append(line.encode(strokeDash=marks["dash"], description="name:N"))
    if dotted:
        dots = base.mark_point(filled=True, size=44, opacity=1, clip=True)
        layers.append(dots.encode(shape=marks["shape"], description="said:N"))
    return _finished(layers, data, width - 60, 300 if width == WIDE else 230)


def _categories(data: _Data, width: int, *, bars: bool) -> Any:
    """Names from top to bottom and values along: long names have room, on a phone too."""
    import altair as alt

    wide = width == WIDE
    # Names are wrapped for the width; what still has no room ends in an ellipsis, and the tooltip has it whole.
    label = {x: _wrapped(x, 30 if wide else 17) for x in distinct([point["x"] for point in data.points])}
    points = [{**point, "x": label[point["x"]]} for point in data.points]
    places = distinct([point["x"] for point in points])
    own = all(point["name"] in ("", raw["x"]) for point, raw in zip(points, data.points, strict=True))
    single = own or len(data.names) == 1
    lines = max(place.count("\n") + 1 for place in places)
    pitch = max((26 if bars else 28) if single else len(data.names) * (13 if bars else 15) + 12, lines * 14 + 8)
    axis = alt.Axis(labelExpr="split(datum.label, '\\n')", labelLimit=width // 2, domain=False, ticks=False)
    row = alt.Y("x:N", sort=places, title=data.axes[0], axis=axis, scale=alt.Scale(padding=0.14))
    marks = _marks(data.names, width, legend=not single)
    placed: dict[str, Any] = {"y": row, "color": marks["color"]}
    if not single:
        placed["yOffset"] = alt.YOffset(
            "name:N", sort=data.names, scale=alt.Scale(domain=data.names, paddingInner=0.12)
        )
    scale = _value_scale(data)
    ticks = alt.Axis(labelExpr=PLAIN, labelOverlap="greedy", **_ticks(data, 6 if wide else 4))
    x = alt.X("y:Q", title=data.axes[1], scale=scale, axis=ticks)
    base = alt.Chart(alt.Data(values=points)).encode(**placed)
    ranged = alt.Chart(alt.Data(values=[point for point in points if "low" in point])).encode(**placed)
    whiskers = ranged.mark_rule(strokeWidth=2.5 if not bars else 1.6, opacity=0.6 if not bars else 1).encode(
        x=alt.X("low:Q", scale=scale, title=data.axes[1], axis=ticks), x2="high:Q", description="said:N"
    )
    if bars:
        ground = data.domain[0] if data.log[1] else 0.0
        filled = base.mark_bar(opacity=0.75, clip=True).encode(x=x, x2=alt.datum(ground), description="said:N")
        layers = [filled, whiskers.encode(color=alt.value("currentColor"))]
    else:
        layers = [whiskers, base.mark_point(filled=True, size=80, opacity=1).encode(
            x=x, shape=marks["shape"], description="said:N")]  # fmt: skip
    names = min(max(len(part) for place in places for part in place.split("\n")) * 6.6 + 40, width // 2 + 30)
    return _finished(layers, data, int(width - names), {"step": pitch} if single else pitch * len(places))


def _wrapped(text: str, width: int) -> str:
    lines = textwrap.wrap(text, width, max_lines=3, placeholder=" …") or [" "]
    return "\n".join(lines)
