"""`assay lr-find`: a suggestion with its reason, a page, and Ctrl-C."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from assay.cli.main import app
from assay.runs import read_json
from assay.training import signals

FAST = ("--length", 32, "--batch-size", 4, "--steps", 40, "--tokenizer", "bytes", "--highest", 10)


def say(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["lr-find", *map(str, arguments)], env={"COLUMNS": "140"})


def test_a_suggestion_and_its_reason(small: Path, text: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = say(small, "--data", text, "--seeds", 2, "--out", out, *FAST)
    assert done.exit_code == 0, done.output
    assert "Try --lr" in done.stdout and "diverged at" in done.stdout
    found = read_json(out / "lr-find.json")
    assert found["found"]["suggestion"] == pytest.approx(found["found"]["largest"] / 3)
    assert len(found["readings"]) == 2 and found["complete"]
    assert found["found"]["reason"] in (out / "report.html").read_text(encoding="utf-8").replace("&#39;", "'")
    as_json = say(small, "--data", text, "--out", out, "--json", *FAST)
    assert json.loads(as_json.stdout)["found"]["largest"] > 0


def test_ctrl_c_keeps_what_was_measured(
    small: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Pressed(signals.Interrupt):
        count = 0

        @property
        def happened(self) -> bool:
            Pressed.count += 1
            return Pressed.count > 15

        @happened.setter
        def happened(self, value: bool) -> None:
            pass

    monkeypatch.setattr(signals, "Interrupt", Pressed)
    done = say(small, "--data", text, "--seeds", 3, "--out", tmp_path / "out", *FAST)
    assert done.exit_code == 130, done.output
    found = read_json(tmp_path / "out" / "lr-find.json")
    assert not found["complete"] and len(found["readings"]) == 1 and 5 < len(found["readings"][0]["losses"]) < 40
    assert "interrupted" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_mistakes_are_one_message(small: Path, text: Path, tmp_path: Path) -> None:
    for options, words in (
        (("--lowest", 1, "--highest", 0.1), "empty"),
        (("--steps", 2), "steps = 2"),
        (("--set", "norm=layer,rms"), "2 values"),
    ):
        done = say(small, "--data", text, "--out", tmp_path / "out", *FAST, *options)
        assert done.exit_code == 2 and words in done.stderr, done.output


def test_a_range_where_nothing_is_learned_gives_no_suggestion(small: Path, text: Path, tmp_path: Path) -> None:
    done = say(small, "--data", text, "--out", tmp_path / "out", *FAST, "--lowest", 50, "--highest", 100)
    assert done.exit_code == 1 and "No suggestion" in done.stdout
