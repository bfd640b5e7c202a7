"""A book is run, kept, resumed and bound: with two claims at the tier that only shows that the code runs."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from assay.claims import book, catalogue, worker
from assay.claims.base import Tier
from assay.claims.page import load_page, page_path, save_page
from assay.claims.shipped import summary
from assay.cli.main import app
from assay.errors import UserError
from assay.runs import StudyFolder
from assay.studies.places import Here

KEYS = ("C12", "C22")
Events = list[dict[str, Any]]


def kinds(events: Events) -> list[str]:
    return [str(event["event"]) for event in events]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Events, list[dict[str, Any]]]:
    out, events = tmp_path_factory.mktemp("book"), []
    pages = book.run_claims(KEYS, tier=Tier.smoke, out=out, workers=2, progress=events.append)
    return out, events, pages


def test_pages_hold_all_that_a_report_needs(whole: tuple[Path, Events, list[dict[str, Any]]]) -> None:
    out, events, pages = whole
    assert [page["key"] for page in pages] == list(KEYS) and [page["status"] for page in pages] == ["done", "done"]
    (norms, counts) = pages
    assert norms["verdict"] in ("supported", "refuted", "undecided") and counts["verdict"]
    assert norms["runs"] and all(run["done"] for run in norms["runs"]) and counts["runs"] == []
    assert [question["name"] for question in norms["questions"] if question["decides"]] == ["loss"]
    assert all(page["pictures"] for page in pages)
    assert norms["provenance"]["versions"]["torch"] and norms["command"] == "assay claims run C12 --tier smoke"
    html = (out / "claims.html").read_text(encoding="utf-8")
    assert "RMSNorm" in html and "归一化" in html and "<math" in html and 'src="http' not in html
    assert kinds(events)[0] == "book" and kinds(events).count("verdict") == 2 and "wave" in kinds(events)


def test_finished_claims_are_kept(whole: tuple[Path, Events, list[dict[str, Any]]]) -> None:
    out, _, _ = whole
    stamp, events = page_path(StudyFolder(out), "C12").stat().st_mtime_ns, []
    pages = book.run_claims(KEYS, tier=Tier.smoke, out=out, progress=events.append)
    assert events == [{"event": "book", "claims": [], "kept": ["C12", "C22"]}] and len(pages) == 2
    assert page_path(StudyFolder(out), "C12").stat().st_mtime_ns == stamp


def test_a_page_that_another_claim_text_wrote_is_made_anew(whole: tuple[Path, Events, list[dict[str, Any]]]) -> None:
    out, _, _ = whole
    folder = StudyFolder(out)
    page = load_page(folder, "C22")
    assert page is not None
    save_page(folder, {**page, "fingerprint": "of older text"})
    events: Events = []
    book.run_claims(["C22"], tier=Tier.smoke, out=out, progress=events.append)
    assert events[0]["claims"] == ["C22"] and load_page(folder, "C22")["fingerprint"] == page["fingerprint"]  # type: ignore[index]


def test_an_interruption_keeps_what_is_finished(tmp_path: Path) -> None:
    def press(event: dict[str, Any]) -> None:
        if event["event"] == "finished":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="same command goes on"):
        book.run_claims(["C12"], tier=Tier.smoke, out=tmp_path, workers=1, progress=press)
    done = {run.name for run in StudyFolder(tmp_path).done()}
    assert done
    events: Events = []
    (page,) = book.run_claims(["C12"], tier=Tier.smoke, out=tmp_path, workers=2, progress=events.append)
    assert page["status"] == "done"
    assert not done & {event["run"] for event in events if event["event"] == "started"}


def test_a_measuring_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(lab: object) -> None:
        raise ArithmeticError("no luck")

    monkeypatch.setattr(worker, "find", lambda key: replace(catalogue.claim(key), measure=fail))
    monkeypatch.setattr(worker.signal, "signal", lambda *given: None)
    assert worker.main(["C22", "smoke", str(tmp_path)]) == 2
    page = load_page(StudyFolder(tmp_path), "C22")
    assert page is not None and page["status"] == "failed" and page["reason"] == "ArithmeticError: no luck"


@pytest.mark.parametrize(("ends", "status"), [([-9, 0], "done"), ([-9, -9], "failed"), ([2], "failed")])
def test_a_measuring_whose_worker_died_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: list[int], status: str
) -> None:
    left = list(ends)

    class Worker:
        def poll(self) -> int:
            if (end := left.pop(0)) == 0:
                monkeypatch.setattr(worker.signal, "signal", lambda *given: None)
                assert worker.main(["C22", "smoke", str(tmp_path)]) == 0
            return end

    class Anywhere(Here):
        def start(self, task: Any) -> Any:
            assert (
                task.arguments == ("C22", "smoke", str(tmp_path)) and page_path(StudyFolder(tmp_path), "C22").exists()
            )
            assert task.writes == (page_path(StudyFolder(tmp_path), "C22"), tmp_path / "scratch" / "C22")
            return Worker()

    monkeypatch.setattr(book, "open_place", lambda *given, **more: Anywhere())
    events: Events = []
    (page,) = book.run_claims(["C22"], tier=Tier.smoke, out=tmp_path, retries=1, progress=events.append)
    assert not left and page["status"] == status and kinds(events).count("verdict") == 1
    assert [e["attempt"] for e in events if e["event"] == "again"] == ([1] if ends[0] == -9 else [])


def test_a_damaged_run_is_named(whole: tuple[Path, Events, list[dict[str, Any]]], tmp_path: Path) -> None:
    shutil.copytree(whole[0], tmp_path / "copy")
    for run in StudyFolder(tmp_path / "copy").done():  # a sweep's runs are read before anything is kept
        (run.path / "DONE").write_text("{torn", encoding="utf-8")
    with pytest.raises(UserError, match=r"DONE.*valid JSON.*Delete it"):
        book.run_claims(["C12"], tier=Tier.smoke, out=tmp_path / "copy")


def test_summary_is_what_ships(whole: tuple[Path, Events, list[dict[str, Any]]]) -> None:
    found = summary(StudyFolder(whole[0]))
    assert set(found["claims"]) == set(KEYS) and found["tier"] == "smoke"
    assert found["claims"]["C12"]["figures"][0].startswith("held-out loss")


def test_bad_calls(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="tier = 'huge'"):
        book.run_claims(["C12"], tier="huge", out=tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        book.run_claims(["C12"], out=tmp_path / "file")


def test_the_command_lists_shows_and_refuses(whole: tuple[Path, Events, list[dict[str, Any]]], tmp_path: Path) -> None:
    def say(*arguments: object) -> Any:
        return CliRunner().invoke(app, ["claims", *map(str, arguments)], env={"COLUMNS": "100"})

    listed = say()
    assert listed.exit_code == 0 and set(listed.stdout.split()) >= set(catalogue.keys())
    assert "✗" in say("--out", whole[0]).stdout or "✓" in say("--out", whole[0]).stdout
    shown = say("show", "c12", "--out", whole[0], "--lang", "zh")
    assert shown.exit_code == 0 and "判定规则" in shown.stdout and "paired Student t" in shown.stdout
    assert json.loads(say("show", "C12", "--json").stdout)["status"] == "not run"
    assert "C12" in say("run", "C12", "--dry-run").stdout or "1 claims" in say("run", "C12", "--dry-run").stdout
    for arguments, words in (
        (("run",), "no claim is named"), (("run", "C99"), "C99"), (("run", "C12", "--all"), "both given"),
        (("run", "C12", "--tier", "big"), "big"), (("show", "C12", "--out", tmp_path), "no page"),
        (("--out", tmp_path), "holds no book"), (("--lang", "fr"), "fr"),
    ):  # fmt: skip
        refused = say(*arguments)
        assert refused.exit_code == 2 and words in refused.stderr and "Traceback" not in refused.stderr, arguments
