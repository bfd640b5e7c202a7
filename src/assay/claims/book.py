"""Running claims: all their runs once, wave by wave, then each claim's measuring; what is finished is kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.claims.base import Claim, Experiment, Tier
from assay.claims.catalogue import claim as find
from assay.claims.catalogue import keys as all_keys
from assay.claims.lab import SCRATCH
from assay.claims.page import failed_page, fingerprint, load_page, page_path, save_page, text_page
from assay.claims.plan import all_runs, next_runs
from assay.errors import UserError
from assay.runs import StudyFolder, read_json, write_json
from assay.spec.study import RunSpec
from assay.studies.crews import together as choice
from assay.studies.places import Here, Place, Task, Worker, open_place
from assay.studies.runner import RETRIES, in_turns, run_all, struck_down

__all__ = ["Progress", "book_seconds", "planned", "run_claims"]

Progress = Callable[[dict[str, Any]], None]
"""Called with `studies.runner`'s events while runs are trained, and with

    book        claims: keys to be run; kept: keys that were finished before
    wave        runs: how many are trained now, kept: runs that were done before
    measuring   key
    again       key, attempt, of: its measuring's worker died
    verdict     key, verdict, title, status, reason
"""

POLL = 0.05
BOOK = "book.json"
WORKER = "assay.claims.worker"
TIMED = ("C4",)
"""Claims that look at the time of their runs, which are therefore trained by themselves."""


@dataclass(frozen=True)
class _Entry:
    claim: Claim
    experiments: Mapping[str, Experiment]


@dataclass(frozen=True)
class _Settings:
    """How a call of `run_claims` works."""

    folder: StudyFolder
    tier: Tier
    place: Place
    workers: int | None
    retries: int
    together: str
    tell: Progress
    command: str | None


@dataclass
class _Measuring:
    """A claim whose measuring is on."""

    entry: _Entry
    worker: Worker
    attempts: int


def run_claims(
    wanted: Sequence[str],
    *,
    tier: Tier | str = Tier.quick,
    out: str | Path,
    workers: int | None = None,
    on: str | None = None,
    retries: int = RETRIES,
    together: str = "auto",
    again: bool = False,
    progress: Progress | None = None,
    command: str | None = None,
) -> list[dict[str, Any]]:
    """Run claims, and write a page each and `claims.html` of all pages in the folder.

    Runs that several claims share are done once; a rate is swept on one seed. What is finished in `out` is kept: the
    same call goes on after an interruption.

    Args:
        wanted: keys; none: all of the book that the tier has.
        tier: "quick" or "full".
        out: the book's folder.
        workers: processes at a time, each on one thread; None: as many as cores.
        on: where runs and measurings happen, but for those that take times; None: this machine; "ray",
            "ray://HOST:PORT": see `studies.places.open_place`.
        retries: times that a run or a measuring whose worker died is tried again.
        together: "auto", "never" or "always": whether runs of one model that differ in seed or rates are trained as
            one batched model; see `studies.crews`.
        again: measure again what has a finished page (runs are still kept).
        progress: called with events.
        command: recorded as what does the runs again.

    Returns:
        The pages of the claims, in the book's order; see `claims.page`.

    Raises:
        UserError: an unknown key or tier, the folder belongs to something else, or a cluster is gone.
        KeyboardInterrupt: on Ctrl-C, with how to go on.
    """
    tier, _ = _tier(tier), choice(together)
    folder, tell = StudyFolder(out), progress or (lambda event: None)
    if folder.path.is_file():
        raise UserError(f"{out}: is a file, and --out is a folder.", "Give another --out.")
    entries = [_entry(find(key), tier) for key in _ordered(wanted)]
    entries = [entry for entry in entries if tier in entry.claim.tiers]
    finished = {} if again else {e.claim.key for e in entries if _is_finished(e, tier, folder)}
    todo = [entry for entry in entries if entry.claim.key not in finished]
    tell({"event": "book", "claims": [e.claim.key for e in todo], "kept": sorted(finished, key=lambda k: int(k[1:]))})
    folder.path.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    try:
        with open_place(on, workers=workers, modules=[WORKER]) as place:
            settings = _Settings(folder, tier, place, workers, retries, together, tell, command)
            _train(todo, settings)
            _measure(todo, settings)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"stopped; finished runs and pages are kept in {folder.path}, and the same command goes on from there."
        ) from None
    finally:
        _bind(folder, time.monotonic() - began if len(todo) == len(all_keys()) else None)
    return [page for entry in entries if (page := load_page(folder, entry.claim.key))]


def planned(wanted: Sequence[str], tier: Tier | str, out: str | Path) -> dict[str, Any]:
    """What a call of `run_claims` would train: {"claims", "runs": distinct ones, "asked": with repeats, "flops"}.

    Final runs of a sweep that has not ended are counted at the lowest rate.
    """
    tier, folder = _tier(tier), StudyFolder(out)
    entries = [_entry(find(key), tier) for key in _ordered(wanted)]
    runs = [run for e in entries for x in e.experiments.values() for run in all_runs(x, folder)]
    distinct = {run.hash: run for run in runs}
    return {
        "claims": [e.claim.key for e in entries],
        "asked": len(runs),
        "runs": len(distinct),
        "done": sum(folder.run(name).done for name in distinct),
    }


def _tier(tier: Tier | str) -> Tier:
    try:
        return Tier(tier)
    except ValueError:
        raise UserError(f"tier = {tier!r} is not known.", "Give quick or full.") from None


def _ordered(wanted: Sequence[str]) -> list[str]:
    chosen = {find(key).key for key in wanted} or set(all_keys())
    return [key for key in all_keys() if key in chosen]


def _entry(claim: Claim, tier: Tier) -> _Entry:
    return _Entry(claim, claim.runs(tier) if claim.runs is not None and tier in claim.tiers else {})


def _is_finished(entry: _Entry, tier: Tier, folder: StudyFolder) -> bool:
    page = load_page(folder, entry.claim.key)
    if page is None or page["status"] != "done" or page["tier"] != tier:
        return False
    if any(next_runs(experiment, folder) for experiment in entry.experiments.values()):
        return False
    return bool(page.get("fingerprint") == fingerprint(entry.claim, tier, entry.experiments, folder))


def _train(entries: Sequence[_Entry], settings: _Settings) -> None:
    """All runs of all claims: in each wave what can be done now, each once."""
    folder = settings.folder
    while True:
        wave: dict[str, RunSpec] = {}
        for entry in entries:
            for experiment in entry.experiments.values():
                wave |= {run.hash: run for run in next_runs(experiment, folder)}
        if not wave:
            return
        settings.tell({"event": "wave", "runs": len(wave)})
        runs = in_turns(list(wave.values()))
        _read_texts(runs)
        others = (_entry(find(key), settings.tier).experiments.values() for key in TIMED)
        timed = [run.hash for several in others for experiment in several for run in all_runs(experiment, folder)]
        outcomes = run_all(
            runs, folder, workers=settings.workers, retries=settings.retries, place=settings.place,
            together=choice(settings.together, timed=timed), progress=settings.tell, command=settings.command,
        )  # fmt: skip
        for outcome in outcomes:
            if outcome.status == "failed" and outcome.folder.failure is None:
                outcome.folder.mark_failed(outcome.reason)


def _read_texts(runs: Sequence[RunSpec]) -> None:
    """Read and tokenise each text once, before several workers would at the same time."""
    from assay.training.text import load_text

    for data in {run.data.model_dump_json(): run.data for run in runs if run.init is None}.values():
        with suppress(UserError):  # the worker says it, of its own run
            load_text(data)


def _measure(entries: Sequence[_Entry], settings: _Settings) -> None:
    """Each claim's measuring in a worker of its own, the longest first.

    Those that take times come at the end, alone and on this machine: nobody knows what else a cluster's does.
    """
    together = sorted((e for e in entries if not e.claim.alone), key=lambda e: -e.claim.seconds)
    _measure_group(together, settings.place, settings.workers or settings.place.slots, settings)
    with nullcontext(settings.place) if isinstance(settings.place, Here) else Here([WORKER]) as here:
        _measure_group([e for e in entries if e.claim.alone], here, 1, settings)


def _measure_group(entries: Sequence[_Entry], place: Place, workers: int, settings: _Settings) -> None:
    waiting = [(entry, 0) for entry in entries]
    busy: list[_Measuring] = []
    try:
        while waiting or busy:
            while waiting and len(busy) < workers:
                entry, attempts = waiting.pop(0)
                save_page(settings.folder, text_page(entry.claim, settings.tier))
                busy.append(_Measuring(entry, place.start(_task(entry, settings)), attempts))
                settings.tell({"event": "measuring", "key": entry.claim.key})
            time.sleep(POLL)
            for one in list(busy):
                if (status := one.worker.poll()) is None:
                    continue
                busy.remove(one)
                if struck_down(status) and one.attempts < settings.retries:
                    waiting.append((one.entry, one.attempts + 1))
                    told = {"key": one.entry.claim.key, "attempt": one.attempts + 1, "of": settings.retries}
                    settings.tell({"event": "again", **told})
                else:
                    _tell_verdict(one.entry.claim, settings, status)
    finally:
        for one in busy:
            with suppress(Exception):  # its machine is gone
                one.worker.kill()


def _task(entry: _Entry, settings: _Settings) -> Task:
    """A claim's measuring: it reads its runs, and writes its page and what it keeps for another time."""
    folder, key = settings.folder.path.absolute(), entry.claim.key
    page = page_path(StudyFolder(folder), key)
    runs = {run.hash: run for x in entry.experiments.values() for run in all_runs(x, settings.folder)}
    return Task(
        WORKER,
        (key, settings.tier.value, str(folder)),
        log=page.with_suffix(".log"),
        writes=(page, folder / SCRATCH / key),
        reads=tuple(StudyFolder(folder).run(hash_).path for hash_ in runs),
        texts=tuple({run.data.model_dump_json(): run.data for run in runs.values()}.values()),
    )


def _tell_verdict(claim: Claim, settings: _Settings, status: int) -> None:
    page = load_page(settings.folder, claim.key)
    if page is None or page["status"] == "not run":
        page = failed_page(claim, settings.tier, f"the worker ended with {status}")
        save_page(settings.folder, page)
    settings.tell(
        {
            "event": "verdict",
            "key": claim.key,
            "title": claim.title.en,
            "status": page["status"],
            "verdict": page.get("verdict"),
            "reason": page["reason"],
        }
    )


def _bind(folder: StudyFolder, seconds: float | None) -> None:
    """`claims.html` of all pages in the folder; the time of a whole run is kept for later bindings."""
    from assay.report.book import write_book

    pages = [page for key in all_keys() if (page := load_page(folder, key))]
    if seconds is not None:
        write_json(folder.path / BOOK, {"seconds": seconds})
    if pages:
        write_book(folder.path, pages, seconds=book_seconds(folder))


def book_seconds(folder: StudyFolder) -> float | None:
    """Seconds that the whole book took where one call ran it all, else None."""
    path = folder.path / BOOK
    return float(read_json(path)["seconds"]) if path.is_file() else None
