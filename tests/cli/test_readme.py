"""What the README says is so."""

import re
from pathlib import Path

import pytest

import assay
from assay.cli.main import COMMANDS, load

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_its_model_is_one() -> None:
    (toml,) = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    spec = assay.ModelSpec.from_toml(toml)
    assert (spec.family, spec.placement.kind, spec.attention.kv_heads) == ("prefix", "sandwich", 2)
    for axis in ("family", "norm", "positions", "kind"):
        said, others = re.search(rf'{axis} = "(\w+)" +# (.*)', toml).groups()  # type: ignore[union-attr]
        path = {"kind": "placement", "family": "family"}.get(axis, axis)
        for value in (said, *(other for other in others.split(", ") if other.isidentifier())):
            if value != "relative":
                assert spec.with_(**{path: value})


def test_its_refusal_is_the_message() -> None:
    with pytest.raises(assay.UserError) as caught:
        assay.ModelSpec.from_dict({"width": 130})
    assert f"UserError: {caught.value}" in TEXT


def test_its_numbers_are_counted() -> None:
    assert assay.preset("llama-7b").parameters() == 6738415616
    assert "6738415616" in TEXT
    assert 110 <= len(assay.presets()) <= 130, "the README says about 120"


def test_its_commands_and_options_are_there() -> None:
    lines = re.findall(r"^assay ([\w-]+)(.*)$", TEXT, re.MULTILINE)
    assert {name for name, _ in lines} == set(COMMANDS), "the README has a line for every command, and no other"
    for name, rest in lines:
        command = load(name)
        if hasattr(command, "commands"):  # a group: its own command is the first word
            words = rest.split("#")[0].split()
            if not words:  # the group alone
                continue
            word = words[0]
            assert word in command.commands, f"{name} {word}"
            command = command.commands[word]
        known = {option for parameter in command.params for option in parameter.opts}
        assert set(re.findall(r"--[\w-]+", rest)) <= known, name


def test_its_diff_table_and_presets_answer(capsys: pytest.CaptureFixture[str]) -> None:
    from assay.cli.main import main

    lines = re.findall(r"^assay ((?:diff|table) .*)$", TEXT, re.MULTILINE)
    assert len(lines) == 3
    for line in lines:
        with pytest.raises(SystemExit) as ended:
            main(line.split())
        assert not ended.value.code
        assert capsys.readouterr().out


def test_its_links_lead_somewhere() -> None:
    targets = set(re.findall(r"\]\((?!http)([^)]+)\)", TEXT))
    assert {"docs/design.md", "docs/log.md", "docs/models.md"} <= targets
    for target in targets:
        assert (ROOT / target).is_file(), target
