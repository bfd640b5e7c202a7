"""`assay train`: options become a run, a run a folder, and the folder a SOURCE."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import assay
from assay.cli import train as command
from assay.cli.main import app
from assay.errors import UserError


def say(*arguments: object) -> Result:
    """What the command does and prints."""
    return CliRunner().invoke(app, ["train", *map(str, arguments)], env={"COLUMNS": "200"})


def described(*changes: str, **more: object) -> assay.RunSpec:
    """The run of a few options."""
    fields = {"objective": None, "seed": 0, "budget": None, "steps": None, **more}
    return command.describe("tiny", list(changes), {}, {}, **fields)  # type: ignore[arg-type]


def test_options_become_the_run() -> None:
    run = described("norm=layer", "train.optimizer.beta2=0.99", seed=3, objective="causal_lm")
    assert (run.model.norm.kind, run.train.optimizer.beta2, run.seed) == ("layernorm", 0.99, 3)
    assert run.train.budget == 3e12
    assert described(steps=5).train.steps == 5
    assert described(steps=5).train.budget is None
    assert described().labels == {}
    assert str(described("family=prefix").objective.kind) == "prefix_lm"


def test_the_same_options_are_the_same_run() -> None:
    assert described("norm=layer").hash == described("norm=layernorm").hash
    assert described(seed=1).hash != described().hash


def test_one_value_each() -> None:
    with pytest.raises(UserError, match=r"--set norm: 2 values.*compare --vary"):
        described("norm=layer,rms")


@pytest.mark.slow
def test_a_run_from_start_to_source(small: Path, text: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = (small, "--data", text, "--out", out, "--tokenizer", "bytes", "--steps", 6, "--length", 64, "--lr", 1e-2)
    done = say(*options)
    assert done.exit_code == 0, done.output
    assert "bits per byte" in done.stdout
    assert "step 0:" in done.stderr, "no terminal: a line an evaluation"
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    train = [row for row in rows if row["kind"] == "train"]
    assert len(train) == 6
    assert train[-1]["loss"] < train[0]["loss"]

    again = say(*options)
    assert again.exit_code == 2
    assert "holds a run. Go on with it with --resume" in again.stderr
    resumed = say(*options, "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert (out / "metrics.jsonl").read_text().count('"train"') == 6, "nothing is done twice"
    another = say(*options, "--resume", "--seed", 1)
    assert another.exit_code == 2
    assert "another run" in another.stderr

    inspected = CliRunner().invoke(app, ["inspect", str(out)])
    assert inspected.exit_code == 0, inspected.output
    assert "small" in inspected.stdout
    model = assay.load(out)
    assert model.spec.vocab_size == 299
    assert model.spec == assay.resolve(out)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--steps", 3, "--budget", "1e9"), "steps: 3 and budget 1e+09 are both given"),
        (("--steps", 0), "steps = 0"),
        (("--steps", 3, "--schedule", "cosin"), "Did you mean 'cosine'"),
        (("--steps", 3, "--objective", "causal"), "objective.kind = 'causal'"),
        (("--steps", 3, "--set", "nrom=layer"), "nrom"),
        (("--steps", 3, "--tokenizer", "words"), "tokenizer.kind = 'words'"),
        (("--steps", 3, "--vocab-size", 10), "vocab_size = 10 is too small"),
        (("--steps", 3, "--batch-size", 4, "--accumulation", 3), "accumulation: 3 does not divide batch_size 4"),
        (("--steps", 3, "--data", "no/such/text"), "no/such/text"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(
    small: Path, tmp_path: Path, options: tuple[object, ...], said: str
) -> None:
    done = say(small, "--out", tmp_path / "run", *options)
    assert done.exit_code == 2, done.output
    assert said in done.stderr
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_budget_too_small_for_a_step(small: Path, text: Path, tmp_path: Path) -> None:
    done = say(small, "--data", text, "--budget", "1000", "--out", tmp_path / "run")
    assert done.exit_code == 2
    assert "budget = 1000" in done.stderr
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_model_larger_than_the_machine(tmp_path: Path) -> None:
    done = say("llama3.1-405b", "--out", tmp_path / "run")
    assert done.exit_code == 2
    assert "this machine has" in done.stderr


@pytest.mark.slow
def test_a_run_goes_on_from_another_with_the_mixture(small: Path, text: Path, tmp_path: Path) -> None:
    common = ("--data", text, "--steps", 4, "--length", 64)
    assert say(small, *common, "--out", tmp_path / "a", "--tokenizer", "bytes").exit_code == 0
    recipe = ("--init", tmp_path / "a", "--objective", "ul2", "--set", "objective.mixture=upalm")
    done = say(*recipe, *common, "--out", tmp_path / "b")
    assert done.exit_code == 0, done.output
    about = json.loads((tmp_path / "b" / "run.json").read_text())
    assert about["init"]["identity"] == "run:" + json.loads((tmp_path / "a" / "run.json").read_text())["hash"]
    assert about["objective"]["mixture"] == "upalm"
    assert say(*recipe, *common, "--out", tmp_path / "b", "--resume").exit_code == 0
    for options, said in (
        (("tiny", "--init", tmp_path / "a"), "its weights do not fit"),
        (("--init", tmp_path / "a", "--tokenizer", "bpe"), "its weights know no other tokens"),
        (("--init", "tiny"), "has no weights"),
        ((), "SOURCE: none is given"),
    ):
        refused = say(*options, *common)
        assert refused.exit_code == 2 and said in refused.stderr, refused.output
