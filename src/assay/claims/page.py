"""A claim's page as plain data: what the report draws, and what is kept of a finished claim."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from assay.claims.base import Claim, Experiment, Measured, Tier, decide
from assay.claims.plan import all_runs
from assay.errors import UserError
from assay.runs import StudyFolder, provenance, read_json, write_json
from assay.runs.files import plain

__all__ = ["PAGES", "failed_page", "fingerprint", "finished_page", "load_page", "page_path", "save_page", "text_page"]

PAGES = "claims"
"""Folder of pages in a book's folder."""
SCHEMA = 1


def page_path(folder: StudyFolder, key: str) -> Path:
    """Where a claim's page lies."""
    return folder.path / PAGES / f"{key}.json"


def fingerprint(claim: Claim, tier: Tier, experiments: Mapping[str, Experiment], folder: StudyFolder) -> str:
    """Equal for equal claims with equal runs: a finished page with another one is out of date."""
    source = Path(inspect.getfile(claim.measure)).read_bytes()
    runs = sorted({run.hash for experiment in experiments.values() for run in all_runs(experiment, folder)})
    return hashlib.sha256(source + repr((claim.key, tier.value, runs)).encode()).hexdigest()[:16]


def text_page(claim: Claim, tier: Tier) -> dict[str, Any]:
    """What a page says before anything is measured."""
    return {
        "schema_version": SCHEMA,
        "kind": "claim",
        "key": claim.key,
        **{name: asdict(getattr(claim, name)) for name in _WORDS},
        "sources": list(claim.sources),
        "formulas": [asdict(formula) for formula in claim.formulas],
        "questions": [
            {
                "name": name,
                "asks": asdict(question.asks),
                "rule": question.rule.to_dict(),
                "rule_text": str(question.rule),
                "unit": question.unit,
                "decides": question.decides,
            }
            for name, question in claim.questions.items()
        ],
        "command": f"assay claims run {claim.key} --tier {tier}",
        "tier": tier.value,
        "status": "not run",
        "reason": "",
    }


_WORDS = ("title", "says", "literature", "experiment", "rule", "changes")


def finished_page(
    claim: Claim,
    tier: Tier,
    experiments: Mapping[str, Experiment],
    folder: StudyFolder,
    measured: Measured,
    seconds: float,
) -> dict[str, Any]:
    """The whole page.

    Args:
        claim: which.
        tier: at which it was run.
        experiments: its runs at this tier.
        folder: where they are.
        measured: what came out.
        seconds: that the measuring took, without the runs.
    """
    verdict, each = decide(claim, measured.answers)
    page = text_page(claim, tier)
    for question in page["questions"]:
        question["answer"] = asdict(measured.answers[question["name"]])
        question["verdict"] = each[question["name"]].value
    runs = {run.hash: run for experiment in experiments.values() for run in all_runs(experiment, folder)}
    return {
        **page,
        "verdict": verdict.value,
        "pictures": [asdict(picture) for picture in measured.pictures],
        "tables": [asdict(table) for table in measured.tables],
        "remarks": [asdict(remark) for remark in measured.remarks],
        "seconds": seconds,
        "runs": [
            {
                "hash": hash_,
                "name": run.name,
                "seed": run.seed,
                "rate": run.train.optimizer.learning_rate,
                "bits_per_byte": ((done := folder.run(hash_)).done and done.result.get("bits_per_byte")) or None,
                "done": done.done,
            }
            for hash_, run in runs.items()
        ],
        "provenance": provenance(page["command"]),
        "fingerprint": fingerprint(claim, tier, experiments, folder),
        "status": "done",
    }


def failed_page(claim: Claim, tier: Tier, reason: str) -> dict[str, Any]:
    """The page of a claim whose measuring failed."""
    return {**text_page(claim, tier), "status": "failed", "reason": reason}


def save_page(folder: StudyFolder, page: dict[str, Any]) -> None:
    """Write a page atomically."""
    path = page_path(folder, page["key"])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, plain(page))


def load_page(folder: StudyFolder, key: str) -> dict[str, Any] | None:
    """A page that was written, or None.

    Raises:
        UserError: it is damaged.
    """
    path = page_path(folder, key)
    if not path.is_file():
        return None
    page = read_json(path)
    if not isinstance(page, dict) or page.get("schema_version") != SCHEMA or page.get("key") != key:
        raise UserError(f"{path}: is no page of claim {key}.", "Delete it and run the same command again.")
    return page
