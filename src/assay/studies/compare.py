"""`assay.compare`: a study from its description to its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.errors import UserError
from assay.runs import RunFolder, StudyFolder
from assay.spec.study import RunSpec, StudySpec, Value
from assay.studies.crews import together as choice
from assay.studies.places import open_place
from assay.studies.runner import RETRIES, Outcome, Progress, in_turns, run_all

if TYPE_CHECKING:
    import polars

    from assay.training.text import Text

__all__ = ["Study", "compare", "describe", "prepare"]


class Study:
    """A study in its folder.

    Attributes:
        folder: its `StudyFolder`.
        outcomes: how each run ended in the comparison that made this object; empty for a folder opened later.
    """

    def __init__(self, folder: StudyFolder | str | Path, outcomes: Sequence[Outcome] = ()) -> None:
        """Args: folder: of a study that has run. Nothing is read yet."""
        self.folder = folder if isinstance(folder, StudyFolder) else StudyFolder.open(folder)
        self.outcomes = list(outcomes)

    @property
    def spec(self) -> StudySpec:
        """What study.toml says."""
        return StudySpec.from_toml(self.folder.study_toml + "\n")

    @property
    def runs(self) -> list[RunFolder]:
        """The folders of this study's runs that have begun, in the study's order."""
        folders = [self.folder.run(run.hash) for run in self.spec.runs()]
        return [folder for folder in folders if (folder.path / "run.json").is_file()]

    @property
    def report(self) -> Path:
        """The path of report.html."""
        return self.folder.report

    @property
    def results(self) -> dict[str, Any]:
        """The data of results.json: a row a combination, and their differences."""
        found: dict[str, Any] = self.folder.results
        return found

    @property
    def failures(self) -> list[Outcome]:
        """Runs that failed."""
        return [outcome for outcome in self.outcomes if outcome.status == "failed"]

    def table(self) -> polars.DataFrame:
        """One row a combination: its labels, bits per byte with interval, speed, memory, parameters."""
        import polars as pl

        rows = []
        for row in self.results["rows"]:
            bits = row["bits_per_byte"] or {}
            plain = ("supervised_tokens_per_flop", "tokens_per_second", "peak_bytes", "total_parameters", "flops")
            rows.append(
                {
                    **row["labels"],
                    "seeds": row["n"],
                    "bits_per_byte": bits.get("mean"),
                    "low": bits.get("low"),
                    "high": bits.get("high"),
                    **{name: row[name] for name in plain},
                    "failures": len(row["failures"]),
                }
            )
        return pl.DataFrame(rows, infer_schema_length=None)

    def __repr__(self) -> str:
        """The folder and how far it is."""
        return f"Study({str(self.folder.path)!r}, {len(self.folder.done())} runs done)"


def describe(
    study: StudySpec | Mapping[str, Any] | str | Path | None = None,
    *,
    data: str | Path | None = None,
    vary: Mapping[str, Sequence[Value]] | Sequence[str] | None = None,
    seeds: int | None = None,
    budget: float | None = None,
    **train: Any,
) -> StudySpec:
    """A study from a description and changes to it.

    Args:
        study: a `StudySpec`, its fields, or a SOURCE: a study's file or folder, or a
            model, which the default axes vary. None: the default study of three families.
        data: text to train on instead.
        vary: axes that replace the description's: a mapping, or texts such as "norm=layer,rms".
        seeds: runs of each combination.
        budget: training FLOPs of each run.
        **train: training fields, dotted where they lie deeper.

    Raises:
        UserError: anything of it is wrong.
    """
    from assay.studies.vary import parse_vary

    if study is None:
        spec = StudySpec()
    elif isinstance(study, StudySpec):
        spec = study
    elif isinstance(study, Mapping):
        spec = StudySpec.from_dict(dict(study))
    else:
        from assay.published.source import resolve_study

        spec = resolve_study(study)
    fields = spec.to_dict()
    if data is not None:
        fields["data"] = {**fields.get("data", {}), "source": str(data)}
    if vary is not None:
        given = dict(vary) if isinstance(vary, Mapping) else parse_vary([vary] if isinstance(vary, str) else vary)
        fields["vary"] = {axis: list(values) for axis, values in given.items()}
    if seeds is not None:
        fields["seeds"] = seeds
    if budget is not None:
        train["budget"] = budget
    if train:
        base = spec.train.to_dict()
        for name in ("budget", "steps"):
            if train.get(name) is not None:  # one of the two replaces the other
                base = {k: v for k, v in base.items() if k not in ("budget", "steps")} | {name: train.pop(name)}
        fields["train"] = type(spec.train).from_dict(base).with_(**train).to_dict()
    return StudySpec.from_dict(fields, source="study")


def prepare(runs: Sequence[RunSpec], study: StudyFolder | None = None) -> dict[str, Text]:
    """Read and tokenise the data of all runs once, and refuse what cannot work before anything starts.

    Args:
        runs: of the study.
        study: where they will be recorded: runs on another text are refused.

    Returns:
        Texts by the JSON of their description.

    Raises:
        UserError: data, an objective, a length or a budget does not work, with the combination.
    """
    from assay.training.accounting import FlopMeter
    from assay.training.setup import check, curve_windows, first_count, make_loader, refuse_uncontinued
    from assay.training.text import load_text, resolve

    texts: dict[str, Text] = {}
    for run in runs:
        key = run.data.model_dump_json()
        if key not in texts:
            texts[key] = load_text(run.data)
        text = texts[key]
        if study is not None:
            _same_text(study.run(run.hash), text)
        if run.seed:
            continue
        whole = resolve(run)
        try:
            refuse_uncontinued(whole)
            first = first_count(make_loader(whole, text), FlopMeter(whole.model))
            check(whole, text, curve_windows(text), first)
        except UserError as error:
            where = ", ".join(f"{axis} = {value}" for axis, value in run.labels.items())
            raise UserError(f"The combination {where} cannot run. {error}" if where else str(error)) from None
    return texts


def _same_text(folder: RunFolder, text: Text) -> None:
    if not (folder.path / "run.json").is_file():
        return
    there = folder.read_json("run.json").get("data", {})
    if there.get("hash") != text.facts["hash"]:
        raise UserError(
            f"{folder.path}: was made on another text; {text.facts['source']} has changed since.",
            "Give another --out folder, or delete this one.",
        )


def compare(
    study: StudySpec | Mapping[str, Any] | str | Path | None = None,
    *,
    out: str | Path,
    data: str | Path | None = None,
    vary: Mapping[str, Sequence[Value]] | Sequence[str] | None = None,
    seeds: int | None = None,
    budget: float | None = None,
    resume: bool = False,
    workers: int | None = None,
    on: str | None = None,
    retries: int = RETRIES,
    together: str = "auto",
    progress: Progress | None = None,
    command: str | None = None,
    **train: Any,
) -> Study:
    """Train models that differ along stated axes at equal compute, and compare them.

    `assay.compare(vary=["norm=layer,rms"], data="my_texts/", budget=1e12, out="norms").table()`

    Runs are found by their content: those that are finished in `out` are not done again, unfinished ones go on.

    Args:
        study: what is compared; see `describe`. None: three families; with `resume`: what `out` holds.
        out: the study's folder.
        data, vary, seeds, budget, **train: changes to the study; see `describe`.
        resume: go on with the study in `out`.
        workers: parallel workers; None: as many as cores.
        on: where they run; None: this machine; "ray", "ray://HOST:PORT": see `studies.places.open_place`.
        retries: times that a run whose worker died is tried again.
        together: "auto", "never" or "always": whether runs of one model that differ in seed or rates are trained as
            one batched model; see `studies.crews`.
        progress: called with events; see `studies.runner.Progress`.
        command: recorded as what does this again; None: this process's own.

    Returns:
        The study, its results and report written. Look at `.failures`: failed runs do not raise.

    Raises:
        UserError: something given is wrong, no run finished, the disk is full, or a cluster is gone.
        KeyboardInterrupt: on Ctrl-C, after checkpoints, with how to go on.
    """
    from assay.report.compare import write_report
    from assay.report.rows import write_results
    from assay.runs import command_line

    folder, crews = StudyFolder(out), choice(together)
    if resume and study is None:
        if not (folder.path / "study.toml").is_file():
            raise UserError(
                f"{folder.path}: there is no study to resume (no study.toml).", "Start one without --resume."
            )
        study = folder.path / "study.toml"
    spec = describe(study, data=data, vary=vary, seeds=seeds, budget=budget, **train)
    runs = in_turns(spec.runs())
    command = command or command_line()
    with open_place(on, workers=workers) as place:
        prepare(runs, folder)
        folder.write_study(spec.to_toml())
        outcomes = run_all(
            runs, folder, workers=workers, retries=retries, place=place, together=crews, progress=progress,
            command=command,
        )  # fmt: skip
    write_results(folder.path)
    write_report(folder.path)
    return Study(folder, outcomes)
