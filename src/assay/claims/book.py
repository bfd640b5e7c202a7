"""Running claims: all their runs once, wave by wave, then each claim's measuring; what is finished is kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.claims.base import Claim, Experiment, Tier
from assay.claims.catalogue import claim as find
from assay.claims.catalogue import keys as all_keys
from assay.claims.page import failed_page, fingerprint, load_page, page_path, save_page, text_page
from assay.claims.plan import all_runs, next_runs
from assay.errors import UserError
from assay.runs import StudyFolder, read_json, write_json
from assay.spec.study import RunSpec
from assay.studies.processes import Nursery, Process
from assay.studies.runner import default_workers, in_turns, run_all

__all__ = ["Progress", "book_seconds", "planned", "run_claims"]

Progress = Callable[[dict[str, Any]], None]
"""Called with `studies.runner`'s events while runs are trained, and with

    book        claims: keys to be run; kept: keys that were finished before
    wave        runs: how many are trained now, kept: runs that were done before
    measuring   key
    verdict     key, verdict, title, status, reason
"""

POLL = 0.05
BOOK = "book.json"


@dataclass(frozen=True)
class _Entry:
    claim: Claim
    experiments: Mapping[str, Experiment]


def run_claims(
    wanted: Sequence[str],
    *,
    tier: Tier | str = Tier.quick,
    out: str | Path,
    workers: int | None = None,
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
        again: measure again what has a finished page (runs are still kept).
        progress: called with events.
        command: recorded as what does the runs again.

    Returns:
        The pages of the claims, in the book's order; see `claims.page`.

    Raises:
        UserError: an unknown key or tier, or the folder belongs to something else.
        KeyboardInterrupt: on Ctrl-C, with how to go on.
    """
    tier = _tier(tier)
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
        _train(todo, folder, workers or default_workers(), tell, command)
        _measure(todo, tier, folder, workers or default_workers(), tell)
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


def _train(entries: Sequence[_Entry], folder: StudyFolder, workers: int, tell: Progress, command: str | None) -> None:
    """All runs of all claims: in each wave what can be done now, each once."""
    while True:
        wave: dict[str, RunSpec] = {}
        for entry in entries:
            for experiment in entry.experiments.values():
                wave |= {run.hash: run for run in next_runs(experiment, folder)}
        if not wave:
            return
        tell({"event": "wave", "runs": len(wave)})
        runs = in_turns(list(wave.values()))
        _read_texts(runs)
        outcomes = run_all(runs, folder, workers=workers, progress=tell, command=command)
        for outcome in outcomes:
            if outcome.status == "failed" and outcome.folder.failure is None:
                outcome.folder.mark_failed(outcome.reason)


def _read_texts(runs: Sequence[RunSpec]) -> None:
    """Read and tokenise each text once, before several workers would at the same time."""
    from assay.training.text import load_text

    for data in {run.data.model_dump_json(): run.data for run in runs if run.init is None}.values():
        with suppress(UserError):  # the worker says it, of its own run
            load_text(data)


def _measure(entries: Sequence[_Entry], tier: Tier, folder: StudyFolder, workers: int, tell: Progress) -> None:
    """Each claim's measuring in a process of its own, the longest first; those that take times, alone at the end."""
    together = sorted((e for e in entries if not e.claim.alone), key=lambda e: -e.claim.seconds)
    with Nursery(["assay.claims.worker", "assay.training.loop"]) as nursery:
        _measure_group(together, tier, folder, workers, nursery, tell)
        _measure_group([e for e in entries if e.claim.alone], tier, folder, 1, nursery, tell)


def _measure_group(
    entries: Sequence[_Entry], tier: Tier, folder: StudyFolder, workers: int, nursery: Nursery, tell: Progress
) -> None:
    waiting = list(entries)
    busy: list[tuple[_Entry, Any]] = []
    try:
        while waiting or busy:
            while waiting and len(busy) < workers:
                entry = waiting.pop(0)
                save_page(folder, text_page(entry.claim, tier))
                log = page_path(folder, entry.claim.key).with_suffix(".log")
                asked = [entry.claim.key, tier.value, str(folder.path)]
                busy.append((entry, nursery.start("assay.claims.worker", asked, log)))
                tell({"event": "measuring", "key": entry.claim.key})
            time.sleep(POLL)
            for one in list(busy):
                if one[1].poll() is not None:
                    busy.remove(one)
                    _tell_verdict(one[0].claim, tier, folder, one[1], tell)
    finally:
        for _, process in busy:
            process.kill()


def _tell_verdict(claim: Claim, tier: Tier, folder: StudyFolder, process: Process, tell: Progress) -> None:
    page = load_page(folder, claim.key)
    if page is None or page["status"] == "not run":
        page = failed_page(claim, tier, f"the worker ended with {process.poll()}")
        save_page(folder, page)
    tell(
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
