"""`assay plan`: what it prints, its page, JSON, tables in docs, and what it refuses."""

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from assay.cli.main import app

DOCS = Path(__file__).parents[2] / "docs" / "scale.md"


def say(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["plan", *map(str, arguments)], env={"COLUMNS": "200"})


def test_a_plan_shows_layout_reasons_parts_and_every_assumption() -> None:
    done = say("llama-65b", "--gpus", "64", "--hardware", "h100", "--tokens", "1.4e12")
    assert done.exit_code == 0, done.output
    said = "fully sharded|torchrun --nnodes 8 --nproc-per-node 8|--parallel fsdp|a step|memory of a GPU|"
    said += "all-gather of block|reduce-scatter of root|other layouts|modelled only|between failures|"
    said += "1.40 T tokens|critical about|MFU"
    for words in said.split("|"):
        assert words in done.stdout, words
    for name in ("matmul share", "overlap", "inside", "outside", "memory share", "network share", "batch tokens"):
        assert name in done.stdout, name


@pytest.mark.parametrize("switch", ["on", "off"])
def test_the_command_trains_what_was_planned(switch: str) -> None:
    line = next(x for x in say("gpt2", "--gpus", "8", "--checkpointing", switch).stdout.splitlines() if "torchrun" in x)
    assert ("--set train.checkpointing=true" in line) == (switch == "on")


def test_json_holds_parts_that_add_up() -> None:
    data = json.loads(say("gpt2", "--gpus", "16", "--outside", "1e9", "--json").stdout)
    chosen = data["chosen"]
    assert sum(v for k, v in chosen["time"].items() if k != "total") == pytest.approx(chosen["time"]["total"])
    assert sum(v for k, v in chosen["memory"].items() if k != "total") == pytest.approx(chosen["memory"]["total"])
    assert [a["name"] for a in data["assumptions"] if a["given"]] == ["outside"]
    assert chosen["tokens_per_second"] == pytest.approx(data["batch_tokens"] / chosen["time"]["total"])


@pytest.mark.parametrize("counts", ["8", "1,8,64"])
def test_a_page_holds_the_sweep_and_loads_nothing(tmp_path: Path, counts: str) -> None:
    done = say("llama-7b", "--hardware", "h100", "--sweep", counts, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    assert ("does not fit" in done.stdout) == counts.startswith("1")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "What is assumed" in html and "MFU" in html and "src=" not in html
    assert html.count("<svg") == (8 if "," in counts else 0)  # four charts, wide and narrow
    points = json.loads((tmp_path / "plan.json").read_text())["points"]
    assert [point["gpus"] for point in points] == [int(n) for n in counts.split(",")]


def test_the_check_tables_published_runs() -> None:
    done = say("--check")
    assert done.exit_code == 0
    for name in ("palm-540b", "llama-65b", "bloom-176b", "glm-130b", "mt-nlg-530b", "off by", "Chowdhery et al. 2022"):
        assert name in done.stdout
    rows = json.loads(say("--check", "--json").stdout)
    assert len(rows) >= 18 and all(row["source"] and row["laid_out"] for row in rows)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "SPEC is missing"),
        (("gpt2",), "--gpus: say how many"),
        (("gpt2", "--gpus", "8", "--sweep", "8"), "say the same thing"),
        (("gpt2", "--sweep", "8,x"), "no list of whole numbers"),
        (("gpt2", "--sweep", "8,0"), "0 is below 1"),
        (("gpt2", "--gpus", "0"), "--gpus 0"),
        (("gpt2", "--gpus", "8", "--hardware", "abacus"), "no data of that machine"),
        (("gpt2", "--gpus", "8", "--checkpointing", "maybe"), "--checkpointing maybe"),
        (("gpt2", "--gpus", "8", "--markdown"), "--markdown"),
        (("gpt2", "--gpus", "8", "--batch-tokens", "1000"), "--batch-tokens 1000"),
        (("llama-65b", "--gpus", "2"), "does not fit on 2 x"),
        (("gpt2", "--gpus", "8", "--overlap", "0"), "--overlap"),
    ],
)
def test_mistakes_are_one_message(arguments: tuple[str, ...], words: str) -> None:
    done = say(*arguments)
    assert done.exit_code == 2 and words in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_a_sweep_in_which_nothing_fits_is_a_mistake() -> None:
    done = say("llama-65b", "--sweep", "1,2")
    assert done.exit_code == 2 and "does not fit on 1 x" in done.stderr


def documented() -> list[tuple[str, str]]:
    """(command, table) of every table in docs/scale.md that names its command."""
    found = re.findall(r"`assay (plan [^`]*--markdown)`[^\n]*\n\n((?:\|[^\n]*\n)+)", DOCS.read_text(encoding="utf-8"))
    return [(command, table) for command, table in found]


def test_tables_in_the_docs_are_those_that_their_commands_print() -> None:
    tables = documented()
    assert len(tables) >= 4
    for command, table in tables:
        assert CliRunner().invoke(app, shlex.split(command)).stdout == table, command
