"""The folder of a study."""

from pathlib import Path

import pytest

from assay.errors import UserError
from assay.runs import StudyFolder


def test_a_study_knows_its_runs(tmp_path: Path) -> None:
    study = StudyFolder(tmp_path / "out")
    assert study.runs() == []
    study.write_study('name = "x"\n')
    for name in ("b", "a", "c"):
        study.run(name).write_json("run.json", {"seed": 0})
    (study.path / "runs" / "empty").mkdir()  # a folder in which no run began
    study.run("b").mark_done({"loss": 1})
    study.write_results({"loss": [1.5]})
    again = StudyFolder.open(study.path)
    assert [run.name for run in again.runs()] == ["a", "b", "c"]
    assert [run.name for run in again.done()] == ["b"]
    assert [run.name for run in again.unfinished()] == ["a", "c"]
    assert again.study_toml == 'name = "x"\n'
    assert again.results == {"loss": [1.5]}
    assert again.report == study.path / "report.html"


def test_a_folder_without_runs_is_refused_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there are no runs here .*assay compare --out DIR"):
        StudyFolder.open(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        StudyFolder.open(tmp_path / "none")


def test_a_run_given_as_a_study_names_the_study(tmp_path: Path) -> None:
    run = StudyFolder(tmp_path).run("abc")
    run.write_json("run.json", {})
    with pytest.raises(UserError, match="one run, not a study") as caught:
        StudyFolder.open(run.path)
    assert str(tmp_path.resolve()) in str(caught.value)


def test_missing_parts_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"results\.json: no such file"):
        _ = StudyFolder(tmp_path).results
    with pytest.raises(UserError, match=r"study\.toml: cannot be read"):
        _ = StudyFolder(tmp_path).study_toml
