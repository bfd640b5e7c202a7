"""Pages of `assay eval`, `assay tune` and label-efficiency curves: tables, reliability, curves with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from assay.errors import UserError
from assay.report.instrument import Section, Table, write_page
from assay.report.lines import Line, lines
from assay.runs import read_json

__all__ = ["EVALUATION", "FILE", "LABELS", "TUNING", "write_evaluation", "write_labels", "write_tuning"]

EVALUATION, TUNING, LABELS, FILE = "eval.json", "tune.json", "labels.json", "report.html"
SHOWN = {
    "accuracy": "Accuracy",
    "accuracy_by_byte": "by byte",
    "macro_f1": "Macro F1",
    "exact_match": "Exact match",
    "edit_similarity": "Edit similarity",
    "nats_per_token": "Nats a token",
    "ece": "ECE",
}
"""Measures in the order of their columns."""


def value(found: dict[str, Any] | None) -> str:
    """A measure with its interval: "0.812 [0.771, 0.846]"."""
    if not found:
        return ""
    text = f"{found['value']:.3f}"
    if found.get("low") is not None and found.get("high") is not None:
        text += f" [{found['low']:.3f}, {found['high']:.3f}]"
    return text


def task_sections(rows: Sequence[dict[str, Any]]) -> list[Section]:
    """Results by task, by group, and reliability diagrams, of rows of `evaluation.evaluate`."""
    present = [name for name in SHOWN if any(name in row for row in rows)]
    section = Section("Results")
    section.tables.append(
        Table(
            ["Task", "Items", "Chance", *(SHOWN[name] for name in present)],
            [
                [row["task"], str(row["items"]), "" if row["chance"] is None else f"{row['chance']:.3f}"]
                + [value(row.get(name)) for name in present]
                for row in rows
            ],
            "95% intervals over items: Wilson's for shares, bootstrap for the rest.",
        )
    )
    grouped = [(row, group) for row in rows for group in row["groups"]]
    if grouped:
        names = [name for name in present if any(name in group for _, group in grouped)]
        table = [
            [f"{row['task']}, {group['group']}", str(group["items"]), *(value(group.get(name)) for name in names)]
            for row, group in grouped
        ]
        section.folded.append(("By group", Table(["Group", "Items", *(SHOWN[name] for name in names)], table)))
    for row in rows:
        if row.get("f1"):
            table = [[name, f"{share:.3f}"] for name, share in row["f1"].items()]
            section.folded.append((f"F1 by class, {row['task']}", Table(["Class", "F1"], table)))
    sections = [section]
    calibrated = [row for row in rows if len(row.get("reliability") or []) > 1]
    if calibrated:
        drawn = Section("Calibration")
        given = [
            Line(r["task"], [b["confidence"] for b in r["reliability"]], [[b["accuracy"] for b in r["reliability"]]])
            for r in calibrated[:7]
        ]
        given.append(Line("calibrated", [0.0, 1.0], [[0.0, 1.0]]))
        axes = ("Mean confidence of a bin", "Share that is right")
        drawn.draw(
            lines(given, axes, "Share of right answers against confidence, in bins of equal width"),
            "Answers given with a confidence should be right that often (the straight line). Confidence: the "
            "probability of the chosen answer among the choices.",
        )
        sections.append(drawn)
    return sections


def write_evaluation(folder: str | Path) -> Path:
    """Write `report.html` beside `eval.json`, from it alone; its path."""
    data = _data(folder, EVALUATION, "eval")
    rows = data["tasks"]
    sections = task_sections(rows) if rows else []
    if data.get("harness"):
        section, table = Section("lm-evaluation-harness"), []
        for task, found in data["harness"]["results"].items():
            for name, number in found.items():
                error = found.get(name.replace(",", "_stderr,", 1))
                if isinstance(number, int | float) and "stderr" not in name:
                    shown = f"{number:.4f}" + (f" ± {error:.4f}" if isinstance(error, int | float) else "")
                    table.append([task, name.partition(",")[0], shown])
        section.tables.append(Table(["Task", "Measure", "Value ± standard error"], table))
        sections.append(section)
    told = [_finding(row) for row in rows[:6]]
    return _page(folder, data, "Evaluation", told or ["Tasks of lm-evaluation-harness."], sections, EVALUATION)


def _finding(row: dict[str, Any]) -> str:
    main = "accuracy" if "accuracy" in row else "exact_match" if "exact_match" in row else "nats_per_token"
    chance = "" if row["chance"] is None else f", chance {row['chance']:.2f}"
    return f"{row['task']}: {SHOWN[main].lower()} {value(row[main])}{chance}."


def write_tuning(folder: str | Path) -> Path:
    """Write `report.html` beside `tune.json`, from it alone; its path."""
    data = _data(folder, TUNING, "tune")
    history, tuned = data["history"], data["tuned"]
    section = Section("Loss")
    trained = [row for row in history if row["kind"] == "train"]
    held = [row for row in history if row["kind"] == "eval"]
    given = [
        Line("training batch", [r["step"] for r in trained], [[r["loss"] for r in trained]]),
        Line("held out", [r["step"] for r in held], [[r["loss"] for r in held]]),
    ]
    section.draw(
        lines([line for line in given if line.x], ("Step", "Nats an answer token"), "Loss against steps"),
        f"Loss on answers alone. The weights of step {tuned['best_step']} are kept; it ended by {tuned['stopped']}.",
    )
    sections = [section, *task_sections(data["tasks"])]
    before = data.get("before") or []
    if before:
        rows = [[row["task"], value(row.get("accuracy")), value(row.get("nats_per_token"))] for row in before]
        sections[1].folded.append(("Before tuning", Table(["Task", "Accuracy", "Nats a token"], rows)))
    return _page(folder, data, "Tuning", [_finding(row) for row in data["tasks"]], sections, TUNING)


def write_labels(folder: str | Path) -> Path:
    """Write `report.html` beside `labels.json`, from it alone; its path."""
    data = _data(folder, LABELS, "labels")
    arms = list(dict.fromkeys(point["arm"] for point in data["points"]))
    sections = []
    for measure, name in (("accuracy", "Accuracy"), ("macro_f1", "Macro F1"), ("ece", "Calibration error (ECE)")):
        section = Section(name)
        given = []
        for arm in arms:
            counts = [p["labels"] for p in data["points"] if p["arm"] == arm]
            by_seed: dict[int, dict[int, float]] = {}
            for run in data["runs"]:
                if run["arm"] == arm:
                    by_seed.setdefault(run["seed"], {})[run["labels"]] = run[measure]
            curves = [[seed.get(count, float("nan")) for count in counts] for seed in by_seed.values()]
            given.append(Line(arm, counts, curves))
        axes = ("Labels", name)
        drawn = lines(given, axes, f"{name} against the number of labels, by the weights at the start", log_x=True)
        rule = f" {data['rule']}" if measure == "accuracy" else ""
        section.draw(drawn, f"Mean over seeds, 95% bands (Student t) from three seeds on.{rule}")
        points = [[p["arm"], str(p["labels"]), str(p["n"]), value(p[measure])] for p in data["points"]]
        section.tables.append(Table(["Weights", "Labels", "Seeds", name], points))
        sections.append(section)
    differences = [[str(d["labels"]), value(d)] for d in data["differences"]]
    if differences:
        sections[0].tables.append(Table(["Labels", "Pretrained minus fresh, paired by seed"], differences))
    saved = [
        [str(s["labels"]), f"{s['accuracy']:.3f}", "more than were tried" if s["beyond"] else
         "fewer than were tried" if s["scratch_needs"] is None else f"{s['scratch_needs']:.0f}"]
        for s in data["saved"]
    ]  # fmt: skip
    if saved:
        sections[0].tables.append(Table(["Labels", "Accuracy, pretrained", "Labels that fresh weights need"], saved))
    told = [
        f"{d['labels']} labels: pretrained minus fresh weights {d['value']:+.3f}"
        + (f" [{d['low']:+.3f}, {d['high']:+.3f}]." if d["low"] is not None else " (one seed: no interval).")
        for d in data["differences"]
    ]
    return _page(folder, data, "Label efficiency", told or ["One kind of weights alone was tried."], sections, LABELS)


def _data(folder: str | Path, file: str, kind: str) -> dict[str, Any]:
    data = read_json(Path(folder) / file)
    if not isinstance(data, dict) or data.get("kind") != kind:
        raise UserError(f"{Path(folder) / file}: holds no results of assay {kind}.")
    return data


def _page(
    folder: str | Path, data: dict[str, Any], what: str, told: Sequence[str], sections: Sequence[Section], source: str
) -> Path:
    path = Path(folder) / FILE
    write_page(
        path,
        title=f"{what} of {data['name']}",
        kicker=f"assay {'eval' if source == EVALUATION else 'tune'} · {data['provenance']['time'][:10]}",
        finding=told,
        sections=sections,
        warnings=list(data.get("warnings") or [])
        + ([] if data.get("complete", True) else ["It was interrupted: what is shown is what had been measured."]),
        provenance=data["provenance"],
        settings=data["settings"],
        source=source,
    )
    return path
