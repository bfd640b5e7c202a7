"""`assay diff`: nothing that has an effect is passed over, and nothing that has none is listed."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from tests.cli.test_inspect import checkpoint
from tests.spec.strategies import specs
from typer.testing import CliRunner

from assay.cli.differences import GROUPS, differences, facts
from assay.cli.main import app
from assay.published.compare import meaning
from assay.spec.model import ModelSpec
from assay.spec.published import preset


def say(*arguments: str, width: int = 100, status: int = 0) -> str:
    done = CliRunner().invoke(app, ["diff", *arguments], env={"COLUMNS": str(width)})
    assert done.exit_code == status, done.output
    return done.stdout if status == 0 else done.stderr


def told(a: str, b: str) -> dict[str, tuple[Any, Any]]:
    rows = json.loads(say(a, b, "--format", "json"))["differences"]
    return {row["field"]: (row["a"], row["b"]) for row in rows}


@given(specs(), specs())
@settings(max_examples=60, deadline=None)
def test_two_specs_without_differences_compute_the_same(a: ModelSpec, b: ModelSpec) -> None:
    rows = differences(a, b)
    assert not differences(a, a)
    assert not differences(a, ModelSpec.from_toml(a.to_toml()))
    if not rows:
        assert meaning(a) == meaning(b)
    assert [(row.group, row.field, row.b, row.a) for row in rows] == [
        (row.group, row.field, row.a, row.b) for row in _in_order(differences(b, a), rows)
    ]


def _in_order(rows: list[Any], other: list[Any]) -> list[Any]:
    place = {(row.group, row.field): number for number, row in enumerate(other)}
    return sorted(rows, key=lambda row: place[row.group, row.field])


@given(specs())
@settings(max_examples=40, deadline=None)
def test_every_axis_is_known_and_every_meaning_is_shown(spec: ModelSpec) -> None:
    shown = facts(spec)
    assert {group for group, _ in shown} <= set(GROUPS)
    fields = {field for _, field in shown}
    missing = {name for name in meaning(spec) if name not in fields}
    parts = {name for name in missing if name.startswith(("positions.scaling.", "feedforward.experts."))}
    idle = set() if spec.norm.kind == "rmsnorm" else {"norm.fraction"}
    idle |= set() if spec.positions.xpos else {"positions.xpos_base"}
    assert missing - parts - idle == set(), "a field that has an effect is in no row"


@pytest.mark.parametrize("field", ["norm.eps", "attention.softcap", "embedding.scale", "head.softcap", "dropout"])
def test_a_change_of_one_field_is_one_row(field: str) -> None:
    base = ModelSpec()
    (row,) = differences(base, base.with_(**{field: 0.03125}))
    assert row.field == field
    assert row.b == 0.03125


def test_what_only_spells_out_a_default_is_no_difference() -> None:
    base = ModelSpec(width=128)
    spelled = base.with_(**{"attention.kv_heads": 4, "attention.head_width": 32, "feedforward.width": 352})
    assert spelled != base
    assert differences(base, spelled) == []


def test_llama_one_and_three() -> None:
    found = told("llama-7b", "llama3-8b")
    assert found["norm.eps"] == (1e-6, 1e-5)
    assert found["positions.theta"] == (10_000.0, 500_000.0)
    assert found["attention.kv_heads"] == (32, 8)
    assert found["feedforward.width"] == (11008, 14336)
    assert found["total"] == (6_738_415_616, 8_030_261_248)
    assert "norm.kind" not in found
    assert "attention.head_width" not in found


def test_chatglm_one_and_two() -> None:
    found = told("chatglm-6b", "chatglm2-6b")
    assert found["family"] == ("prefix", "causal")
    assert found["norm.kind"] == ("layernorm", "rmsnorm")
    assert found["placement.kind"] == ("glm130b", "pre")
    assert found["placement.alpha"] == (pytest.approx(56**0.5), 1.0)
    assert found["norm.fraction"] == (None, 1.0), "pRMSNorm's share says nothing of a LayerNorm"


def test_two_stacks() -> None:
    found = told("bert", "t5-base")
    assert found["layers"] == (12, [12, 12])
    assert found["positions.offset"] == (0, None)
    assert found["cross_attention"][0] == 0
    assert "12 + 12" in say("bert", "t5-base")


def test_equal_models_are_said_to_be_equal() -> None:
    said = say("t5-v1.1-xl", "flan-t5-xl")
    assert said.strip() == "t5-v1.1-xl and flan-t5-xl are equal: every field, 2,849,757,184 parameters."
    data = json.loads(say("gpt2", "gpt2-124m", "--format", "json"))
    assert data["equal"] is True
    assert data["differences"] == []
    assert say("gpt2", "gpt2", "--format", "csv") == "group,field,a,b\n"


def test_training_fields_alone_leave_the_function(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(ModelSpec(name="a").to_toml())
    (tmp_path / "b.toml").write_text(ModelSpec(name="b", dropout=0.5).to_toml())
    said = say(str(tmp_path / "a.toml"), str(tmp_path / "b.toml"))
    assert "The same function of the same weights" in said
    data = json.loads(say(str(tmp_path / "a.toml"), str(tmp_path / "b.toml"), "--format", "json"))
    assert (data["equal"], data["same_function"]) == (False, True)
    (tmp_path / "c.toml").write_text(ModelSpec(name="c", norm="layernorm").to_toml())  # type: ignore[arg-type]
    assert "differ, in norm" in say(str(tmp_path / "a.toml"), str(tmp_path / "c.toml"))


def test_csv_and_full() -> None:
    rows = list(csv.DictReader(io.StringIO(say("gpt2", "opt-125m", "--format", "csv"))))
    assert {"group": "feed-forward", "field": "feedforward.activation", "a": "gelu_tanh", "b": "relu"} in rows
    every = list(csv.DictReader(io.StringIO(say("gpt2", "opt-125m", "--format", "csv", "--full"))))
    assert {"group": "norm", "field": "norm.kind", "a": "layernorm", "b": "layernorm"} in every
    assert len(every) > len(rows)
    assert "norm.kind" in say("gpt2", "opt-125m", "--full")
    assert "norm.kind" not in say("gpt2", "opt-125m")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_it_fits_the_terminal(width: int) -> None:
    said = say("chatglm-6b", "llama3.1-8b", width=width)
    assert max(len(line.rstrip()) for line in said.splitlines()) <= width
    assert "…" not in said
    for group in GROUPS:
        if group != "embedding":  # equal
            assert group in said


def test_a_published_folder_without_torch(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "mine")
    code = (
        "import sys\nfrom assay.cli.main import main\n"
        f"try:\n    main(['diff', {str(folder)!r}, 'llama-7b'])\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'torch', 'polars', 'transformers', 'tokenizers'} & set(sys.modules)\nassert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "mine" in done.stdout.splitlines()[0]
    assert f"{preset('llama-7b').parameters():,}" in done.stdout


def test_a_hint_goes_to_the_side_that_takes_it(tmp_path: Path) -> None:
    config = {
        "model_type": "baichuan", "vocab_size": 131, "hidden_size": 48, "intermediate_size": 56,
        "num_hidden_layers": 2, "num_attention_heads": 6, "rms_norm_eps": 1e-6, "model_max_length": 64,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    folder = checkpoint(tmp_path / "mine")
    hints = ("--hint", "position=alibi", "--hint", "norm_head=true")
    assert "alibi" in say(str(tmp_path), str(folder), *hints)
    assert "means nothing to" in say(str(folder), str(folder), "--hint", "colour=red", width=200, status=2)


def test_what_is_no_source() -> None:
    assert "no preset, file or folder" in say("gpt2", "gpt-nothing-like-it", status=2)


def test_train_takes_any_source(tmp_path: Path) -> None:
    from assay.training.api import make_run

    assert make_run("tiny", steps=1).model.name == preset("tiny").name
    folder = checkpoint(tmp_path / "mine")
    assert make_run(str(folder), steps=1).model.layers == 2
    assert make_run(folder / "config.json", steps=1).model.width == 8
