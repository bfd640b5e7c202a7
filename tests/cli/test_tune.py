"""`assay tune` and `assay eval` as a user meets them: files made, numbers told, one message for a mistake."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from assay.cli.main import app

ROWS = "".join(f"{chr(97 + i % 26)} number {i},{'yes' if i % 26 < 8 else 'no'}\n" for i in range(120))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    (tmp_path / "t.csv").write_text("text,label\n" + ROWS)
    pairs = "".join(f"{i} and {i + 1},{2 * i + 1}\n" for i in range(80))
    (tmp_path / "pairs.csv").write_text("prompt,answer\n" + pairs)
    fields = {"width": 16, "layers": 1, "attention": {"heads": 2}, "context": 128}
    (tmp_path / "m.json").write_text(json.dumps(fields))
    return tmp_path


def call(*arguments: str, status: int = 0) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == status, done.output
    return done.output


QUICK = ("--steps", "4", "--length", "64", "--tokenizer", "bytes")


def test_tune_then_eval(here: Path) -> None:
    told = json.loads(call("tune", "m.json", "--data", "t.csv", "--data", "copy", "--rates", "0.8,0.2", "--items", "40",
                           "--test-items", "20", *QUICK, "--json"))  # fmt: skip
    assert [row["task"] for row in told["tasks"]] == ["t", "copy"] and told["tuned"]["step"] == 4
    page = (here / "tuned/report.html").read_text(encoding="utf-8")
    assert "Macro F1" in page and "<svg" in page
    told = json.loads(call("eval", "tuned/model", "--tasks", "t.csv,addition", "--items", "8", "--ends", "--json"))
    assert [row["task"] for row in told["tasks"]] == ["t", "addition"]
    assert told["tasks"][0]["accuracy"]["standard_error"] > 0 and told["tasks"][0]["items"] == 120
    table = call("eval", "tuned/model", "--tasks", "copy", "--items", "8")
    assert "copy" in table and "±" in table and (here / "eval/report.html").is_file()


def test_a_curve_of_labels(here: Path) -> None:
    call("tune", "m.json", "--data", "t.csv", *QUICK, "--out", "pre")
    out = call("tune", "pre/model", "--data", "t.csv", "--labels", "4,16", "--seeds", "2", "--steps", "2", "--length",
               "64", "--out", "curve")  # fmt: skip
    assert "pretrained 16 labels accuracy" in " ".join(out.split())
    data = json.loads((here / "curve/labels.json").read_text())
    assert len(data["runs"]) == 8 and "<svg" in (here / "curve/report.html").read_text(encoding="utf-8")
    out = call("tune", "m.json", "--data", "t.csv", "--labels", "4", "--seeds", "1", *QUICK)
    assert "scratch" in out and "pretrained" not in out


class Hasty:
    """In place of `Interrupt`: Ctrl-C comes when its flag has been looked at so many times."""

    def __init__(self, looks: int) -> None:
        self.left = looks

    def __enter__(self) -> "Hasty":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    @property
    def happened(self) -> bool:
        self.left -= 1
        return self.left < 0


def test_ctrl_c_then_resume(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("tune", "m.json", "--data", "t.csv", *QUICK)
    whole = json.loads(call(*options, "--out", "whole", "--json"))
    with monkeypatch.context() as patch:
        patch.setattr("assay.training.signals.Interrupt", lambda: Hasty(1))
        told = call(*options, "--out", "parts", status=130)
    assert "Interrupted after step 2; the same command with --resume goes on" in told
    data = json.loads((here / "parts/tune.json").read_text())
    assert not data["complete"] and (here / "parts/model/spec.json").is_file(), "usable as it is"
    assert "unfinished tuning. Go on with it with --resume" in call(*options, "--out", "parts", status=2)
    other = call(*options, "--lr", "1e-3", "--out", "parts", "--resume", status=2)
    assert "another tuning than these options" in " ".join(other.split())
    rest = json.loads(call(*options, "--out", "parts", "--resume", "--json"))
    assert rest["tuned"]["step"] == 4 and not (here / "parts/state").exists()
    assert [row["accuracy"] for row in rest["tasks"]] == [row["accuracy"] for row in whole["tasks"]]
    assert rest["tuned"]["best_loss"] == whole["tuned"]["best_loss"]
    again = json.loads(call(*options, "--out", "parts", "--resume", "--json"))
    assert again["tuned"] == rest["tuned"], "nothing is done twice"


def test_an_interrupted_curve_keeps_its_points(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("tune", "m.json", "--data", "t.csv", "--labels", "4,16", "--seeds", "2", *QUICK, "--out", "curve")
    with monkeypatch.context() as patch:
        patch.setattr("assay.training.signals.Interrupt", lambda: Hasty(12))
        call(*options, status=130)
    first = json.loads((here / "curve/labels.json").read_text())
    assert len(first["runs"]) == 2 and not first["complete"]
    assert "unfinished curve" in call(*options, status=2)
    assert "another curve" in " ".join(call(*options, "--lr", "1e-3", "--resume", status=2).split())
    told = call(*options, "--resume")
    assert told.count("seed") == 2, "two were left to do"
    rest = json.loads((here / "curve/labels.json").read_text())
    assert rest["complete"] and rest["runs"][:2] == first["runs"] and len(rest["runs"]) == 4
    call(*options[:5], "4,16,32", *options[6:], "--resume")
    more = json.loads((here / "curve/labels.json").read_text())
    assert len(more["runs"]) == 6 and [r for r in more["runs"] if r["labels"] != 32] == rest["runs"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("tune", "m.json", "--data", "none.csv"), "none.csv: no such file"),
        (("tune", "m.json", "--data", "coppy"), "Did you mean 'copy'"),
        (("tune", "m.json", "--data", "t.csv", "--label", "stars"), "there is no column 'stars'"),
        (("tune", "m.json", "--data", "t.csv", "--prompt", "{review}"), "has no column 'review'"),
        (("tune", "m.json", "--data", "t.csv", "--name", "yes"), "not VALUE=WORD"),
        (("tune", "m.json", "--data", "t.csv", "--rates", "1,2"), "2 rates for 1 tasks"),
        (("tune", "m.json", "--data", "t.csv", "--labels", "a"), "not whole numbers"),
        (("tune", "m.json", "--data", "t.csv", "--labels", "5000", "--tokenizer", "bytes"), "labels = 5000"),
        (("tune", "tiny-encoder", "--data", "pairs.csv"), "writes no answers, it chooses among given ones"),
        (("tune", "m.json", "--data", "t.csv", "--length", "3", "--tokenizer", "bytes"), "the window is 3"),
        (("eval", "m.json", "--tasks", "copy"), "has no weights to evaluate"),
        (("eval", "no/where", "--tasks", ","), "names no task"),
        (("six-pairs", "--form", "huge"), "form 'huge': not in this study"),
        (("six-pairs", "--set", "tokns=3"), "Did you mean 'tokens'"),
        (("six-pairs", "--set", "tokens"), "not FIELD=VALUE"),
    ],
)
def test_mistakes_get_one_message(here: Path, arguments: tuple[str, ...], said: str) -> None:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 2 and "Traceback" not in done.output
    assert said in " ".join(done.output.split()), done.output


def test_one_class(here: Path) -> None:
    (here / "one.csv").write_text("text,label\na,x\nb,x\n")
    done = CliRunner().invoke(app, ["tune", "m.json", "--data", "one.csv"])
    assert done.exit_code == 2 and "the same answer, 'x'" in done.output


def test_six_pairs_dry_run(here: Path) -> None:
    (here / "text.txt").write_text("some words in a text, again and again. " * 600)
    out = call("six-pairs", "--form", "quick", "--set", "data.source=text.txt", "--set", "seeds=1", "--dry-run")
    assert len(out.strip().splitlines()) == 14 and "13 runs" in out and "pretraining takes about" in out
    assert "causal:causal_lm -> prefix:mlm" in out
