"""SOURCE means a preset, a spec file or a run's folder; anything else is told with what would work."""

from pathlib import Path

import pytest

from assay.errors import UserError
from assay.spec.model import ModelSpec
from assay.spec.source import resolve, resolve_study
from assay.spec.study import StudySpec


def test_a_study_from_a_file_a_folder_or_a_model(tmp_path: Path) -> None:
    study = StudySpec(seeds=2)
    (tmp_path / "study.toml").write_text(study.to_toml())
    (tmp_path / "s.json").write_text(study.to_json())
    for source in (tmp_path, tmp_path / "study.toml", str(tmp_path / "s.json")):
        assert resolve_study(source) == study
    assert resolve_study("tiny-llama") == StudySpec(model=resolve("tiny-llama"))
    with pytest.raises(UserError, match="no preset"):
        resolve_study("tiny-lama-x")
    (tmp_path / "wrong.toml").write_text("seeds = 0\n")
    with pytest.raises(UserError, match=r"wrong\.toml: seeds = 0"):
        resolve_study(tmp_path / "wrong.toml")


def test_a_preset() -> None:
    assert resolve("gpt2").name == "gpt2-124m"
    assert resolve("llama3.1-8b").layers == 32
    assert resolve("qwen2.5-3b").width == 2048


def test_a_spec_file(tmp_path: Path) -> None:
    spec = ModelSpec(width=64, name="mine")
    (tmp_path / "m.toml").write_text(spec.to_toml())
    (tmp_path / "m.json").write_text(spec.to_json(full=True))
    assert resolve(tmp_path / "m.toml") == resolve(str(tmp_path / "m.json")) == spec


def test_a_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ModelSpec(width=64)
    run = tmp_path / "out" / "runs" / "1a2b"
    run.mkdir(parents=True)
    (run / "spec.json").write_text(spec.to_json(full=True))
    assert resolve(run) == resolve(f"{run}/") == spec
    with pytest.raises(UserError, match=r"a study of 1 runs.*runs.1a2b"):
        resolve(tmp_path / "out")
    monkeypatch.chdir(run.parent)
    assert resolve("1a2b") == spec, "a folder beside us needs no slash"


def test_a_preset_wins_over_a_folder_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gpt2").mkdir()
    (tmp_path / "gpt2" / "spec.json").write_text(ModelSpec(width=64).to_json())
    monkeypatch.chdir(tmp_path)
    assert resolve("gpt2").width == 768
    assert resolve("./gpt2").width == 64


def test_what_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "weights" / "config.json").write_text("{}")
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    (tmp_path / "model.yaml").write_text("width: 3")
    (tmp_path / "model.pth").write_bytes(b"PK")
    (tmp_path / "study.toml").write_text(StudySpec(model=ModelSpec(width=64)).to_toml())
    for source, said in {
        "": "SOURCE is empty",
        "lama-7b": r"no preset, file or folder.*Did you mean 'llama-7b'",
        "zzzzz": r"zzzzz: no preset.*Known: tiny",
        str(tmp_path / "modle.gguf"): r"no such file or folder\. Did you mean 'model\.gguf'",
        str(tmp_path / "x" / "y.toml"): r"no such file or folder\. Check the path",
        str(tmp_path / "empty"): r"holds no spec\.json",
        str(tmp_path / "weights"): r"holds no spec\.json",
        str(tmp_path / "model.gguf"): r"ends in \.toml or \.json",
        str(tmp_path / "model.yaml"): r"ends in \.toml or \.json",
        str(tmp_path / "model.pth"): r"weights alone.*Give the whole folder",
        str(tmp_path / "study.toml"): r"describes a study.*--dry-run",
    }.items():
        with pytest.raises(UserError, match=said):
            resolve(source)


def test_a_wrong_field_in_a_file_is_told_with_the_file(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text("widht = 64\n")
    with pytest.raises(UserError, match=r"m\.toml: widht.*Did you mean 'width'"):
        resolve(tmp_path / "m.toml")


def test_a_reader_of_published_formats_is_asked_for_what_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def published(source: str | Path) -> ModelSpec:
        asked.append(str(source))
        return ModelSpec(width=64)

    spec = ModelSpec(width=32)
    (tmp_path / "weights").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "weights" / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    (tmp_path / "m.json").write_text(spec.to_json())
    (tmp_path / "study.json").write_text(StudySpec(seeds=2).to_json())
    monkeypatch.chdir(tmp_path)
    theirs = ["weights", "weights/config.json", "model.gguf", "owner/name", "owner/name-1.5b"]
    for source in theirs:
        assert resolve(source, published=published).width == 64
    assert asked == theirs
    assert resolve_study("weights", published=published).model.width == 64
    asked.clear()
    assert resolve("m.json", published=published) == spec
    assert resolve("gpt2", published=published).width == 768
    for source, said in {
        "empty": r"holds no spec\.json",
        "study.json": "describes a study",
        "weights/nothing": r"no such file or folder",
        "owner/name.toml": r"no such file or folder",
        "../x": r"no such file or folder",
        "a/b/c": r"no such file or folder",
    }.items():
        with pytest.raises(UserError, match=said):
            resolve(source, published=published)
    assert asked == []
