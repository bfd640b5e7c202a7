"""`assay inspect`: any SOURCE, without torch, at any size."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from tests.spec.strategies import specs
from typer.testing import CliRunner

from assay.cli.inspect import gather
from assay.cli.main import app
from assay.cli.numbers import count, flops
from assay.cli.parts import Node, lines, tree
from assay.spec.model import ModelSpec
from assay.spec.parameters import layout
from assay.spec.published import preset


def say(*arguments: str, width: int = 80) -> str:
    """What the command prints."""
    done = CliRunner().invoke(app, ["inspect", *arguments], env={"COLUMNS": str(width)})
    assert done.exit_code == 0, done.output
    return done.stdout


@given(specs())
@settings(max_examples=100)
def test_the_tree_holds_every_parameter_folded_or_not(spec: ModelSpec) -> None:
    assert tree(spec).size == tree(spec, full=True).size == spec.parameters()

    def leaves(node: Node, times: int = 1) -> int:
        inner = sum(leaves(part, times * node.copies) for part in node.parts.values())
        return inner + (times * node.copies if node.shape is not None else 0)

    number = len(list(layout(spec)))
    assert leaves(tree(spec)) == leaves(tree(spec, full=True)) == number


def test_equal_layers_are_folded_and_unequal_ones_are_not() -> None:
    names = [name.strip("│├└─ ") for name, _, _ in lines(tree(preset("gpt3")))]
    assert "blocks.0-95 x96" in names
    mixed = ModelSpec(layers=8).with_(placement={"kind": "mix", "mix": 0.25}, norm="layernorm")
    names = [name.strip("│├└─ ") for name, _, _ in lines(tree(mixed))]
    assert {"0-1 x2", "2-7 x6"} <= set(names) or {"blocks.0-1 x2", "blocks.2-7 x6"} <= set(names)
    full = [name.strip("│├└─ ") for name, _, _ in lines(tree(preset("gpt2"), full=True))]
    assert {str(layer) for layer in range(12)} <= set(full)


def test_experts_are_folded() -> None:
    names = [name.strip("│├└─ ") for name, _, _ in lines(tree(preset("mixtral")))]
    assert "experts.0-7 x8" in names


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("source", ["gpt3", "t5-11b", "chatglm-6b", "mixtral", "bert", "falcon-7b"])
def test_it_fits_the_terminal(source: str, width: int) -> None:
    said = say(source, width=width)
    assert max(len(line.rstrip()) for line in said.splitlines()) <= width
    for title in ("Parts", "Parameters", "FLOPs per token", "Memory", "Mask:", "lock"):
        assert title in said
    assert f"{int(preset(source).parameters()):,}" in said


def test_json_says_the_same() -> None:
    facts = json.loads(say("gpt3", "--json", "--length", "1024"))
    spec = preset("gpt3")
    assert facts["parameters"]["total"] == 174_604_259_328
    assert sum(v for k, v in facts["parameters"].items() if k != "total") == facts["parameters"]["total"]
    assert facts["length"] == 1024
    assert facts["hash"] == spec.hash
    assert facts["flops_per_token"]["training"] == pytest.approx(spec.flops(1024, training=True) / 1024)
    assert sum(facts["flops_per_token"]["by_part"].values()) == pytest.approx(facts["flops_per_token"]["forward"])
    assert facts["memory_bytes"]["float32"]["weights"] == 4 * 174_604_259_328
    # 2 (keys and values) x 96 layers x 12,288 features x 2 bytes
    assert facts["memory_bytes"]["bfloat16"]["cache_per_token"] == 2 * 96 * 12288 * 2
    assert facts["tree"]["parameters"] == 174_604_259_328
    assert ModelSpec.from_dict(facts["spec"]) == spec


def test_a_mixture_says_what_is_active() -> None:
    facts = gather(preset("mixtral"), 1)
    assert facts["active_parameters"] == pytest.approx(12.88e9, rel=0.001)
    assert gather(preset("gpt2"), 1)["active_parameters"] == preset("gpt2").parameters()
    assert "cache" not in gather(preset("bert"), 1)["memory_bytes"]["float32"]


def test_full_prints_every_field() -> None:
    said = say("tiny", "--full")
    assert "[norm]" in said, "brackets of TOML are no markup"
    assert 'pairing = "half"' in said


def test_files_and_run_folders(tmp_path: Path) -> None:
    spec = ModelSpec(width=64, name="mine")
    (tmp_path / "m.toml").write_text(spec.to_toml())
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "spec.json").write_text(spec.to_json(full=True))
    assert "mine" in say(str(tmp_path / "m.toml"))
    assert "mine" in say(str(tmp_path / "run"))
    done = CliRunner().invoke(app, ["inspect", str(tmp_path)])
    assert done.exit_code == 2
    assert "holds no spec.json" in done.stderr


def test_torch_is_not_loaded() -> None:
    code = (
        "import sys\nfrom assay.cli.main import main\n"
        "try:\n    main(['inspect', 'gpt3'])\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'torch', 'polars', 'altair', 'transformers', 'tokenizers'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "174,604,259,328" in done.stdout


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0"), (9999, "9,999"), (10_000, "10.00k"), (124_439_808, "124.4M"), (999_960, "1.000M"), (1.57e12, "1.570T")],
)
def test_counts(number: float, said: str) -> None:
    assert count(number) == said


@pytest.mark.parametrize(("number", "said"), [(3, "3 FLOPs"), (2.5e9, "2.5 GFLOPs"), (3.14e23, "3.14e+05 EFLOPs")])
def test_flops(number: float, said: str) -> None:
    assert flops(number) == said
