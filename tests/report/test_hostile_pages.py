"""Names and texts from data and from file names are text on every page: parsed, and opened in a browser."""

from __future__ import annotations

import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from tests.report.synthetic import write_study

from assay.report.compare import write_report
from assay.report.emergence import write_emergence
from assay.report.tasks import write_evaluation, write_tuning
from assay.runs import RunFolder, provenance, write_json
from assay.spec.study import StudySpec
from assay.stats.emergence import analyse
from assay.stats.results import read_results

EVIL = (
    "</title></script></style><script>document.title='owned'</script>"
    "<img src=x onerror=\"document.title='owned'\">'&amp;"
)
FILE = "<img src=x onerror=document.title='owned'>.csv"


class Page(HTMLParser):
    """Elements of a page, and all of its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def harmless(html: str) -> Page:
    """The page, which must hold no element that data brought."""
    page = Page(html)
    tags = [tag for tag, _ in page.elements]
    assert "img" not in tags and "iframe" not in tags and tags.count("title") >= 1
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        assert not any((value or "").strip().lower().startswith("javascript:") for value in attributes.values())
    assert "document.title='owned'" not in "".join(_scripts(html))
    return page


def _scripts(html: str) -> list[str]:
    return [part.split("</script>")[0] for part in html.split("<script")[1:]]


def hostile(value: Any) -> Any:
    """Every text in a tree, and every key that stands for a name, made hostile; what is chosen by kind stays."""
    if isinstance(value, dict):
        return {key: item if key in ("kind", "stopped", "time") else hostile(item) for key, item in value.items()}
    if isinstance(value, list):
        return [hostile(item) for item in value]
    return f"{value}{EVIL}" if isinstance(value, str) else value


def _measure(value: float) -> dict[str, Any]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1}


def _task() -> dict[str, Any]:
    reliability = [{"confidence": c, "accuracy": c, "count": 3} for c in (0.2, 0.8)]
    return {
        "task": "t", "items": 9, "chance": 0.5, "accuracy": _measure(0.7), "groups": [
            {"group": "g", "items": 4, "accuracy": _measure(0.6)}], "f1": {EVIL: 0.5}, "reliability": reliability,
    }  # fmt: skip


def _compare(folder: Path) -> Path:
    write_study(folder, StudySpec.from_dict({"seeds": 2, "vary": {"norm": ["layernorm", "rmsnorm"]}}))
    for place in (folder / "runs").iterdir():
        run = RunFolder(place)
        told = run.read_json("run.json")
        run.write_json("run.json", hostile({**told, "labels": {EVIL: EVIL}, "provenance": 0}) | {
            "provenance": told["provenance"], "train": told["train"], "objective": told["objective"]})  # fmt: skip
        run.write_json("spec.json", {**run.read_json("spec.json"), "name": EVIL})
    return write_report(folder)


def _emergence(folder: Path) -> Path:
    rows = ["model,scale,token_logprob,length,accuracy,subtask,score"]
    for i, scale in enumerate((1e6, 1e8, 1e10)):
        quoted = EVIL.replace('"', '""')
        numbers = f"{scale},-{2 / (i + 1)},3,{i % 2}"
        rows += [f'"{quoted}{i}",{numbers},"{part}",0.5' for part in ("whole", "whole", quoted, f"{quoted}b")]
    (folder / FILE).write_text("\n".join(rows), encoding="utf-8")
    found = analyse(read_results(folder / FILE), resamples=100).to_dict()
    write_json(folder / "emergence.json", {"kind": "emergence", "emergence": found, "provenance": provenance(EVIL)})
    return write_emergence(folder)


def _evaluation(folder: Path) -> Path:
    data = {
        "tasks": hostile([_task(), _task()]),
        "name": EVIL,
        "settings": {EVIL: EVIL},
        "harness": {"results": {EVIL: {EVIL: 0.5}}},
    }
    write_json(folder / "eval.json", {"kind": "eval", **data, "provenance": provenance(EVIL)})
    return write_evaluation(folder)


def _tuning(folder: Path) -> Path:
    history = [{"kind": kind, "step": s, "loss": 3.0 - s} for s in (0, 1, 2) for kind in ("train", "eval")]
    tuned = {"best_step": 1, "stopped": EVIL}
    data = {"tasks": hostile([_task()]), "name": EVIL, "settings": {EVIL: EVIL}, "history": history, "tuned": tuned}
    write_json(folder / "tune.json", {"kind": "tune", **data, "before": data["tasks"], "provenance": provenance(EVIL)})
    return write_tuning(folder)


PAGES = {"compare": _compare, "emergence": _emergence, "evaluation": _evaluation, "tuning": _tuning}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every kind of page, made of hostile data, in a folder of a hostile name."""
    found = {}
    for name, make in PAGES.items():
        folder = tmp_path_factory.mktemp(name) / "<i>owned&'\"c"
        folder.mkdir()
        found[name] = make(folder)
    return found


@pytest.mark.parametrize("name", PAGES)
def test_all_text_of_a_page_is_text(name: str, pages: dict[str, Path]) -> None:
    page = harmless(pages[name].read_text(encoding="utf-8"))
    assert "document.title='owned'" in page.text, "what was hostile is shown, as text"


def test_a_page_that_lets_markup_through_is_noticed() -> None:
    for bad in (f"<title>x</title><p>{EVIL}</p>", "<title>x</title><p onclick='x'>", "<title>x</title><img src=x>"):
        with pytest.raises(AssertionError):
            harmless(bad)


BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium here; the pages are parsed all the same")
def test_no_page_runs_what_its_data_brought(pages: dict[str, Path], tmp_path: Path) -> None:
    """In a browser: a negative control changes its title, and no page of ours does."""
    bad = tmp_path / "bad.html"
    bad.write_text(f"<title>x</title><p>{EVIL.removeprefix('</title>')}</p>", encoding="utf-8")
    assert "<title>owned</title>" in _opened(bad, tmp_path)
    for name, path in pages.items():
        copied = tmp_path / f"{name}.html"  # the folder's own name is no part of an address
        shutil.copy(path, copied)
        seen = _opened(copied, tmp_path)
        assert "<title>owned</title>" not in seen and "</html>" in seen, name


def _opened(path: Path, folder: Path) -> str:
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'browser'}",
               "--virtual-time-budget=2000", "--dump-dom", path.as_uri()]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False).stdout
