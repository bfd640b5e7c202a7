"""The page of `assay probe stability`: every instrument against depth, the models laid over each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from assay.errors import UserError
from assay.report.format import count, listed, scientific, significant
from assay.report.instrument import Section, Table, write_page
from assay.report.lines import Line, lines
from assay.runs import read_json
from assay.stats import Interval, mean_interval

__all__ = ["COLUMNS", "FILE", "layer_means", "summary", "write_stability"]

DATA, FILE = "stability.json", "report.html"

COLUMNS: tuple[tuple[str, str, str, bool], ...] = (
    ("gradient", "|mean grad|", "Norm of the batch's mean gradient, by layer", True),
    ("gradient_of_examples", "mean |grad|", "Mean over examples of the gradient's norm, by layer", True),
    ("signal", "E|x|²/d", "Signal: mean square of the stream that leaves a layer", True),
    ("maximum", "max |x|", "Largest magnitude inside a layer", True),
    ("headroom", "fp16 room", "Head-room in float16: 65504 over the largest magnitude", True),
    ("entropy", "entropy", "Entropy of self-attention, nats, mean over heads and queries", False),
    ("largest_logit", "max logit", "Largest attention logit of a visible pair", False),
    ("update", "|Δf|", "Update of the function: RMS by which one step moves the stream that leaves a layer", True),
    ("relative_update", "|Δf|/|f|", "The same over the stream's own RMS", True),
)
"""(field of a layer, head of its column, what it is, whether its axis is logarithmic)."""

Layers = list[dict[str, Any]]


def layers_of(model: dict[str, Any], moment: str) -> list[Layers]:
    """[seeds][layers] of one model at a moment, for the seeds that have it."""
    return [seed["at"][moment]["layers"] for seed in model["seeds"] if moment in seed["at"]]


def layer_means(model: dict[str, Any], moment: str) -> list[dict[str, Any]]:
    """A row a layer: stack, layer, and the mean over seeds of every column (None where it was not measured)."""
    seeds = layers_of(model, moment)
    rows = []
    for place in zip(*seeds, strict=True):
        row: dict[str, Any] = {"stack": place[0]["stack"], "layer": place[0]["layer"]}
        for name, *_ in COLUMNS:
            values = [layer[name] for layer in place]
            row[name] = None if None in values else sum(values) / len(values)
        rows.append(row)
    return rows


def summary(model: dict[str, Any], moment: str) -> dict[str, Interval | None]:
    """What one line says of a model: last layer's gradient norm over the first's, spread, update of the output."""

    def over(pick: Callable[[dict[str, Any]], float | None]) -> Interval | None:
        values = [pick(seed["at"][moment]) for seed in model["seeds"] if moment in seed["at"]]
        known = [value for value in values if value is not None and math.isfinite(value)]
        return mean_interval(known) if known and len(known) == len(values) else None

    def own(at: dict[str, Any]) -> list[float]:
        stack = at["layers"][-1]["stack"]
        return [layer["gradient"] for layer in at["layers"] if layer["stack"] == stack]

    def ratio(at: dict[str, Any]) -> float:
        norms = own(at)
        return norms[-1] / norms[0] if norms[0] else math.inf

    def spread(at: dict[str, Any]) -> float:
        norms = own(at)
        return max(norms) / min(norms) if min(norms) else math.inf

    return {
        "ratio": over(ratio),
        "spread": over(spread),
        "output_update": over(lambda at: at["output_update"]),
        "sharpness": over(lambda at: at.get("sharpness", {}).get("largest")),
        "loss": over(lambda at: at["loss"]),
    }


def write_stability(folder: str | Path) -> Path:
    """Write `report.html` beside `stability.json`, from it alone; its path.

    Raises:
        UserError: there is no such file, or the disk is full.
    """
    folder = Path(folder)
    data = read_json(folder / DATA)
    if not isinstance(data, dict) or data.get("kind") != "stability":
        raise UserError(f"{folder / DATA}: holds no measurements of assay probe stability.")
    models = data["models"]
    trained = any("end" in seed["at"] for model in models for seed in model["seeds"])
    sections = [_overview(models, trained)]
    for moment, words in (("start", "Before training"), ("end", "After training")):
        if moment == "start" or trained:
            sections.append(_instruments(models, moment, words))
    sections += [_training(data), _tables(models, "end" if trained else "start")]
    settings = data["settings"]
    write_page(
        folder / FILE,
        title=f"Stability of {listed([model['name'] for model in models][:4])}"
        + (" and others" if len(models) > 4 else ""),
        kicker=f"assay probe stability · {data['provenance']['time'][:10]}",
        finding=[_sentence(model) for model in models[:6]],
        said=[
            f"Measured on {settings['batch_size']} examples of {settings['length']} tokens of {settings['data']}, over "
            f"{settings['seeds']} seed{'s' * (settings['seeds'] != 1)}. Lines are means, bands 95% intervals over "
            "seeds (from three on); on logarithmic axes both are of logarithms. Layers count from 1 at the input.",
            f"The update of the function is that of one {settings['optimizer']} step at a learning rate of "
            f"{settings['learning_rate']:g} on the same examples; the weights are put back after it.",
        ],
        warnings=[] if data["complete"] else ["It was interrupted: some seeds or models are missing."],
        sections=sections,
        provenance=data["provenance"],
        settings=settings,
        source=DATA,
    )
    return folder / FILE


def _sentence(model: dict[str, Any]) -> str:
    found = summary(model, "start")
    ratio, update = found["ratio"], found["output_update"]
    said = f"{model['name']}: "
    said += f"the last layer's gradient norm is {_interval(ratio)} times the first's" if ratio else "no gradient"
    if update:
        said += f", and a step moves the output by {_interval(update)}"
    failed = sum(seed["failed"] is not None for seed in model["seeds"])
    if any(seed["losses"] or seed["failed"] for seed in model["seeds"]):
        said += f"; {failed} of {len(model['seeds'])} trainings failed"
    return said + "."


def _interval(value: Interval | None) -> str:
    if value is None:
        return "–"
    if not math.isfinite(value.low) or value.n is None or value.n < 2:
        return significant(value.estimate)
    return f"{scientific(value.estimate)} [{scientific(value.low)}, {scientific(value.high)}]"


def _overview(models: Sequence[dict[str, Any]], trained: bool) -> Section:
    heads = ["Model", "Parameters", "Layers", "Last / first gradient", "Largest / smallest", "Update of the output"]
    sharp = any("sharpness" in seed["at"]["start"] for model in models for seed in model["seeds"])
    heads += ["Sharpness"] * sharp + ["Final loss", "Spikes", "Failed"] * trained
    rows = []
    for model in models:
        found = summary(model, "start")
        at = model["seeds"][0]["at"]["start"]
        row = [model["name"], count(_parameters(model)), str(len(at["layers"]))]
        row += [_interval(found[name]) for name in ("ratio", "spread", "output_update")]
        row += [_interval(found["sharpness"])] * sharp
        if trained:
            final = [s["losses"][-1] for s in model["seeds"] if s["losses"] and s["failed"] is None]
            row.append(_interval(mean_interval(final)) if final else "–")
            row.append(str(sum(len(s["spikes"]) for s in model["seeds"])))
            row.append(f"{sum(s['failed'] is not None for s in model['seeds'])} of {len(model['seeds'])}")
        rows.append(row)
    note = "Gradients are norms of the batch's mean gradient over a layer's parameters, before training. "
    note += "Brackets are 95% intervals over seeds."
    section = Section("Overview", tables=[Table(heads, rows, note)])
    depths = {model["labels"].get("layers") for model in models}
    if len(depths) > 2 and None not in depths:
        section.draw(*_by_depth(models))
    return section


def _by_depth(models: Sequence[dict[str, Any]]) -> tuple[Any, str]:
    """The update of the output against the model's depth, a line for all that differ in depth alone."""
    groups: dict[str, list[tuple[int, list[float]]]] = {}
    for model in models:
        rest = " · ".join(value for axis, value in model["labels"].items() if axis != "layers") or "the model"
        updates = [seed["at"]["start"]["output_update"] for seed in model["seeds"]]
        groups.setdefault(rest, []).append((int(model["labels"]["layers"]), updates))
    given = []
    for name, points in groups.items():
        points.sort()
        seeds = min(len(updates) for _, updates in points)
        given.append(Line(name, [d for d, _ in points], [[u[s] for _, u in points] for s in range(seeds)]))
    title = "Update of the function's output by one step, against the depth of the model"
    return lines(given, ("Layers of the model", "|Δf|, RMS"), title, log_x=True, log_y=True), title + "."


def _parameters(model: dict[str, Any]) -> int:
    from assay.spec.model import ModelSpec

    return int(ModelSpec.from_dict(model["spec"]).parameters())


def _instruments(models: Sequence[dict[str, Any]], moment: str, words: str) -> Section:
    section = Section(words)
    for name, head, what, log in COLUMNS:
        given = []
        for model in models:
            seeds = layers_of(model, moment)
            stacks = list(dict.fromkeys(layer["stack"] for layer in seeds[0])) if seeds else []
            for stack in stacks:
                curves = [[layer[name] for layer in seed if layer["stack"] == stack] for seed in seeds]
                if any(value is None for curve in curves for value in curve):
                    continue
                label = model["name"] + (f", {stack}" if len(stacks) > 1 else "")
                given.append(Line(label, range(1, len(curves[0]) + 1), curves))
        # Two pictures of a page never share ids: the title, of which they are made, names the moment.
        section.draw(lines(given, ("Layer", head), f"{words}: {what}", log_y=log), f"{what}.")
    return section


def _training(data: dict[str, Any]) -> Section:
    section, given = Section("Training loss"), []
    for model in data["models"]:
        curves = [seed["losses"] for seed in model["seeds"] if seed["losses"]]
        if not curves:
            continue
        longest = max(map(len, curves))
        curves = [[*curve, *[math.nan] * (longest - len(curve))] for curve in curves]
        given.append(Line(model["name"], range(1, longest + 1), curves))
    if not given:
        return section
    unigram = data["models"][0]["seeds"][0]["unigram"]
    chart = lines(given, ("Step", "Nats per target"), "Training loss of every model, mean and band over seeds")
    section.draw(
        chart,
        f"Training loss. The unigram entropy is {unigram:.3f} nats. Spikes: {data['rules']['spikes']}. "
        f"Failure: {data['rules']['failure']}.",
    )
    rows = [_run_row(model["name"], seed) for model in data["models"] for seed in model["seeds"]]
    section.folded.append(
        ("Every run", Table(["Model", "Seed", "Steps", "Last loss", "Spikes at step", "Failed"], rows))
    )
    return section


def _run_row(name: str, seed: dict[str, Any]) -> list[str]:
    last = f"{seed['losses'][-1]:.3f}" if seed["losses"] else "–"
    peaks = ", ".join(str(spike["start"] + 1) for spike in seed["spikes"]) or "none"
    return [name, str(seed["seed"]), str(len(seed["losses"])), last, peaks, seed["failed"] or "no"]


def _tables(models: Sequence[dict[str, Any]], moment: str) -> Section:
    section = Section("All numbers")
    section.said.append(f"Means over seeds, {'before' if moment == 'start' else 'after'} training.")
    for model in models:
        rows = [
            [f"{row['stack']} {row['layer']}", *("–" if row[c] is None else scientific(row[c]) for c, *_ in COLUMNS)]
            for row in layer_means(model, moment)
        ]
        section.folded.append((f"{model['name']}: by layer", Table(["Layer", *(h for _, h, *_ in COLUMNS)], rows)))
        held = [seed["at"][moment]["matrices"] for seed in model["seeds"] if moment in seed["at"]]
        if held and len(held[0]) <= 400:
            rows = [
                [place[0]["name"], *(scientific(sum(m[f] for m in place) / len(place)) for f in MATRIX)]
                for place in zip(*held, strict=True)
            ]
            heads = ["Parameter", "|mean grad|", "mean |grad|", "RMS of weights"]
            section.folded.append((f"{model['name']}: by matrix", Table(heads, rows)))
    return section


MATRIX = ("gradient", "gradient_of_examples", "weight")
