"""The six pairs of Wang et al. 2022: which family and objective is best zero-shot, and after multitask tuning?

Six pairs are pretrained at equal tokens and again at equal FLOPs, measured zero-shot, tuned on a mixture of tasks, and
measured again; two more runs turn a causal language model into a prefix decoder with masked LM, and back. The
published ranks, at 4.8 and 11 billion parameters, are in `PUBLISHED`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from assay.errors import UserError
from assay.runs import RunFolder, StudyFolder, command_line, read_json, write_json
from assay.spec.study import RunSpec
from assay.stats import mean_interval, paired_difference
from assay.studies.places import open_place
from assay.studies.runner import RETRIES, Job, run_jobs
from assay.studies.six_pairs_spec import BASE, MASKED, Equal, SixPairs
from assay.studies.six_pairs_unit import RESULT, is_complete
from assay.training.accounting import FlopMeter
from assay.training.setup import make_loader
from assay.training.text import Text, load_text, resolve

__all__ = ["FILE", "PUBLISHED", "Unit", "flops_to", "load_study", "plan_units", "six_pairs", "study_file", "summarise"]

FILE = "results.json"
WORKER = "assay.studies.six_pairs_unit"
PUBLISHED = {
    "zero": {"causal:causal_lm": 44.2, "prefix:prefix_lm": 43.5, "encoder_decoder:prefix_lm": 39.9},
    "tuned": "encoder-decoder with masked LM first, prefix decoder with masked LM next",
    "adaptation": {"to causal": 1.6, "to masked": 3.3},
}
"""Wang et al. 2022: EAI averages zero-shot (figure 3); speed-ups of adaptation over training from scratch."""

SAMPLE = 8
"""Batches that the tokens and FLOPs of a step are measured on."""


@dataclass(frozen=True)
class Unit:
    """One run of the study."""

    name: str
    """FAMILY:OBJECTIVE, or "A -> B" for an adaptation."""
    equal: str
    """tokens, flops, or "adaptation"."""
    seed: int
    run: RunSpec
    folder: str
    """Its name among the study's runs."""
    start: str | None = None
    """The folder whose weights it begins from."""


def study_file() -> Path:
    """The study's file that comes with assay: copy it to change it."""
    return Path(__file__).with_name("six_pairs.toml")


def plan_units(study: SixPairs, text: Text) -> tuple[list[Unit], list[Unit]]:
    """The pretrainings, and the adaptations, which need the former's weights.

    Raises:
        UserError: a combination that cannot work, or too few tokens for a step.
    """
    first: list[Unit] = []
    budget = 0.0
    names: dict[tuple[str, int], str] = {}
    per_token = _per_step(study.run(BASE, 0, steps=1), text)
    budget = per_token[1] / per_token[0] * study.tokens
    for equal in study.equal:
        for pair in study.pairs:
            tokens, _ = _per_step(study.run(pair, 0, steps=1), text)
            steps = max(round(study.tokens / tokens), 1)
            for seed in range(study.seeds):
                if equal is Equal.tokens or pair == BASE:  # of causal LM both are the same run
                    run = study.run(pair, seed, steps=steps)
                else:
                    run = study.run(pair, seed, budget=budget)
                first.append(Unit(pair, equal.value, seed, run, run.hash))
                if equal is Equal.tokens:
                    names[pair, seed] = run.hash
    second = []
    if study.adaptation:
        for start, target in ((BASE, MASKED), (MASKED, BASE)):
            tokens, _ = _per_step(study.run(target, 0, steps=1), text)
            steps = max(round(study.adaptation * study.tokens / tokens), 1)
            for seed in range(study.seeds):
                if (start, seed) in names and (target, seed) in names:
                    run = study.run(target, seed, steps=steps)
                    before = names[start, seed]
                    name = f"{start} -> {target}"
                    second.append(Unit(name, "adaptation", seed, run, f"{run.hash}-from-{before}", before))
    return first, second


def _per_step(run: RunSpec, text: Text) -> tuple[float, float]:
    """(tokens, training FLOPs) of a step, mean over the first batches."""
    whole = resolve(run)
    loader, meter = make_loader(whole, text), FlopMeter(whole.model)
    counts = [meter.count(loader.batch(*loader.place(0, step))) for step in range(SAMPLE)]
    return float(np.mean([c.inputs for c in counts])), float(np.mean([c.flops for c in counts]))


def six_pairs(
    study: SixPairs,
    out: str | Path,
    *,
    workers: int | None = None,
    on: str | None = None,
    retries: int = RETRIES,
    progress: Callable[[str, int, int], None] | None = None,
    command: str | None = None,
) -> dict[str, Any]:
    """Run the study, or what is left of it, and write results.json and report.html.

    Args:
        study: what is done.
        out: its folder; finished runs there are not done again.
        workers: processes of one thread each; None: as many as cores.
        on: where they run; None: this machine; "ray", "ray://HOST:PORT": see `studies.places.open_place`.
        retries: times that a run whose worker died is tried again.
        progress: called with what was done, how many runs are done, and how many there are.
        command: recorded as what does this again.

    Returns:
        What results.json holds.

    Raises:
        UserError: something given is wrong.
        KeyboardInterrupt: on Ctrl-C, after checkpoints; the same call goes on from there.
    """
    from assay.report.six_pairs import write_six_pairs

    command = command or command_line()
    with open_place(on, workers=workers, modules=[WORKER]) as place:
        first, second = plan_units(study, load_text(study.data))
        folder = StudyFolder(out)
        folder.path.mkdir(parents=True, exist_ok=True)
        (folder.path / "study.toml").write_text(study.to_toml(), encoding="utf-8")
        settings = {"workers": workers, "retries": retries, "place": place, "command": command}
        failures = _run_all(study, (first, second), folder, progress, **settings)
    result = summarise(study, first, second, folder, failures, command)
    write_json(folder.path / FILE, result)
    write_six_pairs(folder.path)
    return result


def _run_all(
    study: SixPairs,
    waves: tuple[list[Unit], ...],
    folder: StudyFolder,
    progress: Callable[[str, int, int], None] | None,
    **settings: Any,
) -> dict[str, str]:
    """Every unit in worker processes; folder: why it is not done."""
    names = {unit.folder: f"{unit.name}, seed {unit.seed}" for wave in waves for unit in wave}
    done = 0
    failures: dict[str, str] = {}

    def tell(event: dict[str, Any]) -> None:
        nonlocal done
        if event["event"] not in ("finished", "reused", "failed", "retried"):
            return
        done += event["event"] != "retried"
        why = f": {event['reason']}" if "reason" in event else ""
        again = f"; again, {event['attempt']} of {event['of']}" if event["event"] == "retried" else ""
        if progress is not None:
            progress(names[event["run"]] + why + again, done, len(names))

    try:
        for wave in waves:
            units = {unit.folder: unit for unit in wave if unit.start not in failures}
            jobs = [_job(study, unit, folder) for unit in units.values()]
            outcomes = run_jobs(jobs, progress=tell, **settings)
            failures |= {outcome.folder.name: outcome.reason for outcome in outcomes if outcome.status == "failed"}
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"stopped with {done} of {len(names)} runs finished. The same command with --out {folder.path} goes on."
        ) from None
    return failures


def _job(study: SixPairs, unit: Unit, folder: StudyFolder) -> Job:
    start = folder.run(unit.start).path.absolute() if unit.start else None
    return Job(
        unit.run,
        folder.run(unit.folder),
        module=WORKER,
        request={"study": study.model_dump(mode="json"), "start": str(start) if start else None},
        reads=(start,) if start else (),
        finished=partial(is_complete, study=study, begun=start is not None),
    )


def summarise(
    study: SixPairs,
    first: Sequence[Unit],
    second: Sequence[Unit],
    folder: StudyFolder,
    failures: dict[str, str],
    command: str,
) -> dict[str, Any]:
    """All numbers of the study, with intervals over seeds, from run folders alone."""
    from assay.runs import provenance

    done = [unit for unit in first if unit.folder not in failures]
    measured = {unit.folder: _measured(study, folder.run(unit.folder)) for unit in done}
    runs = list(measured.values())
    counted = {stage: beaten(runs, stage, tasks) or list(tasks) for stage, tasks in _stages(study).items()}
    for values in measured.values():
        for stage, tasks in counted.items():
            values[stage] = float(np.mean([values[f"{stage}:{task}"] for task in tasks]))
            values[f"{stage}_chance"] = float(np.mean([values[f"chance:{task}"] for task in tasks]))
    rows = []
    for equal in study.equal:
        for pair in study.pairs:
            units = [u for u in done if u.name == pair and u.equal == equal.value]
            if units:
                rows.append(_row(pair, equal.value, [measured[u.folder] for u in units], units))
    return {
        "schema_version": 1,
        "kind": "six-pairs",
        "name": study.name,
        "rows": rows,
        "counted": counted,
        "ranks": [
            _ranks(rows, equal.value, stage) for equal in study.equal for stage in counted
        ],
        "adaptations": _adaptations(first, second, folder, failures),
        "published": PUBLISHED,
        "failures": [{"run": name, "reason": why} for name, why in failures.items()],
        "settings": {
            **{f"tasks that count, {stage}": ", ".join(tasks) for stage, tasks in counted.items()},
            "tokens": study.tokens, "match": study.match.value, "seeds": study.seeds, "tasks": ", ".join(study.tasks),
            "others": ", ".join(study.others), "items": study.items, "adaptation": study.adaptation,
            "model": f"{study.model.layers} layers of width {study.model.width}", "data": study.data.source,
        },
        "study": study.to_dict(full=True),
        "provenance": provenance(command),
    }  # fmt: skip


def _measured(study: SixPairs, folder: RunFolder) -> dict[str, float]:
    """A run's numbers by name."""
    found, done = read_json(folder.path / RESULT), folder.result
    zero, tuned = found["zero"], found["tuned"]
    values = {
        "bits_per_byte": done["bits_per_byte"], "input_tokens": done["input_tokens"], "flops": done["flops"],
        "supervised_tokens": done["supervised_tokens"], "parameters": done["parameters_total"],
        "tuning_loss": found["tuning"]["loss"],
    }  # fmt: skip
    values |= {f"chance:{row['task']}": row["chance"] for row in zero}
    values |= {f"items:{row['task']}": row["items"] for row in zero}
    unseen = [row for row in tuned if row["task"] in study.others]
    tuned = [row for row in tuned if row["task"] in study.tasks]
    for stage, rows in (("zero", zero), ("tuned", tuned), ("unseen", unseen)):
        values |= {f"{stage}:{row['task']}": row["accuracy"] for row in rows}
        values |= {f"{stage}:{row['task']}:nats": row["nats_per_token"] for row in rows}
    return values


def _stages(study: SixPairs) -> dict[str, tuple[str, ...]]:
    """What is measured when, and on which tasks: before tuning, after it, and on what tuning never saw."""
    made = (*study.tasks, *study.others)
    return {"zero": ("cloze", "continuation", *made), "tuned": study.tasks} | (
        {"unseen": study.others} if study.others else {}
    )


def beaten(runs: Sequence[Mapping[str, float]], stage: str, tasks: Sequence[str]) -> list[str]:
    """The tasks of a stage on which all runs of all pairs together are above chance: those that count.

    A task counts where the 95% interval of the mean over runs lies above chance, and the mean is above what guessing
    reaches on so many items (1.96 standard errors): runs share the items, and so their luck with them. All pairs decide
    together, so that the choice favours none.
    """
    found = []
    for task in tasks if runs else ():
        chance, items = runs[0][f"chance:{task}"], runs[0][f"items:{task}"]
        gap = mean_interval([run[f"{stage}:{task}"] - chance for run in runs])
        luck = 1.96 * math.sqrt(chance * (1 - chance) / items)
        if math.isfinite(gap.low) and gap.low > 0 and gap.estimate > luck:
            found.append(task)
    return found


def _row(pair: str, equal: str, seeds: Sequence[dict[str, float]], units: Sequence[Unit]) -> dict[str, Any]:
    measures = {}
    for name in seeds[0]:
        values = [seed[name] for seed in seeds]
        found = mean_interval(values)
        bounds = [x if math.isfinite(x) else None for x in (found.low, found.high)]
        measures[name] = {
            "value": found.estimate,
            "low": bounds[0],
            "high": bounds[1],
            "n": len(values),
            "by_seed": values,
        }
    return {"pair": pair, "equal": equal, "n": len(seeds), "measures": measures, "runs": [u.folder for u in units]}


def _ranks(rows: Sequence[dict[str, Any]], equal: str, stage: str) -> dict[str, Any]:
    """Pairs from best to worst in mean accuracy, each with its paired difference to the best."""
    here = [row for row in rows if row["equal"] == equal and stage in row["measures"]]
    order = sorted(here, key=lambda row: -row["measures"][stage]["value"])
    told = []
    for row in order:
        a, b = row["measures"][stage]["by_seed"], order[0]["measures"][stage]["by_seed"]
        entry = {"pair": row["pair"], "value": row["measures"][stage]["value"]}
        if row is not order[0] and len(a) == len(b):
            gap = paired_difference(a, b)
            entry |= {"behind": gap.estimate, "low": _finite(gap.low), "high": _finite(gap.high)}
        told.append(entry)
    # The first is ahead of the rest where no interval of a difference reaches 0.
    clear = len(told) > 1 and all(e["high"] is not None and e["high"] < 0 for e in told[1:] if "high" in e)
    return {"equal": equal, "stage": stage, "order": told, "clear": clear and all("high" in e for e in told[1:])}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _adaptations(
    first: Sequence[Unit], second: Sequence[Unit], folder: StudyFolder, failures: dict[str, str]
) -> list[dict[str, Any]]:
    """Curves of adapted runs beside those from scratch, and by how much the former are cheaper."""
    found = []
    for name in dict.fromkeys(unit.name for unit in second):
        target = name.partition(" -> ")[2]
        # Causal LM is measured by what it is for; masked LM by its own held-out loss.
        measure = "bits_per_byte" if target == BASE else "objective_nats"
        entry: dict[str, Any] = {"name": name, "target": target, "measure": measure, "adapted": [], "scratch": []}
        saved = []
        for unit in (u for u in second if u.name == name and u.folder not in failures):
            whole = next(u for u in first if u.name == target and u.equal == Equal.tokens.value and u.seed == unit.seed)
            if whole.folder in failures:
                continue
            adapted, scratch = (_curve(folder.run(u.folder), measure) for u in (unit, whole))
            entry["adapted"].append(adapted)
            entry["scratch"].append(scratch)
            reached = flops_to(adapted, scratch[-1][1])
            saved.append(None if reached is None else scratch[-1][0] / max(reached, 1.0))
        entry["speedup"] = saved
        if saved and all(value is not None for value in saved):
            logs = mean_interval([math.log(value) for value in saved if value is not None])
            entry["mean_speedup"] = {
                "value": math.exp(logs.estimate),
                "low": None if math.isinf(logs.low) else math.exp(logs.low),
                "high": None if math.isinf(logs.high) else math.exp(logs.high),
            }
        found.append(entry)
    return found


def _curve(folder: RunFolder, measure: str) -> list[list[float]]:
    """[FLOPs, loss] of every evaluation."""
    return [[row["flops"], row[measure]] for row in folder.metrics() if row.get("kind") == "eval" and measure in row]


def flops_to(curve: Sequence[Sequence[float]], loss: float) -> float | None:
    """FLOPs at which a curve first comes to a loss, linear between its points; None: it never does."""
    before: Sequence[float] | None = None
    for point in curve:
        if point[1] <= loss:
            if before is None:
                return float(point[0])
            share = (before[1] - loss) / (before[1] - point[1])
            return float(before[0] + share * (point[0] - before[0]))
        before = point
    return None


def load_study(source: str | Path | None) -> SixPairs:
    """A study from its file; None: the one that comes with assay.

    Raises:
        UserError: no such file, or a field is wrong.
    """
    path = Path(source) if source is not None else study_file()
    if path.suffix.lower() != ".toml":
        raise UserError(f"{path}: a study of six pairs is a .toml file.", f"Copy {study_file()} and change it.")
    return SixPairs.from_toml(path)
