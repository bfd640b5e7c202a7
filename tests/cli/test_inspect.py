"""`assay inspect`: any SOURCE, without torch, at any size."""

import json
import subprocess
import sys
import time
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
    assert "holds no published checkpoint" in done.stderr
    assert "no spec.json" in done.stderr


GPT3 = {
    "model_type": "gpt2", "vocab_size": 50257, "n_positions": 2048, "n_embd": 12288, "n_layer": 96, "n_head": 96,
    "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new",
}  # fmt: skip
GLM = {
    "model_type": "glm-130b", "num_layers": 70, "hidden_size": 12288, "inner_hidden_size": 32768,
    "vocab_size": 150528, "num_attention_heads": 96, "max_sequence_length": 2048, "layernorm_order": "post",
    "layernorm_epsilon": 1e-5, "mask_token_id": 150000, "gmask_token_id": 150001, "sop_token_id": 150004,
    "eop_token_id": 150005,
}  # fmt: skip
HEAVY = "{'torch', 'polars', 'altair', 'transformers', 'tokenizers', 'safetensors'}"


@pytest.mark.parametrize(
    ("fields", "count"), [(GPT3, 174_604_259_328), (GLM, int(preset("glm-130b").parameters()))], ids=["gpt3", "glm130b"]
)
@pytest.mark.parametrize("name", ["config.json", "sizes.json"])
def test_a_large_configuration_without_weights_takes_under_two_seconds(
    fields: dict[str, object], count: int, name: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(json.dumps(fields))
    code = (
        "import sys\nfrom assay.cli.main import main\n"
        f"try:\n    main(['inspect', {str(tmp_path if name == 'config.json' else tmp_path / name)!r}])\n"
        f"except SystemExit as end:\n    assert not end.code\n"
        f"heavy = {HEAVY} & set(sys.modules)\nassert not heavy, heavy"
    )
    best = float("inf")
    for _ in range(3):  # other work on the machine only adds
        begin = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        best = min(best, time.perf_counter() - begin)
        assert done.returncode == 0, done.stderr
        if best < 2:
            break
    assert f"{count:,}" in done.stdout
    assert "a description without weights" in done.stdout
    assert best < 2


def checkpoint(folder: Path, **more: object) -> Path:
    """A tiny LLaMA in its published format, written without assay."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    width, inner, vocabulary = 8, 12, 17
    shapes = {"model.embed_tokens": (vocabulary, width), "lm_head": (vocabulary, width), "model.norm": (width,)}
    layer = {f"self_attn.{n}_proj": (width, width) for n in "qkvo"}
    layer |= {"mlp.gate_proj": (inner, width), "mlp.up_proj": (inner, width), "mlp.down_proj": (width, inner)}
    layer |= {"input_layernorm": (width,), "post_attention_layernorm": (width,)}
    shapes |= {f"model.layers.{i}.{name}": shape for i in range(2) for name, shape in layer.items()}
    fields = {
        "model_type": "llama", "vocab_size": vocabulary, "hidden_size": width, "intermediate_size": inner,
        "num_hidden_layers": 2, "num_attention_heads": 2, "tie_word_embeddings": False, "rms_norm_eps": 1e-6,
        "max_position_embeddings": 32, "torch_dtype": "bfloat16",
    } | more  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(fields))
    tensors = {f"{name}.weight": torch.randn(shape).to(torch.bfloat16) for name, shape in shapes.items()}
    save_file(tensors, str(folder / "model.safetensors"))
    return folder


def test_a_published_folder(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "tiny-llama-hf")
    said = say(str(folder), width=120)
    assert "tiny-llama-hf" in said.splitlines()[0]
    assert "LLaMA: safetensors, bfloat16, 1 file" in said
    assert "21 tensors" in said
    facts = json.loads(say(str(folder), "--json"))
    size = (folder / "model.safetensors").stat().st_size
    assert facts["files"]["bytes"] == size
    assert facts["files"]["dtypes"] == {"bfloat16": 1.0}
    assert facts["parameters"]["total"] * 2 == size - 8 - int.from_bytes(
        (folder / "model.safetensors").read_bytes()[:8], "little"
    )
    assert json.loads(say(str(folder / "config.json"), "--json"))["parameters"] == facts["parameters"]


def test_a_saved_model_and_a_pickle(tmp_path: Path) -> None:
    import torch

    import assay

    model = assay.load(checkpoint(tmp_path / "published"))
    model.save(tmp_path / "saved")
    assert "assay: safetensors, float32, 1 file" in say(str(tmp_path / "saved"), width=120)
    (tmp_path / "pickle").mkdir()
    (tmp_path / "published" / "config.json").rename(tmp_path / "pickle" / "config.json")
    torch.save(
        {name: torch.zeros(1) for name in ("model.embed_tokens.weight",)}, tmp_path / "pickle" / "pytorch_model.bin"
    )
    assert "LLaMA: pickles (.bin), bfloat16, 1 file" in say(str(tmp_path / "pickle"), width=120)


def test_hints(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps(
            {
                "model_type": "baichuan", "vocab_size": 131, "hidden_size": 48, "intermediate_size": 56,
                "num_hidden_layers": 2, "num_attention_heads": 6, "rms_norm_eps": 1e-6, "model_max_length": 64,
            }
        )
    )  # fmt: skip
    facts = json.loads(say(str(tmp_path), "--json", "--hint", "position=alibi", "--hint", "norm_head=true"))
    assert facts["spec"]["positions"]["kind"] == "alibi"
    assert facts["spec"]["head"]["normalised"] is True
    for wrong, told in {"position": "is no NAME=VALUE", "color=red": "means nothing to Baichuan"}.items():
        done = CliRunner().invoke(app, ["inspect", str(tmp_path), "--hint", wrong], env={"COLUMNS": "200"})
        assert done.exit_code == 2
        assert told in done.stderr


def test_a_family_that_is_not_supported_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "mamba", "hidden_size": 8}')
    done = CliRunner().invoke(app, ["inspect", str(tmp_path)], env={"COLUMNS": "400"})
    assert done.exit_code == 2
    assert "the family 'mamba' is not supported" in done.stderr


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
