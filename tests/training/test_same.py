"""Going on with a run under another description, text or tokenizer is refused, and the difference shown."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assay.errors import UserError
from assay.runs import RunFolder
from assay.spec.study import RunSpec
from assay.training.loop import train_run
from assay.training.same import differences
from assay.training.start import text_of
from assay.training.text import resolve

Tiny = Callable[..., RunSpec]


@pytest.fixture
def begun(tiny: Tiny, tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    assert train_run(tiny(steps=3), folder, stop=lambda: True)["status"] == "stopped"
    return folder


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"batch_size": 8}, ["train.batch_size: 4 -> 8"]),
        ({"optimizer": {"learning_rate": 0.01}}, ["train.optimizer.learning_rate: 0.003 -> 0.01"]),
        ({"model": {"width": 32, "norm": "layernorm"}}, ["model.width: 16 -> 32", "model.norm.kind: rmsnorm -> layer"]),
        ({"steps": 4, "schedule": "linear"}, ["train.steps: 3 -> 4", "train.schedule.kind: cosine -> linear"]),
    ],
)
def test_another_description_is_refused_field_by_field(
    tiny: Tiny, begun: RunFolder, changes: dict[str, Any], said: list[str]
) -> None:
    before = {file: file.read_bytes() for file in begun.path.rglob("*") if file.is_file()}
    with pytest.raises(UserError, match=r"holds another run than the one given\. .* Saved -> given:\n") as refused:
        train_run(tiny(**{"steps": 3} | changes), begun)
    for line in said:
        assert f"\n  {line}" in str(refused.value)
    assert {file: file.read_bytes() for file in before} == before, "nothing was touched"


def test_seed_objective_and_data_are_told_apart(tiny: Tiny, begun: RunFolder) -> None:
    run = tiny(steps=3)
    data = run.data.model_copy(update={"heldout": 0.3})
    for other, line in (
        (run.model_copy(update={"seed": 7}), "seed: 0 -> 7"),
        (run.model_copy(update={"data": data}), "data.heldout: 0.2 -> 0.3"),
        (tiny("prefix", "prefix_lm", steps=3), "objective.kind: causal_lm -> prefix_lm"),
    ):
        with pytest.raises(UserError, match=f"\n  {line}"):
            train_run(other, begun)


def test_how_it_is_spread_may_change(tiny: Tiny, begun: RunFolder) -> None:
    assert train_run(tiny(steps=3, parallel="ddp"), begun)["status"] == "done"


def test_another_text_under_the_same_name_is_refused(tiny: Tiny, begun: RunFolder) -> None:
    run = tiny(steps=3)
    text = text_of(run)
    facts = {**text.facts, "hash": "0" * 16, "bytes": 7}
    with pytest.raises(UserError, match=r"was begun on another text; .* has changed since") as refused:
        train_run(run, begun, text=dataclasses.replace(text, facts=facts))
    assert f"data.hash: {text.facts['hash']} -> {'0' * 16}" in str(refused.value)
    assert f"data.bytes: {text.facts['bytes']} -> 7" in str(refused.value)


def test_another_tokenizer_under_the_same_description_is_refused(tiny: Tiny, begun: RunFolder) -> None:
    run = tiny(steps=3)
    text = text_of(run)
    facts = {**text.facts, "tokenizer_hash": "f" * 16}
    with pytest.raises(UserError, match=r"was begun with another tokenizer") as refused:
        train_run(run, begun, text=dataclasses.replace(text, facts=facts))
    assert f"data.tokenizer_hash: {text.facts['tokenizer_hash']} -> {'f' * 16}" in str(refused.value)


def test_a_description_that_was_edited_in_the_folder_is_refused(tiny: Tiny, begun: RunFolder) -> None:
    file = begun.path / "spec.json"
    fields = json.loads(file.read_text())
    file.write_text(json.dumps(fields | {"layers": 3}))
    with pytest.raises(UserError, match=r"model\.layers: 3 -> 2"):
        train_run(tiny(steps=3), begun)


def test_a_run_of_an_earlier_version_goes_on(tiny: Tiny, begun: RunFolder) -> None:
    """Fields that its run.json does not have yet say nothing."""
    file = begun.path / "run.json"
    fields = json.loads(file.read_text())
    del fields["data_spec"], fields["train"]["parallel"], fields["train"]["on_bad_loss"]
    file.write_text(json.dumps(fields))
    assert not differences(begun.read_json("run.json"), begun.read_json("spec.json"), resolve(tiny(steps=3)))
    assert train_run(tiny(steps=3), begun)["status"] == "done"
