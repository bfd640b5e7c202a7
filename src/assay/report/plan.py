"""The page of `assay plan`, and the rows that it shares with the terminal and with `docs/scale.md`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from assay.errors import UserError
from assay.report.cost import assumption_rows, span
from assay.report.format import DASH, count, memory, signed, significant
from assay.report.instrument import Section, Table, write_page
from assay.report.lines import Line, lines
from assay.runs import read_json

__all__ = [
    "DATA", "FILE", "check_rows", "limit_rows", "markdown", "memory_rows", "message_rows", "option_rows", "said",
    "sweep_rows", "time_rows", "write_plan",
]  # fmt: skip

DATA, FILE = "plan.json", "report.html"
Row = list[str]

MEMORY = {
    "weights": "",
    "gradients": "",
    "optimizer": "Adam's two moments",
    "activations": "kept for the backward pass",
    "buffers": "gathered weights, gradients on their way",
}
TIME = {
    "products": "forward once, backward twice",
    "recomputation": "under checkpointing, a forward pass more",
    "elements": "norms, activations, sums: bound by memory",
    "data_traffic": "weights and gradients, beyond what compute hides",
    "tensor_traffic": "activations, hidden by nothing",
    "idle": "of a pipeline",
    "optimizer": "",
}
SPENT = {
    "products": ("products",),
    "computed again": ("recomputation",),
    "norms, activations": ("elements", "optimizer"),
    "traffic": ("data_traffic", "tensor_traffic"),
    "waiting": ("idle",),
}
SWEPT = ["GPUs", "layout", "batch", "step", "tokens/s", "of a GPU", "MFU", "memory", "traffic", "a failure every"]
CHECKED = ["run", "GPUs", "layout", "published", "plan", "off by", "MFU published", "MFU planned"]


def share(value: float) -> str:
    """A share as a percentage."""
    return f"{100 * value:.1f}%"


def said(layout: dict[str, Any]) -> str:
    """A layout in words that tell it from another."""
    parts = []
    if layout["shard"] > 1:
        parts.append(f"shard {layout['shard']}" + ("" if layout["full"] else " (optimizer alone)"))
    parts += [f"{name} {layout[name]}" for name in ("tensor", "pipeline") if layout[name] > 1]
    if layout["replicate"] > 1:
        parts.append(f"x {layout['replicate']} copies")
    parts.append(f"micro-batch {layout['micro']}" + (", checkpointing" if layout["checkpointing"] else ""))
    return ", ".join(parts)


def memory_rows(plan: dict[str, Any]) -> list[Row]:
    """Memory of the fullest rank: name, value, remark."""
    found, room = plan["chosen"]["memory"], plan["room"]
    rows = [[name, memory(found[name]), remark] for name, remark in MEMORY.items()]
    return [*rows, ["all", memory(found["total"]), f"of {memory(room)} that may be filled"]]


def time_rows(plan: dict[str, Any]) -> list[Row]:
    """Time of a step: name, value with its share, remark."""
    found = plan["chosen"]["time"]
    rows = [
        [name.replace("_", " "), f"{span(found[name])}, {share(found[name] / found['total'])}", remark]
        for name, remark in TIME.items()
        if found[name] > 0
    ]
    chosen = plan["chosen"]
    rows.append(["step", span(found["total"]), f"{plan['sequences']:,} sequences of {plan['length']:,} tokens"])
    each = chosen["tokens_per_second"] / plan["gpus"]
    rows.append(["speed", f"{count(chosen['tokens_per_second'])} tokens/s", f"{significant(each)} on a GPU"])
    rows.append(["MFU", share(chosen["mfu"]), f"with recomputation {share(chosen['hfu'])}"])
    if plan["seconds"] is not None:
        useful = plan["reliability"]["useful"]
        remark = f"{span(plan['seconds'] / useful)} with interruptions"
        rows.append(["training", span(plan["seconds"]), f"of {count(plan['tokens'])} tokens; {remark}"])
    return rows


def message_rows(plan: dict[str, Any]) -> list[Row]:
    """Collectives of a step: what, over whom, how many of which size, time of each."""
    return [
        [f"{one['kind']} of {one['of']}", f"{one['ranks']:,} {one['over']} ranks", f"{one['count']:,}",
         memory(one["size"]), span(one["seconds"])]
        for one in plan["collectives"]
    ]  # fmt: skip


def option_rows(plan: dict[str, Any]) -> list[Row]:
    """The best layout of each kind: kind, layout, step, MFU, memory, remark."""
    rows, best = [], plan["chosen"]
    for one in plan["options"]:
        remark = "chosen" if one["layout"] == best["layout"] else "" if one["trainable"] else "modelled only"
        if not one["fits"]:
            remark = "does not fit"
        rows.append(
            [one["kind"], said(one["layout"]), span(one["time"]["total"]), share(one["mfu"]),
             memory(one["memory"]["total"]), remark]
        )  # fmt: skip
    return rows


def limit_rows(plan: dict[str, Any]) -> list[Row]:
    """Batch and failures: name, value, remark."""
    found = plan["reliability"]
    return [
        ["batch", f"{count(plan['batch_tokens'])} tokens", f"critical about {count(plan['critical_batch'])}"],
        ["between failures", span(3600 * found["hours_between"]), "of any GPU"],
        ["checkpoints", f"every {span(found['interval_seconds'])}", f"each {span(found['checkpoint_seconds'])} long"],
        ["useful time", share(found["useful"]), "checkpoints, repeated steps and restarts taken off"],
    ]


def sweep_rows(points: Sequence[dict[str, Any]]) -> list[Row]:
    """One row a number of GPUs; what does not work says why."""
    rows = []
    for point in points:
        if "refused" in point:
            short = point["refused"].partition(": the smallest")[0]
            rows.append([f"{point['gpus']:,}", short, *[DASH] * (len(SWEPT) - 2)])
            continue
        chosen = point["chosen"]
        speed, time = chosen["tokens_per_second"], chosen["time"]
        traffic = (time["data_traffic"] + time["tensor_traffic"] + time["idle"]) / time["total"]
        rows.append(
            [f"{point['gpus']:,}", said(chosen["layout"]), f"{count(point['batch_tokens'])}", span(time["total"]),
             count(speed), significant(speed / point["gpus"]), share(chosen["mfu"]), memory(chosen["memory"]["total"]),
             share(traffic), _failures(point["reliability"])]
        )  # fmt: skip
    return rows


def _failures(found: dict[str, float]) -> str:
    """How often a GPU fails, and the share of the time that is kept all the same."""
    return f"{span(3600 * found['hours_between'])}; {share(found['useful'])} kept"


def check_rows(rows: Sequence[dict[str, Any]]) -> list[Row]:
    """Published runs beside their estimates."""
    return [
        [row["model"], f"{row['gpus']:,} {row['machine']}", said(row["layout"]), f"{row['published']:.4g}",
         f"{row['estimate']:.4g}", f"{signed(100 * row['deviation'], 0)}%", share(row["published_mfu"]),
         share(row["mfu"])]
        for row in rows
    ]  # fmt: skip


def markdown(heads: Sequence[str], rows: Sequence[Row]) -> str:
    """A table as Markdown."""
    lines_ = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines_)


def write_plan(folder: str | Path) -> Path:
    """Write `report.html` beside `plan.json`, from it alone; its path.

    Raises:
        UserError: there is no such file, or the disk is full.
    """
    folder = Path(folder)
    held = read_json(folder / DATA)
    if not isinstance(held, dict) or held.get("kind") != "plan":
        raise UserError(f"{folder / DATA}: holds no plan of assay plan.")
    points = held["points"]
    good = [point for point in points if "refused" not in point]
    first = good[0]
    sections = [_swept(points)] if len(points) > 1 else _single(first)
    sections.append(
        Section("What is assumed", tables=[Table(["Assumption", "Value", "Source"], assumption_rows(first))])
    )
    write_page(
        folder / FILE,
        title=f"Plan for {first['model']}",
        kicker=f"assay plan · {held['provenance']['time'][:10]}",
        finding=[_finding(good)],
        said=first["notes"],
        sections=sections,
        provenance=held["provenance"],
        settings={
            "hardware of the plan": first["hardware"], "parameters": count(first["parameters"]),
            "tokens of a sequence": first["length"], "type": first["dtype"], "gradients": first["reduce_dtype"],
        },
        source=DATA,
    )  # fmt: skip
    return folder / FILE


def _finding(good: Sequence[dict[str, Any]]) -> str:
    first, last = good[0], good[-1]
    speed = last["chosen"]["tokens_per_second"]
    if len(good) == 1:
        return (
            f"{last['gpus']:,} x {last['hardware']} train {last['model']} at {count(speed)} tokens a second, "
            f"{share(last['chosen']['mfu'])} of their peak, {last['chosen']['kind']}: {said(last['chosen']['layout'])}."
        )
    ratio = speed / first["chosen"]["tokens_per_second"]
    return (
        f"From {first['gpus']:,} to {last['gpus']:,} x {last['hardware']}, {significant(last['gpus'] / first['gpus'])} "
        f"times as many, training becomes {significant(ratio)} times as fast; utilisation goes from "
        f"{share(first['chosen']['mfu'])} to {share(last['chosen']['mfu'])}."
    )


def _single(plan: dict[str, Any]) -> list[Section]:
    three = ["", "", ""]
    return [
        Section("Why", list(plan["reasons"])),
        Section("A step", tables=[Table(three, time_rows(plan))]),
        Section("Memory of a GPU", tables=[Table(three, memory_rows(plan))]),
        Section(
            "Messages of a step",
            tables=[Table(["What", "Over", "How many", "Size", "Time of each"], message_rows(plan))],
        ),
        Section(
            "What else was possible",
            tables=[Table(["Kind", "Layout", "Step", "MFU", "Memory", ""], option_rows(plan))],
        ),
        Section("Batch and failures", tables=[Table(three, limit_rows(plan))]),
    ]


def _swept(points: Sequence[dict[str, Any]]) -> Section:
    good = [point for point in points if "refused" not in point]
    section = Section("Against the number of GPUs", tables=[Table(SWEPT, sweep_rows(points))])
    x = [float(point["gpus"]) for point in good]
    speed = [point["chosen"]["tokens_per_second"] for point in good]
    ideal = [speed[0] * n / x[0] for n in x]
    section.draw(
        lines(
            [Line("plan", x, [speed]), Line("in proportion", x, [ideal])], ("GPUs", "Tokens a second"),
            "Tokens a second against GPUs", log_x=True, log_y=True,
        ),
        "Tokens a second of all GPUs, and what they would be if each new GPU helped like the first ones.",
    )  # fmt: skip
    section.draw(
        lines([Line("MFU", x, [[100 * p["chosen"]["mfu"] for p in good]])], ("GPUs", "% of peak"), "MFU", log_x=True),
        "The model's own FLOPs as a share of the GPUs' peak.",
    )
    parts = [
        Line(name, x, [[p["chosen"]["memory"][name] / 1e9 for p in good]])
        for name in ("weights", "optimizer", "activations", "buffers", "total")
    ]
    room = good[0]["room"] / 1e9
    section.draw(
        lines(parts, ("GPUs", "GB of a GPU"), "Memory against GPUs", log_x=True),
        f"Memory of the fullest GPU by part; {room:.3g} GB may be filled. Gradients take as much as weights.",
    )
    spent = [
        Line(
            words, x, [[100 * sum(p["chosen"]["time"][n] for n in names) / p["chosen"]["time"]["total"] for p in good]]
        )
        for words, names in SPENT.items()
    ]
    section.draw(
        lines(spent, ("GPUs", "% of a step"), "Time of a step against GPUs", log_x=True),
        "What a step is spent on.",
    )
    return section
