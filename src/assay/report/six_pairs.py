"""The page of the six pairs: zero-shot and tuned accuracy with intervals, ranks, adaptations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from assay.errors import UserError
from assay.report.figure import draw
from assay.report.format import count
from assay.report.instrument import Section, Table, write_page
from assay.report.lines import Line, lines
from assay.runs import read_json

__all__ = ["write_six_pairs"]

STAGES = {"zero": "zero-shot", "tuned": "after tuning", "unseen": "tasks that tuning never saw"}
NAMES = {"causal_lm": "causal LM", "prefix_lm": "prefix LM", "mlm": "masked LM", "encoder_decoder": "encoder-decoder"}


def write_six_pairs(folder: str | Path) -> Path:
    """Write `report.html` beside `results.json`, from it alone; its path.

    Raises:
        UserError: there are no such results.
    """
    folder = Path(folder)
    data = read_json(folder / "results.json")
    if not isinstance(data, dict) or data.get("kind") != "six-pairs":
        raise UserError(f"{folder / 'results.json'}: holds no results of the six pairs.")
    sections = [_by_equal(data, equal) for equal in dict.fromkeys(row["equal"] for row in data["rows"])]
    sections += [_adaptation(entry) for entry in data["adaptations"] if entry["adapted"]]
    path = folder / "report.html"
    write_page(
        path,
        title="Six pairs of family and objective",
        kicker=f"assay six-pairs · {data['provenance']['time'][:10]}",
        finding=[
            *(_rank(rank, _above(data, rank)) for rank in data["ranks"]),
            *(_saved(entry) for entry in data["adaptations"]),
        ],
        said=[
            "Wang et al. 2022 at 4.8 and 11 billion parameters: zero-shot, the causal decoder with causal LM first "
            f"({data['published']['zero']['causal:causal_lm']} on average); tuned, {data['published']['tuned']}.",
            "Accuracy: the likeliest of the choices is right, mean over tasks. Intervals: 95% over seeds.",
        ],
        sections=sections,
        warnings=[f"{failure['run']}: {failure['reason']}" for failure in data["failures"]],
        provenance=data["provenance"],
        settings=data["settings"],
        source="results.json",
    )
    return path


def pair_name(pair: str) -> str:
    """ "encoder_decoder:mlm" as people write it."""
    return ", ".join(NAMES.get(part, part) for part in pair.split(":"))


def _cell(found: dict[str, Any] | None, digits: int = 3) -> str:
    if found is None:
        return ""
    text = f"{found['value']:.{digits}f}"
    if found.get("low") is not None and found.get("high") is not None:
        text += f" [{found['low']:.{digits}f}, {found['high']:.{digits}f}]"
    return text


def _by_equal(data: dict[str, Any], equal: str) -> Section:
    rows = [row for row in data["rows"] if row["equal"] == equal]
    section = Section(f"At equal {'tokens' if equal == 'tokens' else 'FLOPs'}")
    points = [
        {"series": STAGES[stage], "x": pair_name(row["pair"]), "y": found["value"]}
        | {end: found[end] for end in ("low", "high") if found[end] is not None}
        for stage in data["counted"]
        for row in rows
        if (found := row["measures"].get(stage))
    ]
    shown = {"title": section.title, "rows": points, "x": "pair", "y": "accuracy", "kind": "points"}
    section.draw(draw(shown, f"accuracy-{equal}"), "Accuracy with 95% intervals over seeds.")
    table = [
        [
            pair_name(row["pair"]),
            *(_cell(row["measures"].get(name)) for name in ("zero", "tuned", "unseen", "bits_per_byte")),
            *(count(row["measures"][name]["value"]) for name in ("input_tokens", "supervised_tokens", "flops")),
            count(row["measures"]["parameters"]["value"]),
        ]
        for row in rows
    ]
    heads = ["Pair", "Zero-shot", "Tuned", "Unseen tasks", "Bits per byte", "Tokens", "Targets", "FLOPs", "Parameters"]
    counted = "; ".join(
        f"{STAGES[stage]}: {', '.join(tasks)} (chance {rows[0]['measures'][f'{stage}_chance']['value']:.3f})"
        for stage, tasks in data["counted"].items()
    )
    section.tables.append(
        Table(
            heads,
            table,
            f"Means over the tasks on which all runs together are above chance, or all where there is none: {counted}.",
        )
    )
    for stage in data["counted"]:
        tasks = [n.split(":")[1] for n in rows[0]["measures"] if n.startswith(f"{stage}:") and not n.endswith(":nats")]
        for what, end in (("accuracy", ""), ("nats a token", ":nats")):
            cells = [
                [pair_name(row["pair"]), *(_cell(row["measures"].get(f"{stage}:{t}{end}")) for t in tasks)]
                for row in rows
            ]
            section.folded.append((f"By task, {STAGES[stage]}, {what}", Table(["Pair", *tasks], cells)))
    return section


def _above(data: dict[str, Any], rank: dict[str, Any]) -> int:
    """Pairs whose interval over seeds lies above chance: among others, ranks mean nothing."""
    count = 0
    for row in data["rows"]:
        found = row["measures"].get(rank["stage"])
        if row["equal"] == rank["equal"] and found and found["low"] is not None:
            count += found["low"] > row["measures"][f"{rank['stage']}_chance"]["value"]
    return count


def _rank(rank: dict[str, Any], above: int) -> str:
    order = rank["order"]
    if not order:
        return f"Equal {rank['equal']}, {STAGES[rank['stage']]}: no run finished."
    if not above:
        return (
            f"Equal {rank['equal']}, {STAGES[rank['stage']]}: no pair is above chance beyond its interval, so there is "
            "no rank."
        )
    best = f"{pair_name(order[0]['pair'])} {order[0]['value']:.3f}"
    if rank["clear"]:
        verdict = "ahead of all others"
    else:
        near = [pair_name(e["pair"]) for e in order[1:] if e.get("high") is None or e["high"] >= 0]
        verdict = f"not told apart from {len(near)} of {len(order) - 1} others" if near else "alone"
    return f"Equal {rank['equal']}, {STAGES[rank['stage']]}: {best}, {verdict}."


def _saved(entry: dict[str, Any]) -> str:
    start, _, target = entry["name"].partition(" -> ")
    what = f"From {pair_name(start)} to {pair_name(target)}"
    mean = entry.get("mean_speedup")
    if mean is None:
        reached = sum(value is not None for value in entry["speedup"])
        return f"{what}: {reached} of {len(entry['speedup'])} seeds reach the loss from scratch within the budget."
    return f"{what}: {_cell(mean, 1)} times cheaper than from scratch, in pretraining FLOPs of the second objective."


def _adaptation(entry: dict[str, Any]) -> Section:
    start, _, target = entry["name"].partition(" -> ")
    section = Section(f"From {pair_name(start)} to {pair_name(target)}")
    unit = "bits per byte" if entry["measure"] == "bits_per_byte" else "nats a target"
    given = []
    for name, key in (("adapted", "adapted"), ("from scratch", "scratch")):
        curves = entry[key]
        length = min(map(len, curves))
        x = [sum(curve[i][0] for curve in curves) / len(curves) for i in range(length)]
        given.append(Line(name, x, [[point[1] for point in curve[:length]] for curve in curves]))
    section.draw(
        lines(given, ("Training FLOPs of this objective", f"Held-out {unit}"), f"Held-out {unit} against FLOPs"),
        "The adapted run begins from the other pair's weights; its FLOPs count from there.",
    )
    return section
