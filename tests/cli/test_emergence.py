"""`assay emergence`: tables, JSON, the page in both metrics, one message for bad input; the documentation's example."""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from assay.cli.main import app
from assay.report import charts

DOCS = Path(__file__).parents[2] / "docs" / "emergence.md"


def say(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["emergence", *map(str, arguments)], env={"COLUMNS": "160"})


@pytest.fixture
def results(tmp_path: Path) -> Path:
    rows = ["model,scale,token_logprob,length,accuracy,edit_distance"]
    for i, (scale, p, right) in enumerate([(1e6, 0.2, 0), (1e7, 0.5, 2), (1e8, 0.75, 14), (1e9, 0.9, 30)]):
        for k in range(50):
            rows.append(f"m{i}<b>,{scale},{__import__('math').log(p)},4,{int(k < right)},{4 * (1 - p)}")
    path = tmp_path / "results.csv"
    path.write_text("\n".join(rows), encoding="utf-8")
    return path


def test_both_metrics_are_told_and_drawn(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts, "VALIDATE", True)
    done = say(results, "--out", tmp_path / "out", "--resamples", 200)
    assert done.exit_code == 0, done.output
    assert "exact match" in done.stdout and "edit distance" in done.stdout and "least accuracy above 0" in done.stdout
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert html.count('<div class="wide"><svg') == 3 and "src=" not in html and "m0&lt;b&gt;" in html
    for svg in re.findall(r"<svg.*?</svg>", html, re.S):
        ET.fromstring(svg)
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_equal_files_give_equal_numbers(results: Path, tmp_path: Path) -> None:
    both = [say(results, "--out", tmp_path / name, "--json", "--resamples", 200).stdout for name in "ab"]
    assert both[0] == both[1] and json.loads(both[0])["curves"][0]["metric"] == "exact match"


def test_bad_input_is_one_message_and_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("model,scale,accuracy,length\na,1,1.2,3\nb,2,0,3\n")
    done = say(path, "--out", tmp_path / "out")
    assert done.exit_code == 2 and "accuracy = 1.2" in done.stderr and not (tmp_path / "out").exists()


def test_the_example_of_the_documentation_does_what_it_says(tmp_path: Path) -> None:
    blocks = re.findall(r"```csv\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.S)
    path = tmp_path / "parts.csv"
    path.write_text(blocks[0], encoding="utf-8")
    done = say(path, "--out", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.output
    first, second = json.loads(done.stdout)["compositions"]
    assert f"{100 * first['independent']:.2f}% to {100 * second['independent']:.2f}%" in DOCS.read_text(
        encoding="utf-8"
    )
    path.write_text(blocks[1], encoding="utf-8")
    done = say(path, "--out", tmp_path / "out")
    assert done.exit_code == 0 and "exact match makes the jump" in done.stdout, done.output
