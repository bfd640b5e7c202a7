from pathlib import Path

from tests.report.synthetic import grid, row, write_study

from assay.report.findings import axis_findings, compared, failures, headline, held_equal, matching, state
from assay.report.rows import Row, aggregate, differences, effects
from assay.report.study import load
from assay.runs import RunFolder
from assay.spec.study import StudySpec


def said(rows: list[Row]) -> str:
    by_axis = effects(rows)
    return " ".join([*headline(rows, differences(rows), several=bool(by_axis)), *axis_findings(by_axis)])


def test_a_clear_winner_is_named_with_its_distance() -> None:
    text = said([row("far", [2.4, 2.52, 2.6]), row("near", [2.0, 2.1, 2.2])])
    assert text.startswith("near has the lowest held-out loss, 2.100 bits per byte [1.852, 2.348]: 0.407 [")
    assert text.endswith("below far.")


def test_overlap_is_said_to_be_overlap() -> None:
    text = said([row("a", [2.0, 2.1, 2.2]), row("b", [2.05, 2.06, 2.21])])
    assert "a has the lowest mean" in text
    assert "is not told apart from b (0.007 [" in text and "at 3 seeds" in text


def test_two_seeds_are_said_to_be_too_few() -> None:
    text = said([row("a", [2.0, 2.0]), row("b", [3.0, 3.1])])
    assert "2 shared seeds are too few" in text and "told apart" not in text


def test_one_combination_is_reported_alone() -> None:
    assert said([row("a", [2.0, 2.1, 2.2])]) == "a reaches 2.100 bits per byte [1.852, 2.348] over 3 seeds."
    assert said([row("a", [2.0]), Row({"x": "b"}, [])]).endswith("finished run to compare with.")


def test_mixed_verdicts_name_both_sides() -> None:
    text = said([row("a", [2.0, 2.1, 2.2]), row("b", [2.05, 2.06, 2.21]), row("c", [3.0, 3.101, 3.2])])
    assert "not told apart from b" in text
    assert "told apart from the rest: 1.000 [" in text and "below c" in text


def test_axes_are_told_one_by_one() -> None:
    text = said(grid())
    assert "By norm: " in text and "is not told apart from" in text
    assert "By placement: pre is lowest, 0.4" in text


def test_what_is_equal_is_measured(study_folder: Path) -> None:
    held = {item.what: item for item in held_equal(aggregate(study_folder), load(study_folder))}
    assert held["Training FLOPs a run"].equal and "3.00 × 10¹²" in held["Training FLOPs a run"].said
    assert not held["Training FLOPs per input token"].equal
    assert "encoder_decoder" in held["Training FLOPs per input token"].said
    assert held["Data"].equal


def test_matching_is_told_where_there_is_something_to_match(study_folder: Path, tmp_path: Path) -> None:
    assert "match = parameters" in matching(load(study_folder))
    write_study(tmp_path / "flops", StudySpec.from_dict({"match": "flops", "seeds": 1}))
    assert "match = flops" in matching(load(tmp_path / "flops"))
    write_study(tmp_path / "one", StudySpec.from_dict({"vary": {"placement": ["pre"]}, "seeds": 1}))
    assert matching(load(tmp_path / "one")) == ""


def test_state_and_failures_name_every_run(tmp_path: Path) -> None:
    study = write_study(tmp_path, StudySpec.from_dict({"vary": {"placement": ["pre", "post"]}, "seeds": 2}))
    bad = study.runs()[3]
    (tmp_path / "runs" / bad.hash / "DONE").unlink()
    RunFolder(tmp_path / "runs" / bad.hash).mark_failed("worker died")
    data = load(tmp_path)
    assert state(data) == "3 of 4 runs finished, 1 failed"
    assert failures(data) == [("post", 1, bad.hash, "worker died")]
    assert compared(data) == "placement: pre, post. 2 seeds of each combination."
