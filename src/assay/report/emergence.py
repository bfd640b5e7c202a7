"""The page of `assay emergence`: every metric observed and predicted, the smooth quantity, sub-tasks, resolution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from assay.errors import UserError
from assay.report.charts import NARROW, Chart, _both, _colour, _dash, _shape
from assay.report.format import scientific, significant
from assay.report.instrument import Section, Table, write_page
from assay.report.lines import Line, lines
from assay.runs import read_json

__all__ = ["DATA", "FILE", "composition_rows", "curve_rows", "findings", "write_emergence"]

DATA, FILE = "emergence.json", "report.html"
OBSERVED, PREDICTED, OWN = "observed", "predicted from the smooth fit", "from each model's own probability"
AXES = {
    "exact match": "Share of items right",
    "edit distance": "Tokens wrong a target",
    "multiple choice": "Share of items right",
}


def write_emergence(folder: str | Path) -> Path:
    """Write `report.html` beside `emergence.json`, from it alone; its path.

    Raises:
        UserError: there is no such file, or the disk is full.
    """
    folder = Path(folder)
    held = read_json(folder / DATA)
    if not isinstance(held, dict) or held.get("kind") != "emergence":
        raise UserError(f"{folder / DATA}: holds no analysis of assay emergence.")
    found = held["emergence"]
    sections = []
    for curve in found["curves"]:
        section = Section(curve["metric"].capitalize())
        section.draw(*_drawn(curve))
        heads = ["Model", "Scale", "Items", "Observed", "Predicted", "Own"]
        section.tables.append(Table(heads, curve_rows(found, curve), "Brackets are 95% intervals over items."))
        sections.append(section)
    sections += [_smooth(found), _parts(found)]
    if found["resolution"]:
        sections.append(Section("What the test set can tell", said=found["resolution"]))
    write_page(
        folder / FILE,
        title=f"Jumps and metrics in {Path(found['path']).name}",
        kicker=f"assay emergence · {held['provenance']['time'][:10]}",
        finding=findings(found),
        said=found["notes"],
        sections=sections,
        provenance=held["provenance"],
        settings={"results": found["path"], "smooth quantity": found["smooth"], "resamples": found["resamples"],
                  "seed": found["seed"]},
        source=DATA,
    )  # fmt: skip
    return folder / FILE


def findings(found: dict[str, Any]) -> list[str]:
    """A sentence or two for each metric, and for the sub-tasks."""
    said = []
    for curve in found["curves"]:
        text = f"{curve['metric'].capitalize()}: {curve['verdict']}."
        if curve["explained"] is not None and curve["step"] is not None:
            first, last = (found["models"][i] for i in curve["step"])
            text += (
                f" The fit explains {_share(curve['explained'])} of the curve; of the steepest step, {first} to {last} "
                f"({significant(curve['jump'])} observed, {significant(curve['jump_predicted'])} predicted), "
                f"{_share(curve['jump_explained'])}."
            )
        said.append(text)
    measured = [c for c in found["compositions"] if c["whole"] is not None]
    if measured:
        outside = [c["model"] for c in measured if not c["low"] - 1e-9 <= c["whole"] <= c["high"] + 1e-9]
        off = max(abs(c["whole"] - c["independent"]) for c in measured)
        text = f"Sub-tasks: the whole lies within {significant(off)} of what independent sub-tasks give."
        if outside:
            text += f" At {', '.join(outside)} it lies outside what these parts allow: it is not all of them together."
        said.append(text)
    return said


def _share(value: dict[str, Any]) -> str:
    estimate = f"{100 * value['estimate']:.0f}%".replace("-", "−")
    low, high = value["low"], value["high"]
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return f"{estimate} (no interval)"
    return f"{estimate} [{100 * low:.0f}%, {100 * high:.0f}%]".replace("-", "−")


def curve_rows(found: dict[str, Any], curve: dict[str, Any]) -> list[list[str]]:
    """A row a model: name, scale, items, observed with interval, predicted, own."""
    rows = []
    for i, model in enumerate(found["models"]):
        seen = scientific(curve["observed"][i])
        if curve["low"][i] < curve["high"][i]:
            seen += f" [{scientific(curve['low'][i])}, {scientific(curve['high'][i])}]"
        own = "–" if curve["own"] is None else scientific(curve["own"][i])
        number = found["items"][i]
        rows.append(
            [model, scientific(curve["scales"][i]), f"{number:,}" if number > 1 else "–", seen,
             scientific(curve["predicted"][i]), own]
        )  # fmt: skip
    return rows


def composition_rows(found: dict[str, Any]) -> list[list[str]]:
    """A row a model: name, scale, the sub-tasks' range, the whole, independence, bounds."""
    rows = []
    for c in found["compositions"]:
        parts = list(c["parts"].values())
        whole = "–" if c["whole"] is None else scientific(c["whole"])
        rows.append(
            [c["model"], scientific(c["scale"]), f"{scientific(min(parts))} to {scientific(max(parts))}", whole,
             scientific(c["independent"]), f"{scientific(c['low'])} to {scientific(c['high'])}"]
        )  # fmt: skip
    return rows


def _smooth(found: dict[str, Any]) -> Section:
    section = Section("The smooth quantity")
    law = found["law"]
    if law is not None:
        at = found["scales"]
        fitted = [math.exp(law["intercept"] - law["exponent"] * math.log(s)) for s in at]
        given = [Line("power law", at, [fitted])]
        if found["nats"] is not None:
            given.insert(0, Line(OBSERVED, at, [found["nats"]]))
        title = "Cross-entropy of a token against scale, with its power law"
        section.draw(lines(given, ("Scale", "Nats a token"), title, log_x=True, log_y=True), f"{title}.")
        fit = "" if law["fit"] is None else f"; it explains {100 * law['fit']:.1f}% of the logarithm's variance"
        section.said.append(f"−log p = exp({law['intercept']:.3f} − {law['exponent']:.3f} log scale){fit}.")
    if found["margin"] is not None:
        means, spread = found["margin"]
        title = "Mean margin of the right choice against scale"
        section.draw(
            lines([Line("margin", found["scales"], [means])], ("Scale", "Nats"), title, log_x=True), f"{title}."
        )
        section.said.append(f"The margin's spread over items is {spread:.3g} nats.")
    return section


def _parts(found: dict[str, Any]) -> Section:
    section = Section("Sub-tasks and the whole")
    held = found["compositions"]
    if not held:
        return section
    at = [c["scale"] for c in held]
    given = [Line(name, at, [[c["parts"][name] for c in held]]) for name in held[0]["parts"]]
    if all(c["whole"] is not None for c in held):
        given.append(Line("the whole, observed", at, [[c["whole"] for c in held]]))
    given.append(Line("the whole, if independent", at, [[c["independent"] for c in held]]))
    title = "Accuracy of sub-tasks and of the whole against scale"
    section.draw(lines(given, ("Scale", "Share right"), title, log_x=True), f"{title}.")
    heads = ["Model", "Scale", "Sub-tasks", "Whole", "If independent", "Always between"]
    section.tables.append(Table(heads, composition_rows(found)))
    return section


def _drawn(curve: dict[str, Any]) -> tuple[Chart, str]:
    """Observed with intervals, and the predictions as lines."""
    import altair as alt

    title = f"{curve['metric'].capitalize()} against scale, observed and predicted"
    names = [OBSERVED, PREDICTED] + ([OWN] if curve["own"] is not None else [])
    columns = {OBSERVED: curve["observed"], PREDICTED: curve["predicted"], OWN: curve["own"]}
    values = [
        {"name": name, "x": x, "y": y, "said": f"{name}, {scientific(x)}: {scientific(y)}"}
        for name in names
        for x, y in zip(curve["scales"], columns[name], strict=True)
    ]
    bars = [
        {"name": OBSERVED, "x": x, "low": low, "high": high}
        for x, low, high in zip(curve["scales"], curve["low"], curve["high"], strict=True)
        if low < high
    ]
    extent = _extent([v["y"] for v in values] + [b[k] for b in bars for k in ("low", "high")])

    def draw(width: int) -> Any:
        x = alt.X(
            "x:Q", title="Scale", scale=alt.Scale(type="log", nice=False, padding=12),
            axis=alt.Axis(grid=False, tickCount=4, format="~s" if max(curve["scales"]) >= 1e4 else "~g"),
        )  # fmt: skip
        scale = alt.Scale(domain=extent, nice=False)
        y = alt.Y("y:Q", title=AXES[curve["metric"]], scale=scale, axis=alt.Axis(tickCount=6))
        colour = _colour(names, legend=True, width=width)
        base = alt.Chart(alt.Data(values=values)).encode(x=x, y=y, color=colour)
        layers = [
            base.mark_line(strokeWidth=2).encode(strokeDash=_dash(names), description="name:N"),
            base.mark_point(filled=True, size=50, opacity=1).encode(shape=_shape(names), description="said:N"),
        ]
        if bars:
            bar = alt.Chart(alt.Data(values=bars)).mark_rule(strokeWidth=2, opacity=0.6)
            low = alt.Y("low:Q", scale=scale, title=AXES[curve["metric"]])
            layers.insert(0, bar.encode(x=x, y=low, y2="high:Q", color=colour, description="name:N"))
        return alt.layer(*layers).properties(width=width - 60, height=280 if width != NARROW else 220)

    return _both(draw, title), f"{title}. Bars are 95% intervals over items."


def _extent(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or 0.05
    return [low - room, high + room]
