"""`assay cost`: the tables, JSON, the page, and what it refuses."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from assay.cli.main import app
from assay.spec.model import ModelSpec
from assay.spec.partner import answer_flops


def say(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["cost", *map(str, arguments)], env={"COLUMNS": "160"})


def test_an_estimate_shows_every_assumption(tmp_path: Path) -> None:
    done = say("gpt3", "--tokens", "300e9", "--hardware", "v100", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    said = "3.19 × 10²³|3.14 × 10²³|1,304 MWh|560 t|with checkpointing|key-value cache|assumed"
    for words in said.split("|"):
        assert words in done.stdout, words
    for name in ("utilisation", "power", "pue", "carbon", "price", "bandwidth", "decode share"):
        assert name in done.stdout
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "What is assumed" in html and "Patterson et al. 2021" in html and "src=" not in html
    assert json.loads((tmp_path / "cost.json").read_text())["cost"]["training"]["tokens"] == 300e9


def test_json_holds_what_was_given(small: Path) -> None:
    done = say(small, "--tokens", "1e6", "--price", "5", "--json")
    data = json.loads(done.stdout)
    assert [a["value"] for a in data["assumptions"] if a["given"]] == [5.0]


def test_the_check_tables_five_published_runs() -> None:
    done = say("--check")
    assert done.exit_code == 0
    for name in ("gpt3-175b", "palm-540b", "bloom-176b", "llama-65b", "glm-130b", "off by", "blind"):
        assert name in done.stdout
    assert len(json.loads(say("--check", "--json").stdout)) >= 18


@pytest.mark.parametrize("equal", ["parameters", "flops"])
def test_a_partner_is_a_spec_that_costs_the_same(small: Path, tmp_path: Path, equal: str) -> None:
    request = ("--partner", "encoder_decoder", "--equal", equal, "--prompt", "40", "--new", "20")
    done = say(small, *request)
    assert done.exit_code == 0, done.output
    (tmp_path / "partner.toml").write_text(done.stdout)
    given, found = ModelSpec.from_toml(small.read_text()), ModelSpec.from_toml(done.stdout)
    assert found.family == "encoder_decoder" and done.stdout.startswith("# encoder_decoder, ")
    counts = (
        [float(spec.parameters()) for spec in (given, found)]
        if equal == "parameters"
        else [answer_flops(spec, 40, 20) for spec in (given, found)]
    )
    assert counts[1] == pytest.approx(counts[0], rel=0.02)
    data = json.loads(say(small, *request, "--json").stdout)
    assert data["mismatch"] == pytest.approx(counts[1] / counts[0] - 1) and data["equal"] == equal


def test_a_partner_needs_a_family_and_something_to_be_equal_in(small: Path) -> None:
    for arguments, words in (
        (("--equal", "flops"), "--partner FAMILY"),
        (("--partner", "decoder"), "family = decoder"),
        (("--partner", "prefix", "--equal", "flop"), "flops"),
    ):
        done = say(small, *arguments)
        assert done.exit_code == 2 and words in done.stderr and "Traceback" not in done.stderr


def test_mistakes_are_one_message(tmp_path: Path) -> None:
    for arguments, words in (((), "SPEC is missing"), (("gpt3", "--hardware", "abacus"), "no data of that machine"),
                             (("gpt3", "--utilisation", "2"), "--utilisation")):  # fmt: skip
        done = say(*arguments)
        assert done.exit_code == 2 and words in done.stderr and "Traceback" not in done.stderr
