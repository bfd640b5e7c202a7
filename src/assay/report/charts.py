"""Charts of a study as static SVG, made offline from Altair descriptions.

A chart is drawn twice, wide and narrow, so that its letters stay readable on a phone. Colours are CSS variables
with the palette as fallback, text takes the page's colour, and every mark tells its values as a native tooltip:
no script runs and nothing is loaded.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from assay.report.format import scientific
from assay.report.rows import Row
from assay.report.study import Combination
from assay.stats import MINIMUM_REPEATS, mean_band

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#F0E442")
"""Okabe & Ito's colours, told apart by colour-blind readers; shapes and dashes differ too."""
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left")
DASHES: tuple[list[int], ...] = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3])
WIDE, NARROW = 820, 340
"""Width of the plotting area plus axis, in pixels."""
FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
"""Fonts of one width on every system, so that what is measured here fits there."""
VALIDATE = False
"""Whether descriptions are checked against Vega-Lite's schema."""
POINTS = 120
"""Points of a learning curve at most."""


@dataclass(frozen=True)
class Chart:
    """One chart in both widths, with what it shows in words."""

    wide: str
    narrow: str
    title: str


def loss_by_compute(combinations: Sequence[Combination]) -> Chart | None:
    """Held-out bits per byte against training FLOPs: mean over seeds, 95% band; None where it was not measured."""
    values = []
    for combination in combinations:
        values += _banded(combination, "bits_per_byte", lambda row: [(row["flops"], row["bits_per_byte"])])
    if len([value for value in values if value["x"] > 0]) > 2 * len(combinations):
        # The untrained model's loss would set the frame and forbid the logarithm; curves speak without it.
        values = [value for value in values if value["x"] > 0]
    if not values:
        return None
    unit, name = _exponent([value["x"] for value in values])
    for value in values:
        value["x"] /= unit
    return _bands(
        values,
        [combination.name for combination in combinations],
        (name, "Bits per byte, held out"),
        "Held-out continuation loss in bits per byte against training FLOPs, mean and 95% interval over seeds",
        log=True,
    )


def loss_by_position(combinations: Sequence[Combination], unit: str = "tokens") -> Chart | None:
    """Loss by place in the continuation at the end of training; None where it was not measured."""
    values = []
    for combination in combinations:
        values += _banded(combination, "by_position", _last_positions, last=True)
    if not values:
        return None
    return _bands(
        values,
        [combination.name for combination in combinations],
        (f"From this place in the continuation on ({unit})", "Nats per token"),
        "Loss by place in the continuation at the end of training, mean and 95% interval over seeds",
    )


def final_loss(rows: Sequence[Row]) -> Chart:
    """Final bits per byte of each combination: mean, 95% interval and every seed."""
    import altair as alt

    names = [row.name for row in rows]
    means: list[dict[str, Any]] = []
    seeds: list[dict[str, Any]] = []
    for row in rows:
        bits = row.bits_per_byte
        if bits is None:
            continue
        finite = math.isfinite(bits.low)
        low, high = (bits.low, bits.high) if finite else (bits.estimate, bits.estimate)
        said = f"{row.name}: {bits.estimate:.4f}" + (f" [{low:.4f}, {high:.4f}]" if finite else ", 1 seed")
        means.append({"name": row.name, "x": bits.estimate, "low": low, "high": high, "said": said})
        for seed, value in row.by_seed.items():
            seeds.append({"name": row.name, "x": value, "said": f"{row.name}, seed {seed}: {value:.4f}"})

    def draw(width: int) -> Any:
        scale = alt.Scale(domain=_window([v for m in means for v in (m["low"], m["high"])] + [s["x"] for s in seeds]))
        title = "Bits per byte, held out" + (" (lower is better)" if width == WIDE else "")
        x = alt.X("x:Q", title=title, scale=scale, axis=alt.Axis(tickCount=5))
        y = alt.Y("name:N", sort=names, title=None, axis=alt.Axis(labelLimit=width // 2, domain=False, ticks=False))
        base = alt.Chart(alt.Data(values=means)).encode(y=y, color=_colour(names, legend=False))
        bars = base.mark_rule(strokeWidth=3, opacity=0.55).encode(
            x=alt.X("low:Q", scale=scale, title=title), x2="high:Q", description="said:N"
        )
        dots = base.mark_point(filled=True, size=90, opacity=1).encode(x=x, shape=_shape(names), description="said:N")
        each = (
            alt.Chart(alt.Data(values=seeds))
            .mark_tick(thickness=1.5, size=16, opacity=0.9)
            .encode(x=x, y=y, color=_colour(names, legend=False), description="said:N")
        )
        return (bars + each + dots).properties(width=width - 130, height={"step": 30})

    shows = "Final bits per byte of each combination: mean and 95% interval, a tick for every seed"
    return _both(draw, shows)


def learning_curves(combinations: Sequence[Combination]) -> Chart | None:
    """Training loss of every seed, a small panel a combination; None without training rows."""
    import altair as alt

    values, names = [], []
    for combination in combinations:
        names.append(combination.name)
        for run in combination.runs:
            rows = run.training
            for row in rows[:: max(1, len(rows) // POINTS)]:
                point = {"name": combination.name, "seed": str(run.seed), "x": row["flops"], "y": row["loss"]}
                values.append({**point, "said": f"{combination.name}, seed {run.seed}"})
    if not values:
        return None
    unit, axis = _exponent([value["x"] for value in values])
    for value in values:
        value["x"] /= unit
    top = float(np.quantile([value["y"] for value in values], 0.99))
    domain = _window([min(value["y"] for value in values), top])

    def draw(width: int) -> Any:
        columns = 3 if width == WIDE else 1 if max(map(len, names)) > 16 else 2
        columns = min(columns, len(names))
        inner = min((width - 70) // columns - 12, 320)
        return (
            alt.Chart(alt.Data(values=values))
            .mark_line(strokeWidth=1, opacity=0.7, clip=True)
            .encode(
                x=alt.X("x:Q", title=axis, axis=alt.Axis(tickCount=3, grid=False)),
                y=alt.Y("y:Q", title="Nats per target", scale=alt.Scale(domain=domain), axis=alt.Axis(tickCount=4)),
                detail="seed:N",
                color=_colour(names, legend=False),
                description="said:N",
                facet=alt.Facet(
                    "name:N",
                    columns=columns,
                    sort=names,
                    title=None,
                    header=alt.Header(labelLimit=inner, labelAnchor="start", labelFontWeight=600),
                ),
            )
            .properties(width=inner, height=int(inner * 0.62))
        )

    return _both(draw, "Training loss in nats per target against training FLOPs, a line for every seed")


def _banded(
    combination: Combination,
    key: str,
    points: Callable[[dict[str, Any]], list[tuple[float, float]]],
    last: bool = False,
) -> list[dict[str, Any]]:
    """Mean and band over seeds of a curve, at the places that all of them have."""
    curves = []
    for run in combination.finished:
        rows = [row for row in run.evaluations if row.get(key)]
        curve = [point for row in (rows[-1:] if last else rows) for point in points(row)]
        if curve:
            curves.append(curve)
    if not curves:
        return []
    length = min(map(len, curves))
    x = np.mean([[place for place, _ in curve[:length]] for curve in curves], axis=0)
    mean, low, high = mean_band([[value for _, value in curve[:length]] for curve in curves])
    found = []
    for place, middle, bottom, top in zip(x, mean, low, high, strict=True):
        said = f"{combination.name}: {middle:.4g}"
        value = {"name": combination.name, "x": float(place), "y": float(middle), "n": len(curves)}
        if math.isfinite(bottom):
            value |= {"low": float(bottom), "high": float(top)}
            said += f" [{bottom:.4g}, {top:.4g}]"
        found.append({**value, "said": said})
    return found


def _last_positions(row: dict[str, Any]) -> list[tuple[float, float]]:
    return [(float(start), float(nats)) for start, nats, number in row["by_position"] if number and math.isfinite(nats)]


def _bands(
    values: list[dict[str, Any]], names: list[str], axes: tuple[str, str], title: str, *, log: bool = False
) -> Chart:
    """Lines with bands, one a combination."""
    import altair as alt

    banded = [value for value in values if "low" in value and value["n"] >= MINIMUM_REPEATS]
    # A wide band is cut at the frame and not allowed to set it; that of two seeds would cover everything.
    domain = _window([value["y"] for value in values], 0.12)
    wild = log and min(value["x"] for value in values) > 0

    def draw(width: int) -> Any:
        scale = alt.Scale(type="log" if wild else "linear", nice=False, padding=8)
        x = alt.X("x:Q", title=axes[0], scale=scale, axis=alt.Axis(tickCount=6 if width == WIDE else 4, grid=False))
        y = alt.Y("y:Q", title=axes[1], scale=alt.Scale(domain=domain), axis=alt.Axis(tickCount=6))
        colour = _colour(names, legend=True, width=width)
        lines = alt.Chart(alt.Data(values=values)).encode(x=x, y=y, color=colour)
        layers = [
            lines.mark_line(strokeWidth=2, clip=True).encode(strokeDash=_dash(names), description="name:N"),
            lines.mark_point(filled=True, size=36, opacity=1, clip=True).encode(
                shape=_shape(names), description="said:N"
            ),
        ]
        if banded:
            band = alt.Chart(alt.Data(values=banded)).mark_area(opacity=0.16, clip=True)
            layers.insert(
                0,
                band.encode(x=x, y=alt.Y("low:Q", scale=alt.Scale(domain=domain), title=axes[1]), y2="high:Q",
                            color=colour, description="name:N"),
            )  # fmt: skip
        return alt.layer(*layers).properties(width=width - 60, height=320 if width == WIDE else 240)

    return _both(draw, title)


def _exponent(flops: list[float]) -> tuple[float, str]:
    """A power of ten to divide FLOPs by, and the axis title that says so."""
    largest = max(flops, default=0.0)
    power = math.floor(math.log10(largest)) if largest > 0 else 0
    return (1.0, "Training FLOPs") if power < 4 else (10.0**power, f"Training FLOPs × {_power(power)}")


def _power(exponent: int) -> str:
    return scientific(10.0**exponent, 1).split("× ")[-1]


def _window(values: list[float], margin: float = 0.08) -> list[float]:
    """Bounds of an axis around values."""
    low, high = min(values), max(values)
    room = (high - low) * margin or abs(high) * 0.05 or 1.0
    return [low - room, high + room]


def _colour(names: list[str], *, legend: bool, width: int = WIDE) -> Any:
    import altair as alt

    columns = 1 if width == NARROW or max(map(len, names)) > 40 else 2 if max(map(len, names)) > 22 else 3
    shown = (
        alt.Legend(orient="top", title=None, columns=columns, labelLimit=width // columns - 30, symbolOpacity=1)
        if legend
        else None
    )
    return alt.Color("name:N", scale=alt.Scale(domain=names, range=_cycle(PALETTE, len(names))), legend=shown)


def _shape(names: list[str]) -> Any:
    import altair as alt

    return alt.Shape("name:N", scale=alt.Scale(domain=names, range=_cycle(SHAPES, len(names))), legend=None)


def _dash(names: list[str]) -> Any:
    """Solid for the first eight, then dashed: colours come round again only with another dash."""
    import altair as alt

    dashes = [DASHES[(index // len(PALETTE)) % len(DASHES)] for index in range(len(names))]
    return alt.StrokeDash("name:N", scale=alt.Scale(domain=names, range=dashes), legend=None)


def _cycle(values: Sequence[str], count: int) -> list[str]:
    return [values[index % len(values)] for index in range(count)]


CONFIG: dict[str, Any] = {
    "background": None,
    "padding": {"left": 8, "right": 12, "top": 4, "bottom": 4},
    "font": FONT,
    "view": {"stroke": None},
    "axis": {
        "labelColor": "currentColor", "titleColor": "currentColor", "tickColor": "currentColor",
        "domainColor": "currentColor", "gridColor": "currentColor", "gridOpacity": 0.12, "domainOpacity": 0.4,
        "tickOpacity": 0.4, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": 500, "titlePadding": 8,
        "labelOpacity": 0.85,
    },
    "legend": {
        "labelColor": "currentColor", "labelFontSize": 12.5, "symbolSize": 110, "offset": 6, "rowPadding": 4,
        "columnPadding": 16,
    },
    "header": {"labelColor": "currentColor", "labelFontSize": 12.5, "labelPadding": 4},
}  # fmt: skip


def _both(draw: Callable[[int], Any], title: str, name: str = "") -> Chart:
    """Both widths. `name` tells apart charts of one title that stand in one page."""
    from altair.utils import schemapi

    # Checking every part against Vega's schema takes longer than drawing; the tests do it.
    with schemapi.debug_mode(VALIDATE):
        wide, narrow = (draw(width).to_dict(validate=VALIDATE) for width in (WIDE, NARROW))
    return Chart(_svg(wide, title, f"{name}w"), _svg(narrow, title, f"{name}n"), title)


def _svg(specification: dict[str, Any], title: str, suffix: str) -> str:
    """Vega's SVG made fit for a page: scalable, coloured by the page, titled, with tooltips and ids of its own."""
    import vl_convert

    specification["config"] = CONFIG
    svg: str = vl_convert.vegalite_to_svg(specification)
    # Vega counts its ids on from chart to chart: numbered anew, equal charts are equal text, and no two charts meet.
    prefix = f"{zlib.crc32(title.encode()):x}{suffix}"
    ids = {old: f"{prefix}-{number}" for number, old in enumerate(dict.fromkeys(re.findall(r'\bid="([^"]+)"', svg)))}
    svg = re.sub(r'\bid="([^"]+)"', lambda found: f'id="{ids[found[1]]}"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", lambda found: f"url(#{ids.get(found[1], found[1])})", svg)
    for index, colour in enumerate(PALETTE):
        svg = re.sub(rf'"{colour}"', f'"var(--c{index + 1},{colour})"', svg, flags=re.IGNORECASE)
    svg = re.sub(r'<path aria-label="([^"]*)"([^>]*?)(?:/>|></path>)', r"<path\2><title>\1</title></path>", svg)
    svg = re.sub(r' (?:aria-[a-z]+|role)="[^"]*"', "", svg)
    width, height = re.search(r'<svg[^>]*? width="([\d.]+)" height="([\d.]+)"', svg).groups()  # type: ignore[union-attr]
    svg = re.sub(r'(<svg[^>]*?) width="[\d.]+" height="[\d.]+"', r"\1", svg, count=1)
    attributes = (
        f' width="{width}" height="{height}" role="img" font-family="{escape(FONT)}"><title>{escape(title)}</title>'
    )
    svg = re.sub(r"(<svg[^>]*?)>", lambda found: found.group(1) + attributes, svg, count=1)
    return svg


__all__ = ["PALETTE", "Chart", "final_loss", "learning_curves", "loss_by_compute", "loss_by_position"]
