"""`assay probe rank`: families laid over each other, ablations, a checkpoint's own text, the page, refusals."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import assay
from assay.cli.main import app
from assay.errors import UserError
from assay.report import charts
from assay.report.rank import write_rank
from assay.runs import read_json, write_json


def say(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["probe", "rank", *map(str, arguments)], env={"COLUMNS": "180"})


def test_families_are_laid_over_each_other(
    small: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(charts, "VALIDATE", True)
    options = ("--text", text, "--length", 24, "--rows", 2, "--seeds", 2, "--out", tmp_path)
    done = say(small, "--vary", "family=causal,prefix,encoder,encoder_decoder", *options)
    assert done.exit_code == 0, done.output
    found = read_json(tmp_path / "rank.json")
    assert [m["name"] for m in found["models"]] == ["causal", "prefix", "encoder", "encoder_decoder"]
    assert all(m["tokens"] == [2, 24] and len(m["seeds"]) == 2 for m in found["models"])
    causal, prefix = (m["seeds"][0]["heads"] for m in found["models"][:2])
    assert all(h["diagonal"] for h in causal) and all(h["diagonal"] is None for h in prefix)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert html.count('<div class="wide"><svg') >= 7 and "src=" not in html
    for svg in re.findall(r"<svg.*?</svg>", html, re.S):
        ET.fromstring(svg)


def test_ablations_stand_beside_the_whole_model(small: Path, text: Path, tmp_path: Path) -> None:
    done = say(
        small, "--without", "skip", "--without", "skip,feedforward", "--text", text, "--length", 16, "--out", tmp_path
    )
    assert done.exit_code == 0, done.output
    whole, skip, pure = read_json(tmp_path / "rank.json")["models"]
    assert pure["name"] == "small · no skip, no feedforward" and skip["without"] == ["skip"]
    last = [m["seeds"][0]["layers"][-1]["residual"] for m in (whole, skip, pure)]
    assert last[0] > last[2]


def test_a_checkpoint_is_read_with_its_own_weights(tmp_path: Path) -> None:
    from assay.data.tokenizer import ByteTokenizer

    tokenizer = ByteTokenizer()
    spec = assay.ModelSpec.from_dict(
        {"width": 16, "layers": 2, "vocab_size": tokenizer.vocabulary.size, "attention": {"heads": 2}}
    )
    model = assay.build(spec, seed=5)
    model.tokenizer = tokenizer
    model.save(tmp_path / "model")
    done = say(tmp_path / "model", "--text", "some words to read, more than a few", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    found = read_json(tmp_path / "out" / "rank.json")["models"][0]
    assert found["tokens"] == [1, 35] and found["spec"]["width"] == 16
    refused = say(tmp_path / "model", "--without", "skip", "--out", tmp_path / "out")
    assert refused.exit_code == 2 and "a checkpoint is what it is" in refused.stderr


def test_mistakes_are_one_message(small: Path, tmp_path: Path) -> None:
    for arguments, words in (
        (("--text", "x"), "Give a longer text"), (("--dtype", "float16"), "--dtype float16"),
        (("--without", "heads"), "--without heads"), (("--vary", "train.steps=1"), "probes vary the model"),
    ):  # fmt: skip
        done = say(small, *arguments, "--out", tmp_path / "out")
        assert done.exit_code == 2 and words in done.stderr and "Traceback" not in done.stderr, done.output
    write_json(tmp_path / "rank.json", {"kind": "other"})
    with pytest.raises(UserError, match="no measurements"):
        write_rank(tmp_path)
