"""`assay table`: the norm table against what was read in papers, code and configurations, row by row."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from assay.cli.main import app
from assay.cli.table import page
from assay.spec.norm_table import MODELS, PUBLISHED, NormRow, norm_rows, size_rows
from assay.spec.published import preset, presets

ROOT = Path(__file__).parents[2]


def say(*arguments: str, width: int = 200) -> str:
    done = CliRunner().invoke(app, ["table", *arguments], env={"COLUMNS": str(width)})
    assert done.exit_code == 0, done.output
    return done.stdout


#: The published norm table, model by model: norm, placement, eps, bias, positions, activation, family, words of the
#: notes. None: nobody says. Norm, placement, eps, positions and activation are the project's table of facts; what that
#: leaves open (biases, the tanh form of GELU, and the rows of UL2, Mixtral, Gemma 1, OLMo 1 and GLM-4) is as the
#: released configurations have it.
KNOWN: dict[str, tuple[str | None, ...]] = {
    "GPT-2": ("layernorm", "pre", "1e-5", "all", "learned", "GELU (tanh)", "causal"),
    "GPT-3": ("layernorm", "pre", "1e-5", "all", "learned", "GELU (tanh)", "causal"),
    "OPT": ("layernorm", "pre", "1e-5", "all", "learned (+2)", "ReLU", "causal"),
    "BLOOM": ("layernorm", "pre", "1e-5", "all", "ALiBi", "GELU (tanh)", "causal", "embedding norm"),
    "Falcon": (
        "layernorm", "pre, parallel, one norm (7b); pre, parallel, two norms (40b, 180b)", "1e-5", "norm", "RoPE",
        "GELU", "causal", "multi-query (7b)", "grouped-query (40b, 180b)",
    ),
    "PaLM": ("layernorm", "pre, parallel, one norm", None, "none", "RoPE", "SwiGLU", "causal", "multi-query"),
    "U-PaLM": ("layernorm", "pre, parallel, one norm", None, "none", "RoPE", "SwiGLU", "prefix", "multi-query"),
    "LLaMA 1": ("rmsnorm", "pre", "1e-6", "none", "RoPE", "SwiGLU", "causal"),
    "LLaMA 2": ("rmsnorm", "pre", "1e-5", "none", "RoPE", "SwiGLU", "causal", "grouped-query (70b)"),
    "LLaMA 3": ("rmsnorm", "pre", "1e-5", "none", None, "SwiGLU", "causal", "grouped-query"),
    "Baichuan 1": ("rmsnorm", "pre", "1e-6", "none", "RoPE (7b); ALiBi (13b)", "SwiGLU", "causal"),
    "Baichuan 2": ("rmsnorm", "pre", "1e-6", "none", "RoPE (7b); ALiBi (13b)", "SwiGLU", "causal", "normalised head"),
    "Mistral": ("rmsnorm", "pre", "1e-5", "none", None, "SwiGLU", "causal", "grouped-query", "window 4096 (7b)"),
    "Mixtral": ("rmsnorm", "pre", "1e-5", "none", "RoPE 1e+06", "SwiGLU", "causal", "2 of 8 experts"),
    "Qwen 2": ("rmsnorm", "pre", "1e-6", "qkv", "RoPE 1e+06", "SwiGLU", "causal"),
    "Qwen 3": ("rmsnorm", "pre", "1e-6", "none", "RoPE 1e+06", "SwiGLU", "causal", "q/k norm a head"),
    "Gemma 1": ("rmsnorm", "pre", "1e-6", "none", "RoPE", "GeGLU (tanh)", "causal", "gain 1 + w"),
    "Gemma 2": (
        "rmsnorm", "sandwich", "1e-6", "none", "RoPE", "GeGLU (tanh)", "causal", "gain 1 + w", "embedding x sqrt(d)",
        "soft-cap 50 and 30",
    ),
    "OLMo 1": ("layernorm", "pre", "1e-5", "none", "RoPE", "SwiGLU", "causal", "no gain"),
    "OLMo 2": (
        "rmsnorm", "reordered", "1e-6", "none", "RoPE 500000", "SwiGLU", "causal", "q/k norm over the full width",
    ),
    "T5 v1.0": ("rmsnorm", "pre", "1e-6", "none", "relative 32/128", "ReLU", "encoder_decoder", "no 1/sqrt(d)"),
    "T5 v1.1": ("rmsnorm", "pre", "1e-6", "none", "relative 32/128", "GeGLU (tanh)", "encoder_decoder", "no 1/sqrt(d)"),
    "Flan-T5": ("rmsnorm", "pre", "1e-6", "none", "relative 32/128", "GeGLU (tanh)", "encoder_decoder", "no 1/sqrt(d)"),
    "UL2": ("rmsnorm", "pre", "1e-6", "none", "relative 32/128", "SwiGLU", "encoder_decoder", "no 1/sqrt(d)"),
    "BERT": ("layernorm", "post", "1e-12", "all", "learned", "GELU", "encoder", "embedding norm"),
    "BART": ("layernorm", "post", "1e-5", "all", "learned (+2)", "GELU", "encoder_decoder", "embedding norm"),
    "mBART": ("layernorm", "pre", "1e-5", "all", "learned (+2)", "GELU", "encoder_decoder", "embedding norm"),
    "CogView": ("layernorm", "sandwich", "1e-5", "all", "learned", "GELU (tanh)", "causal", "PB-relax 32"),
    "GLM-130B": (
        "layernorm", "DeepNorm-post (glm130b)", "1e-5", "all", "RoPE", "GeGLU", "prefix", "alpha 11.83",
    ),
    "ChatGLM-6B": (
        "layernorm", "DeepNorm-post (glm130b)", "1e-5", "all", "2D RoPE", "GELU (tanh)", "prefix", "alpha 7.483",
    ),
    "ChatGLM2-6B": ("rmsnorm", "pre", "1e-5", "qkv", "RoPE, 0.5 of a head", "SwiGLU", "causal", "grouped-query"),
    "GLM-4": ("rmsnorm", "pre", "1.5625e-7", "qkv", "RoPE, 0.5 of a head", "SwiGLU", "causal", "grouped-query"),
}  # fmt: skip

COLUMNS = ("norm", "placement", "eps", "bias", "positions", "activation", "family")


@pytest.mark.parametrize("row", norm_rows(), ids=lambda row: row.model)
def test_norms_are_those_of_the_published_table(row: NormRow) -> None:
    if row.model not in KNOWN:
        assert row.model in ("MiniLM", "SmolLM2"), "a model of the norm table that nothing holds"
        return
    known = KNOWN[row.model]
    for column, wanted in zip(COLUMNS, known, strict=False):
        assert wanted is None or getattr(row, column) == wanted, column
    notes = row.notes.split("; ")
    assert all(note in notes for note in known[len(COLUMNS) :]), notes


def test_every_named_model_has_a_row() -> None:
    assert set(KNOWN) <= set(MODELS)
    assert [row.model for row in norm_rows()] == list(MODELS)
    llama = next(row for row in norm_rows() if row.model == "LLaMA 3")
    assert all(part.startswith("RoPE 500000") for part in llama.positions.split("; "))


def test_sizes_hold_every_preset_and_add_up() -> None:
    rows = {row.preset: row for row in size_rows()}
    assert set(rows) == {name for name in presets() if not name.startswith("tiny")}
    assert len(rows) == len(size_rows()), "a preset under two names"
    for row in rows.values():
        assert sum(row.parts.values()) == row.total == preset(row.preset).parameters()


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts_are_met_to_their_last_digit(name: str) -> None:
    row = next(row for row in size_rows() if row.preset == name)
    assert row.published == PUBLISHED[name]
    assert row.deviation is not None
    digits = {"chatglm-6b": 5e6, "palm-540b": 5e6, "u-palm-540b": 5e6, "glm-130b": 5e7}
    assert abs(row.total - PUBLISHED[name]) <= digits.get(name, 5e5)


def test_formats_say_the_same() -> None:
    norms = json.loads(say("norms", "--format", "json"))
    assert list(csv.DictReader(io.StringIO(say("norms", "--format", "csv")))) == norms
    assert norms[0] == {
        "model": "GPT-2", "norm": "layernorm", "placement": "pre", "eps": "1e-5", "bias": "all", "positions": "learned",
        "activation": "GELU (tanh)", "family": "causal", "notes": "",
    }  # fmt: skip
    sizes = {row["preset"]: row for row in json.loads(say("sizes", "--format", "json"))}
    assert sizes["gpt3-175b"]["total"] == 174_604_259_328
    assert sizes["gpt2-124m"]["published"] is None
    rows = {row["preset"]: row for row in csv.DictReader(io.StringIO(say("sizes", "--format", "csv")))}
    assert rows["bloom-176b"]["total"] == "176247271424"
    for row in norms:
        assert row["model"] in say("norms")
    assert "174,604,259,328" in say("sizes")


def test_an_unknown_table_is_refused() -> None:
    done = CliRunner().invoke(app, ["table", "colours"])
    assert done.exit_code == 2
    assert "norms" in done.stderr


def test_the_page_is_made_from_the_code() -> None:
    text = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    assert text == page(), "python -m assay.cli.table > docs/models.md"


def test_torch_is_not_loaded() -> None:
    code = (
        "import sys\nfrom assay.cli.main import main\n"
        "try:\n    main(['table', 'norms'])\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'torch', 'polars', 'numpy'} & set(sys.modules)\nassert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
