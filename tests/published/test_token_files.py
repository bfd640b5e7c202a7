"""The files of an imported tokenizer: an export has them as they came, and says what was changed since."""

import json
from pathlib import Path

import pytest
from tests.published.test_tokens import byte_level, llama

from assay.published.load import load
from assay.published.token_files import keep

TEMPLATE = "{% for m in messages %}{{ m.content }}<|end|>{% endfor %}"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder as publishers write it: more than what assay reads, and in a form of its own."""
    inner = byte_level()
    folder = llama(tmp_path / "source", inner.get_vocab_size())
    (folder / "tokenizer.json").write_text(json.dumps(json.loads(inner.to_str()), indent=3))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": {"content": "<|end|>", "lstrip": True},
        "something": "else",
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=7))
    (folder / "special_tokens_map.json").write_text('{"eos_token":   "<|end|>"}')
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    (folder / "tokenization_own.py").write_text("raise SystemExit")
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if "safetensors" not in path.name}


@pytest.mark.parametrize("form", ["hf", "assay"])
def test_an_export_has_the_files_as_they_came(source: Path, tmp_path: Path, form: str) -> None:
    load(source).save(tmp_path / "out", format=form)
    before, after = files(source), files(tmp_path / "out")
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"):
        assert after[name] == before[name], name
    assert "tokenization_own.py" not in after and not any(name.startswith(".") for name in after)


def test_what_was_changed_since_is_written(source: Path, tmp_path: Path) -> None:
    model = load(source)
    model.tokenizer.chat_template = "{{ messages[0].content }}"
    model.save(tmp_path / "out", format="hf")
    again = load(tmp_path / "out").tokenizer
    assert again.chat_template == "{{ messages[0].content }}" and again.eos_token == "<|end|>"
    assert again.settings["something"] == "else"
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (source / "tokenizer.json").read_bytes()


def test_a_source_that_is_gone_is_written_from_memory(source: Path, tmp_path: Path) -> None:
    model = load(source)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"):
        (source / name).unlink()
    model.save(tmp_path / "out", format="hf")
    again = load(tmp_path / "out").tokenizer
    assert again.encode("the fox") == model.tokenizer.encode("the fox") and again.chat_template == TEMPLATE


def test_a_folder_that_is_saved_into_itself_stays_whole(source: Path) -> None:
    before = files(source)
    load(source).save(source, format="hf")
    after = files(source)
    assert set(after) == set(before)
    assert all(after[name] == before[name] for name in before if name != "config.json")


def test_only_a_tokenizers_files_are_copied(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for name in ("vocab.txt", "merges.txt", "notes.txt", "config.json"):
        (tmp_path / "a" / name).write_text(name)
    assert keep(tmp_path / "a", tmp_path / "b") == {"vocab.txt", "merges.txt"}
    assert {path.name for path in (tmp_path / "b").iterdir()} == {"vocab.txt", "merges.txt"}
