"""`assay probe stability`: from options to the table, the JSON and the page."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import assay
from assay.cli.main import app
from assay.cli.probe import axes
from assay.errors import UserError
from assay.runs import read_json


def say(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["probe", *map(str, arguments)], env={"COLUMNS": "140"})


SMALL = ("--length", 16, "--batch-size", 2, "--tokenizer", "bytes")


def test_placements_are_laid_over_each_other(small: Path, text: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = say("stability", small, "--data", text, "--vary", "placement=post,pre,deepnorm,sandwich", "--depth", 3,
               "--seeds", 2, "--out", out, *SMALL)  # fmt: skip
    assert done.exit_code == 0, done.output
    found = read_json(out / "stability.json")
    assert [model["name"] for model in found["models"]] == ["post", "pre", "deepnet", "sandwich"]
    for model in found["models"]:
        assert len(model["seeds"]) == 2 and model["spec"]["layers"] == 3
        for seed in model["seeds"]:
            assert len(seed["at"]["start"]["layers"]) == 3 and seed["at"]["start"]["output_update"] > 0
        assert model["seeds"][0]["at"]["start"] != model["seeds"][1]["at"]["start"]
    assert found["complete"] and found["provenance"]["versions"]["torch"]
    assert done.stdout.count("|mean grad|") == 4 and "last / first gradient" in done.stdout
    assert (out / "report.html").stat().st_size > 20_000


def test_training_counts_failures(small: Path, text: Path, tmp_path: Path) -> None:
    options = ("stability", small, "--data", text, "--seeds", 1, "--steps", 8, "--out", tmp_path / "out", *SMALL)
    slow = say(*options, "--lr", 1e-9)
    assert slow.exit_code == 0 and "1 of 1 failed" in slow.stdout, slow.output
    assert "unigram frequencies give" in slow.stdout
    found = read_json(tmp_path / "out" / "stability.json")["models"][0]["seeds"][0]
    assert len(found["losses"]) == 8 and set(found["at"]) == {"start", "end"}


def test_equal_commands_give_equal_numbers(small: Path, text: Path, tmp_path: Path) -> None:
    both = []
    for name in ("a", "b"):
        say("stability", small, "--data", text, "--seeds", 1, "--steps", 3, "--out", tmp_path / name, *SMALL)
        both.append(read_json(tmp_path / name / "stability.json")["models"])
    assert both[0] == both[1]


def test_a_checkpoint_is_measured_by_its_own_weights(text: Path, tmp_path: Path) -> None:
    spec = assay.ModelSpec.from_dict({"width": 16, "layers": 2, "vocab_size": 50, "attention": {"heads": 2}})
    folder = tmp_path / "model"
    model = assay.build(spec, seed=5)
    model.save(folder)
    done = say("stability", folder, "--data", "random", "--seeds", 1, "--out", tmp_path / "out", "--json", *SMALL)
    assert done.exit_code == 0, done.output
    row = json.loads(done.stdout)["models"][0]
    rms = {m["name"]: m["weight"] for m in row["seeds"][0]["at"]["start"]["matrices"]}
    weight = model.transformer.embedding.weight
    assert rms["embedding.weight"] == pytest.approx(float(weight.square().mean().sqrt()), rel=1e-5)
    refused = say("stability", folder, "--data", "random", "--vary", "placement=pre,post", "--out", tmp_path / "out")
    assert refused.exit_code == 2 and "checkpoint" in refused.stderr
    wordless = say("stability", folder, "--data", text, "--out", tmp_path / "out", *SMALL)
    assert wordless.exit_code == 2 and "--data random" in wordless.stderr


def test_a_runs_folder_is_read_by_its_own_tokenizer(small: Path, text: Path, tmp_path: Path) -> None:
    options = {"tokenizer": "bytes", "source": str(text)}
    run = assay.train(assay.ModelSpec.from_toml(small), options, out=tmp_path / "run", steps=2, batch_size=2, length=16)
    assert run.status == "done"
    done = say("stability", tmp_path / "run", "--data", text, "--seeds", 2, "--out", tmp_path / "out", *SMALL)
    assert done.exit_code == 0, done.output
    seeds = read_json(tmp_path / "out" / "stability.json")["models"][0]["seeds"]
    assert seeds[0]["batch_hash"] != seeds[1]["batch_hash"], "seeds differ in their batches"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("nothing-of-that-name",), "no preset"),
        (("tiny", "--vary", "placment=pre"), "placement"),
        (("tiny", "--vary", "train.steps=1,2"), "probes vary the model"),
        (("tiny", "--lr", -1), "positive"),
        (("tiny", "--optimizer", "adam"), "adamw or sgd"),
        (("tiny", "--data", "no/such/text"), "no/such/text"),
    ],
)
def test_mistakes_are_one_message(options: tuple, words: str, tmp_path: Path) -> None:
    done = say("stability", *options, "--out", tmp_path / "out", *SMALL)
    assert done.exit_code == 2 and words in done.stderr, done.output
    assert "Traceback" not in done.output


def test_axes_from_three_options() -> None:
    assert axes(["placement=post,pre"], ["width=32"], "2,4") == {
        "width": (32,), "placement": ("post", "pre"), "layers": (2, 4),
    }  # fmt: skip
    with pytest.raises(UserError, match="twice"):
        axes(["layers=1,2"], None, "3,4")


def test_help_of_group_and_command() -> None:
    assert "stability" in say("--help").stdout
    assert "Examples" in say("stability", "--help").stdout
