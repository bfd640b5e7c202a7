"""`assay.train` from Python."""

from pathlib import Path

import pytest
import torch

from assay.errors import UserError
from assay.evaluation.continuation import continuation
from assay.spec.model import ModelSpec
from assay.spec.training import TrainSpec
from assay.training import Run, train
from assay.training.api import make_run
from assay.training.setup import curve_windows
from assay.training.text import load_text

SMALL = {"width": 16, "layers": 1, "attention": {"heads": 2}}


def test_train_gives_a_run_with_metrics_result_and_model(source: Path, tmp_path: Path) -> None:
    data = {"source": str(source), "tokenizer": "bytes"}
    run = train(SMALL, data, out=tmp_path / "run", steps=3, batch_size=2, length=32, learning_rate=1e-3, seed=3)
    assert run.status == "done" and run.result["steps"] == 3
    assert [row["step"] for row in run.metrics if row["kind"] == "train"] == [1, 2, 3]
    again = Run(tmp_path / "run")
    model = again.model()
    text = load_text(make_run(SMALL, data).data)
    found = continuation(model, curve_windows(text), text.tokenizer.vocabulary)
    assert found.bits_per_byte == run.result["bits_per_byte"], "the weights are those that were measured"
    about = run.folder.read_json("run.json")
    assert about["seed"] == 3 and about["train"]["optimizer"]["learning_rate"] == 1e-3
    assert about["objective"]["kind"] == "causal_lm"


def test_models_come_as_values_fields_or_files(tmp_path: Path) -> None:
    spec = ModelSpec.from_dict(SMALL | {"family": "prefix"})
    (tmp_path / "m.toml").write_text(spec.to_toml())
    (tmp_path / "m.json").write_text(spec.to_json())
    hashes = {make_run(given).hash for given in (spec, spec.to_dict(), tmp_path / "m.toml", str(tmp_path / "m.json"))}
    assert len(hashes) == 1
    assert make_run(spec).objective.kind == "prefix_lm"
    with pytest.raises(UserError, match="m.txt"):
        make_run("m.txt")


def test_budget_and_steps_replace_each_other() -> None:
    assert make_run(SMALL).train.budget == 3e12
    assert make_run(SMALL, budget=1e9).train.budget == 1e9
    assert make_run(SMALL, steps=5).train.steps == 5
    changed = make_run(SMALL, train=TrainSpec(budget=1e9, batch_size=2), steps=7).train
    assert (changed.steps, changed.budget, changed.batch_size) == (7, None, 2)
    with pytest.raises(UserError, match="both given"):
        make_run(SMALL, steps=5, budget=1e9)
    with pytest.raises(UserError, match="batch_sise.*batch_size"):
        make_run(SMALL, batch_sise=3)


def test_unfinished_runs_say_so(source: Path, tmp_path: Path) -> None:
    data = {"source": str(source), "tokenizer": "bytes"}
    run = train(SMALL, data, out=tmp_path, steps=3, batch_size=2, length=32, stop=lambda: True)
    assert run.status == "unfinished"
    with pytest.raises(UserError, match="not finished"):
        _ = run.result
    assert isinstance(run.model(), torch.nn.Module)
