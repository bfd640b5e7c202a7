"""The report of a study: one self-contained HTML file, made from its run folders alone."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from assay.report import charts
from assay.report.blocks import blocks_of
from assay.report.findings import axis_findings, compared, failures, headline, held_equal, matching, state
from assay.report.format import count, listed, memory
from assay.report.html import picture, render
from assay.report.masks import masks_of
from assay.report.masks import svg as mask_svg
from assay.report.rows import Row, aggregate, differences, effects, results
from assay.report.study import FINISHED, UNFINISHED, WAITING, Combination, StudyData, load
from assay.runs import StudyFolder, write_text
from assay.spec.parameters import PARTS

__all__ = ["Row", "aggregate", "results", "write_report"]

FILE = "report.html"


def write_report(folder: str | Path) -> Path:
    """Write `report.html` into a study's folder, atomically; its path.

    The page needs no network and no other file. Unfinished and failed runs are named and left out of the numbers.

    Args:
        folder: the study's folder: `study.toml` and `runs/<hash>/...`.

    Raises:
        UserError: there is no study, no finished run, or the disk is full; an earlier report is kept then.
    """
    path = StudyFolder(folder).report
    write_text(path, page(load(folder)))
    return path


def page(data: StudyData) -> str:
    """The report's HTML."""
    rows = aggregate(data)
    pairs, by_axis = differences(rows), effects(rows)
    done = [row for row in rows if row.bits_per_byte]
    best = min(done, key=lambda row: row.bits_per_byte.estimate)  # type: ignore[union-attr]
    names = [row.name for row in done]
    axes = list(data.combinations[0].labels)
    shared = data.spec.name if data.spec and data.spec.name else ""
    plans = _pictures(data, "blocks")
    return render(
        "report.html.j2",
        title=shared or (f"Comparison by {listed(axes)}" if axes else "One model"),
        when=_when(data),
        state=state(data),
        finding=headline(rows, pairs, several=bool(by_axis)),
        axes=axis_findings(by_axis),
        compared=compared(data),
        failures=failures(data),
        unfinished=_unfinished(data),
        held=held_equal(rows, data),
        matching=matching(data),
        rows=rows,
        best=best,
        pairs=pairs,
        by_axis=by_axis,
        colours={name: index % len(charts.PALETTE) + 1 for index, name in enumerate(names)},
        parts=[part for part in PARTS if any(part in row.parameters for row in rows)],
        by_compute=_safe(charts.loss_by_compute(data.finished)),
        final=_safe(charts.final_loss(done)),
        by_position=_safe(charts.loss_by_position(data.finished, _unit(data))),
        curves=_safe(charts.learning_curves(data.finished)),
        masks=_pictures(data, "masks"),
        blocks=plans,
        dual=any("x′" in item["svg"] for item in plans),
        command=_command(data),
        facts=_facts(data),
        runs=[(combination.name, run) for combination in data.combinations for run in combination.runs],
        seeds=", ".join(map(str, sorted({run.seed for run in data.runs}))),
        toml=data.toml.strip(),
        toml_full=data.spec.to_toml(full=True) if data.spec else "",
        unread=[c.name for c in data.combinations if c.model is None],
        models=[(c.name, c.model.to_toml(full=True)) for c in data.combinations if c.model],
        version=_versions(data).get("assay", ""),
    )


def _safe(chart: charts.Chart | None) -> dict[str, Any] | None:
    return {"wide": picture(chart.wide), "narrow": picture(chart.narrow)} if chart else None


def _pictures(data: StudyData, what: str) -> list[dict[str, Any]]:
    """Each distinct picture once, with the combinations that it stands for."""
    found: dict[tuple[str, str], list[Combination]] = {}
    known = [(combination, combination.model) for combination in data.combinations]
    for combination, model in known:
        if model is None:
            continue
        if what == "masks":
            drawn = [(p.title, mask_svg(p.mask, p.queries, p.keys, title=p.title)) for p in masks_of(model)]
        else:
            drawn = [(p.title, p.svg()) for p in blocks_of(model)]
        for item in drawn:
            found.setdefault(item, []).append(combination)
    everyone = [combination for combination, model in known if model]
    return [
        {"title": title, "svg": picture(svg), "names": _who(group, everyone)} for (title, svg), group in found.items()
    ]


def _who(group: list[Combination], everyone: list[Combination]) -> str:
    """The combinations of a group, by what they share where that says it all, else one by one."""
    if len(group) == len(everyone):
        return f"all {len(everyone)} combinations" if len(everyone) > 1 else ""
    axes = list(group[0].labels)
    values = {axis: {combination.labels.get(axis) for combination in group} for axis in axes}
    alike = [c for c in everyone if all(c.labels.get(axis) in values[axis] for axis in axes)]
    if len(axes) < 2 or len(alike) != len(group):
        return "; ".join(combination.name for combination in group)
    said = []
    for axis in axes:
        order = list(dict.fromkeys(c.labels[axis] for c in everyone if c.labels.get(axis) in values[axis]))
        if len(order) < len({c.labels.get(axis) for c in everyone}):
            said.append(f"{axis} {listed(order, 'or')}")
    return ", ".join(said)


def _unfinished(data: StudyData) -> list[str]:
    said = []
    for combination in data.combinations:
        begun = [run for run in combination.runs if run.status == UNFINISHED]
        waiting = [run for run in combination.runs if run.status == WAITING]
        said += [f"{combination.name}, seed {run.seed} stopped at step {run.last_step}" for run in begun]
        if waiting:
            word = "seed" if len(waiting) == 1 else "seeds"
            said.append(f"{combination.name}, {word} {listed([str(run.seed) for run in waiting])} not started")
    return said


def _unit(data: StudyData) -> str:
    rows = data.first.evaluations
    return str(rows[-1].get("position_unit", "tokens")) if rows else "tokens"


def _when(data: StudyData) -> str:
    times = [str(run.run.get("provenance", {}).get("time", "")) for run in data.by_status(FINISHED)]
    return max(times, default="")[:10] or "date unknown"


def _command(data: StudyData) -> str:
    commands = Counter(str(run.run["command"]) for run in data.by_status(FINISHED) if run.run.get("command"))
    return commands.most_common(1)[0][0] if commands else ""


def _versions(data: StudyData) -> dict[str, str]:
    found: dict[str, set[str]] = {}
    for run in data.by_status(FINISHED):
        for name, version in (run.run.get("provenance", {}).get("versions") or {}).items():
            found.setdefault(str(name), set()).add(str(version))
    return {name: " and ".join(sorted(versions)) for name, versions in found.items()}


def _facts(data: StudyData) -> list[tuple[str, str]]:
    """What a reader must know to judge and repeat the numbers."""
    run = data.first.run
    text, provenance = run.get("data") or {}, run.get("provenance") or {}
    facts = [("Data", str(text.get("name") or text.get("source") or "unknown"))]
    if text.get("name") and text.get("source") and text["name"] != text["source"]:
        facts[0] = ("Data", f"{text['name']} (source: {text['source']})")
    sizes = [f"{count(text['documents'])} documents"] if "documents" in text else []
    sizes += [f"{text['bytes']:,} bytes"] if "bytes" in text else []
    sizes += [f"{text['heldout_bytes']:,} of them held out"] if "heldout_bytes" in text else []
    facts += [("Size", ", ".join(sizes))] if sizes else []
    facts += [("Data hash", str(text["hash"]))] if "hash" in text else []
    tokenizer = [str(text["tokenizer"])] if "tokenizer" in text else []
    tokenizer += [f"{text['vocab_size']:,} ids"] if "vocab_size" in text else []
    tokenizer += [f"hash {text['tokenizer_hash']}"] if "tokenizer_hash" in text else []
    facts += [("Tokenizer", ", ".join(tokenizer))] if tokenizer else []
    facts += [("Compiled", _compiled(data))]
    facts += [("Versions", ", ".join(f"{name} {version}" for name, version in _versions(data).items()) or "unknown")]
    machines = {
        json.dumps(one.run.get("provenance", {}).get("hardware"), sort_keys=True) for one in data.by_status(FINISHED)
    }
    for index, machine in enumerate(sorted(machines), 1):
        label = "Hardware" if len(machines) == 1 else f"Hardware {index}"
        facts.append((label, _machine(json.loads(machine))))
    if provenance.get("git"):
        facts.append(("Commit", str(provenance["git"])))
    if data.strangers:
        facts.append(("Other runs", f"{data.strangers} in this folder belong to another study and are left out"))
    return facts


def _compiled(data: StudyData) -> str:
    said = Counter()  # type: ignore[var-annotated]
    for run in data.by_status(FINISHED):
        value = run.result.get("compiled")
        said["yes" if value is True else f"no: {value}" if isinstance(value, str) else "no"] += 1
    return "; ".join(said) if len(said) == 1 else "; ".join(f"{words} ({n} runs)" for words, n in said.items())


def _machine(hardware: dict[str, Any] | None) -> str:
    if not hardware:
        return "unknown"
    said = [str(hardware.get("cpu") or "unknown processor")]
    if hardware.get("cores"):
        said.append(f"{hardware['cores']} core{'s' * (hardware['cores'] != 1)}")
    if hardware.get("memory_bytes"):
        said.append(f"{memory(hardware['memory_bytes'])} of memory")
    said.append(", ".join(map(str, hardware.get("accelerators") or [])) or "no accelerator")
    if hardware.get("os"):
        said.append(str(hardware["os"]))
    return ", ".join(said)
