"""A study from its description to its report, and the plan before it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from assay.errors import UserError
from assay.spec.study import StudySpec
from assay.studies import Study, compare, describe, plan
from assay.studies.compare import prepare
from assay.studies.plan import matmul_rate, step_flops
from assay.training.accounting import FlopMeter
from assay.training.setup import first_count, make_loader
from assay.training.text import load_text, resolve

Small = Callable[..., StudySpec]


@pytest.mark.slow
def test_a_study_ends_with_results_table_and_report_and_resumes(small: Small, tmp_path: Path) -> None:
    study = compare(small(seeds=2), out=tmp_path, workers=2)
    assert not study.failures and len(study.runs) == 4
    assert study.report.is_file()
    table = study.table()
    assert table["norm"].to_list() == ["layernorm", "rmsnorm"]
    assert table["seeds"].to_list() == [2, 2] and table["failures"].to_list() == [0, 0]
    values = [[run.result["bits_per_byte"] for run in study.runs[i : i + 2]] for i in (0, 2)]
    assert table["bits_per_byte"].to_list() == pytest.approx([sum(v) / 2 for v in values])
    row = table.row(0, named=True)
    assert row["low"] < row["bits_per_byte"] < row["high"] and row["peak_bytes"] > 0
    # The same again does nothing; more seeds do what is missing.
    again = compare(out=tmp_path, resume=True, seeds=3, workers=2)
    assert [o.status for o in again.outcomes].count("reused") == 4
    assert again.table()["seeds"].to_list() == [3, 3]
    assert Study(tmp_path).spec == again.spec


def test_bad_input_is_told_before_anything_starts(small: Small, source: Path, tmp_path: Path) -> None:
    cases = [
        ({"budget": 10.0}, "budget = 10 FLOPs"),
        ({"data": tmp_path / "nothing"}, "nothing"),
        ({"vary": ["family=encoder"]}, "family = encoder cannot run"),
        ({"vary": ["attention.heads=3"]}, "attention.heads = 3 cannot run"),
        ({"vary": ["norms=layer"]}, "no such axis"),
    ]
    for changes, message in cases:
        with pytest.raises(UserError, match=message):
            compare(small(), out=tmp_path / "out", workers=1, **changes)
        assert not (tmp_path / "out" / "runs").exists()
    with pytest.raises(UserError, match="no study to resume"):
        compare(out=tmp_path / "empty", resume=True)


def test_runs_of_a_text_that_has_changed_are_not_mixed_in(small: Small, source: Path, tmp_path: Path) -> None:
    from assay.runs import StudyFolder
    from assay.training.loop import train_run

    text = tmp_path / "t.txt"
    text.write_text(source.read_text())
    runs = describe(small(vary={}), data=text).runs()
    study = StudyFolder(tmp_path / "out")
    train_run(runs[0], study.run(runs[0].hash))
    prepare(runs, study)
    text.write_text(source.read_text() + "more words\n")
    with pytest.raises(UserError, match="made on another text"):
        prepare(runs, study)


def test_changes_to_a_study(small: Small, tmp_path: Path) -> None:
    base = small()
    (tmp_path / "s.toml").write_text(base.to_toml())
    spec = describe(tmp_path / "s.toml", vary={"layers": [1, 2]}, seeds=5, budget=1e9, batch_size=4)
    assert spec.vary == {"layers": (1, 2)} and spec.seeds == 5
    assert (spec.train.budget, spec.train.steps, spec.train.batch_size) == (1e9, None, 4)
    assert spec.data == base.data and spec.model == base.model
    assert describe() == StudySpec()
    assert describe(vary="norm=rms").vary == {"norm": ("rmsnorm",)}


def test_a_plan_counts_runs_steps_and_time_without_training(small: Small) -> None:
    study = small(vary={"family": ["causal", "prefix", "encoder_decoder"]}, seeds=2)
    told = plan(study, workers=2, rate=1e9)
    assert told["runs"] == 6 and [row["name"] for row in told["rows"]] == ["causal", "prefix", "encoder_decoder"]
    for row, runs in zip(told["rows"], (study.runs()[i : i + 2] for i in (0, 2, 4)), strict=True):
        assert row["runs"] == [run.hash for run in runs] and row["seeds"] == 2
        assert row["parameters"] == int(resolve(runs[0]).model.parameters())
        assert row["steps"] == 3 and row["seconds"] > 0 and row["flops_per_token"] > 0
    assert told["seconds"] == pytest.approx(sum(2 * row["seconds"] for row in told["rows"]) / 2)
    twice = plan(small(vary={}, steps=6), workers=1, rate=1e9)["rows"][0]
    assert twice["flops"] == pytest.approx(2 * plan(small(vary={}), workers=1, rate=1e9)["rows"][0]["flops"])


@pytest.mark.parametrize("family", ["causal", "prefix", "encoder_decoder"])
def test_planned_flops_are_near_the_counted_ones(small: Small, family: str) -> None:
    run = resolve(small(vary={"family": [family]}, batch_size=64).runs()[0])
    counted = first_count(make_loader(run, load_text(run.data)), FlopMeter(run.model)).flops
    assert step_flops(run)[0] == pytest.approx(counted, rel=0.1)


def test_the_matmul_rate_is_that_of_a_machine() -> None:
    assert 1e8 < matmul_rate() < 1e13
