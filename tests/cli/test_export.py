"""`assay export`: what is written loads again, here and in transformers; nothing is overwritten unasked."""

from pathlib import Path

import pytest
import torch
from tests.cli.test_inspect import checkpoint
from typer.testing import CliRunner

import assay
from assay.cli.export import written
from assay.cli.main import app
from assay.spec.model import ModelSpec


def say(*arguments: object, status: int = 0) -> str:
    done = CliRunner().invoke(app, ["export", *map(str, arguments)], env={"COLUMNS": "300"})
    assert done.exit_code == status, done.output
    return done.stdout if status == 0 else done.stderr


def logits(folder: Path) -> torch.Tensor:
    return assay.load(folder)(torch.arange(3, 11)[None]).logits


def test_published_to_published_and_to_ours(tmp_path: Path) -> None:
    import transformers

    source = checkpoint(tmp_path / "source")
    assert "as LLaMA" in say(source, tmp_path / "hf")
    assert "assay's own format" in say(source, tmp_path / "own", "--format", "assay")
    want = logits(source)
    assert torch.equal(logits(tmp_path / "hf"), want)
    assert torch.equal(logits(tmp_path / "own"), want)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf", dtype=torch.float32)
    assert torch.allclose(theirs(torch.arange(3, 11)[None]).logits, want, atol=1e-5)
    assert "as LLaMA" in say(tmp_path / "own", tmp_path / "back")
    assert torch.equal(logits(tmp_path / "back"), want)


def test_the_type_is_the_stored_one_unless_asked(tmp_path: Path) -> None:
    from safetensors import safe_open

    def types(folder: Path) -> set[str]:
        with safe_open(str(folder / "model.safetensors"), framework="pt") as file:
            return {str(file.get_tensor(name).dtype).removeprefix("torch.") for name in file.keys()}  # noqa: SIM118

    source = checkpoint(tmp_path / "source")  # stored in bfloat16
    say(source, tmp_path / "same")
    say(source, tmp_path / "wide", "--dtype", "float32")
    say(source, tmp_path / "own", "--format", "assay", "--dtype", "float16")
    assert [types(tmp_path / name) for name in ("same", "wide", "own")] == [{"bfloat16"}, {"float32"}, {"float16"}]
    assert "--dtype int8: is not supported" in say(source, tmp_path / "x", "--dtype", "int8", status=2)


def test_a_run_that_assay_trained(tmp_path: Path, text: Path) -> None:
    import transformers

    spec = ModelSpec.from_dict({"width": 32, "layers": 1, "attention": {"heads": 2}, "name": "small"})
    run = assay.train(spec, text, out=tmp_path / "run", steps=2, batch_size=2, length=32)
    assert "as LLaMA" in say(tmp_path / "run", tmp_path / "hf")
    ids = torch.arange(5, 15)[None]
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf", dtype=torch.float32)
    ours = assay.load(run.folder.path)
    assert torch.allclose(theirs(ids).logits, ours(ids).logits, atol=1e-5)


@pytest.mark.parametrize("kind", ["bpe", "bytes"])
def test_an_exported_run_reads_and_writes_the_same_text(kind: str, tmp_path: Path, text: Path) -> None:
    import transformers

    spec = ModelSpec.from_dict({"width": 32, "layers": 1, "attention": {"heads": 2}, "name": "small"})
    tokenizer = {"kind": "bytes"} if kind == "bytes" else {"vocab_size": 320}
    data = {"source": str(text), "tokenizer": tokenizer}
    run = assay.train(spec, data, out=tmp_path / "run", steps=8, batch_size=4, length=64, learning_rate=3e-3)
    assert "with the tokenizer" in say(tmp_path / "run", tmp_path / "hf")
    prompt = "the model <eos> réads"
    before, after = assay.load(run.folder.path), assay.load(tmp_path / "hf")
    ids = before.tokenizer.encode(prompt).tolist()
    assert after.tokenizer.encode(prompt) == ids
    want = before.generate(torch.tensor([ids]), max_new_tokens=24, ignore_eos=True)
    assert torch.equal(after.generate(torch.tensor([ids]), max_new_tokens=24, ignore_eos=True), want)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf", dtype=torch.float32)
    given = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")(prompt, return_tensors="pt")
    assert given["input_ids"].tolist() == [ids]
    assert torch.allclose(theirs(**given).logits, before(torch.tensor([ids])).logits, atol=1e-4)
    how = ["--max-new-tokens", "24", "--ignore-eos", "--sample", "--seed", "1"]
    told = [CliRunner().invoke(app, ["generate", str(tmp_path / name), prompt, *how]) for name in ("run", "hf")]
    assert told[0].exit_code == 0 and len(told[0].stdout) > 5, told[0].output
    assert told[0].stdout == told[1].stdout


def test_what_stands_in_the_way_is_named_before_anything_is_written(tmp_path: Path) -> None:
    spec = ModelSpec.from_dict({"width": 32, "layers": 2, "attention": {"heads": 2}, "placement": "subln"})
    assay.build(spec).save(tmp_path / "model")
    told = say(tmp_path / "model", tmp_path / "hf", status=2)
    assert "no published family can express this model" in told
    assert "placement.kind = subln" in told
    assert not (tmp_path / "hf").exists()
    assert "assay's own format" in say(tmp_path / "model", tmp_path / "own", "--format", "assay")


def test_a_folder_that_holds_something_is_kept(tmp_path: Path) -> None:
    source, folder = checkpoint(tmp_path / "source"), tmp_path / "there"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    (folder / "pytorch_model.bin").write_bytes(b"old")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {}}')
    (folder / "spec.json").write_text(ModelSpec(width=64).to_json())
    for name in ("tokenizer.json", "vocab.txt", "assay_tokenizer.json"):
        (folder / name).write_text("of another model")
    assert "is not empty. Give a new DIR, or --force" in say(source, folder, status=2)
    assert (folder / "pytorch_model.bin").read_bytes() == b"old"
    say(source, folder, "--force")
    assert {path.name for path in folder.iterdir()} == {"notes.txt", "config.json", "model.safetensors"}
    assert torch.equal(logits(folder), logits(source))
    assert "is a file" in say(source, folder / "notes.txt", "--force", status=2)


@pytest.mark.parametrize("inner", ["", "config.json"])
def test_the_source_is_never_written_over(inner: str, tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "source")
    before = (source / "model.safetensors").read_bytes()
    assert "holds the SOURCE" in say(source / inner if inner else source, source, "--force", status=2)
    assert (source / "model.safetensors").read_bytes() == before


def test_a_description_has_nothing_to_export(tmp_path: Path) -> None:
    assert "without weights" in say("gpt2", tmp_path / "x", status=2)
    assert not (tmp_path / "x").exists()
    source = checkpoint(tmp_path / "source")
    (source / "model.safetensors").unlink()
    assert "no weights" in say(source, tmp_path / "x", status=2)


def test_a_tokenizer_that_assay_does_not_read_goes_along(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "source")
    (source / "vocab.txt").write_text("[UNK]\nword\n")
    told = say(source, tmp_path / "hf")
    assert (tmp_path / "hf" / "vocab.txt").read_text() == "[UNK]\nword\n" and "with the tokenizer" not in told


def test_progress_counts_unfinished_files(tmp_path: Path) -> None:
    (tmp_path / ".model.safetensors.part").write_bytes(b"123")
    (tmp_path / "model-00001-of-00002.safetensors").write_bytes(b"12345")
    (tmp_path / "config.json").write_bytes(b"{}")
    assert written(tmp_path) == 8
    assert written(tmp_path / "nothing") == 0


def test_a_preset_is_not_a_checkpoint() -> None:
    with pytest.raises(assay.UserError, match=r"gpt2: is a preset.*assay\.build"):
        assay.load("gpt2")
