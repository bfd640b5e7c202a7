import json
import math
from pathlib import Path

import pytest
from tests.report.synthetic import grid, row, write_run, write_study

from assay.errors import UserError
from assay.report.rows import Pair, aggregate, differences, effects, results, write_results
from assay.report.study import load
from assay.runs import RunFolder, StudyFolder
from assay.spec.study import StudySpec


def named(pairs: list[Pair]) -> dict[tuple[str, str], Pair]:
    return {(pair.first.name, pair.second.name): pair for pair in pairs}


def test_rows_come_in_the_study_s_order_with_means_over_seeds(study_folder: Path) -> None:
    rows = aggregate(study_folder)
    assert [r.name for r in rows] == ["causal", "prefix", "encoder_decoder"]
    runs = [run for run in load(study_folder).combinations[0].finished]
    values = [json.loads((study_folder / "runs" / run.name / "DONE").read_text())["bits_per_byte"] for run in runs]
    bits = rows[0].bits_per_byte
    assert bits is not None and bits.estimate == pytest.approx(sum(values) / 3)
    assert bits.low < bits.estimate < bits.high and bits.n == 3
    assert rows[0].seeds == [0, 1, 2]


def test_what_is_counted_is_taken_from_the_runs(study_folder: Path) -> None:
    causal, prefix, _ = aggregate(study_folder)
    done = load(study_folder).combinations[0].finished[0].result
    assert causal.supervised_tokens_per_flop == pytest.approx(done["supervised_tokens"] / done["flops"])
    assert prefix.supervised_tokens_per_flop == pytest.approx(causal.supervised_tokens_per_flop / 2, rel=0.05)
    assert causal.parameters == done["parameters"]
    assert causal.total_parameters == sum(done["parameters"].values())
    assert causal.peak_bytes == done["peak_bytes"]


def test_failed_and_unfinished_runs_are_named_and_leave_the_numbers_alone(tmp_path: Path) -> None:
    study = write_study(tmp_path, StudySpec.from_dict({"vary": {"placement": ["pre", "post"]}, "seeds": 3}))
    before = aggregate(tmp_path)
    failing, stopped = [run for run in study.runs() if run.labels["placement"] == "post"][:2]
    for run in (failing, stopped):
        (tmp_path / "runs" / run.hash / "DONE").unlink()
    RunFolder(tmp_path / "runs" / failing.hash).mark_failed("loss is NaN at step 12")
    pre, post = aggregate(tmp_path)
    assert pre == before[0]
    assert post.seeds == [2] and post.unfinished == [1]
    assert [(f["seed"], f["reason"]) for f in post.failures] == [(0, "loss is NaN at step 12")]
    assert post.bits_per_byte is not None and math.isinf(post.bits_per_byte.high)


def test_a_run_whose_loss_is_not_finite_counts_as_diverged(tmp_path: Path) -> None:
    study = write_study(tmp_path, StudySpec.from_dict({"vary": {"placement": ["pre"]}, "seeds": 2}))
    folder = RunFolder(tmp_path / "runs" / study.runs()[0].hash)
    folder.mark_done({**folder.result, "bits_per_byte": math.nan})
    (only,) = aggregate(tmp_path)
    assert only.seeds == [1]
    assert "diverged" in only.failures[0]["reason"]


@pytest.mark.parametrize("file", ["run.json", "spec.json", "DONE", "metrics.jsonl"])
def test_a_damaged_run_does_not_hide_the_others(study_folder: Path, file: str) -> None:
    run = load(study_folder).combinations[0].finished[0]
    (study_folder / "runs" / run.name / file).write_text("{broken\n{}\n")
    rows = aggregate(study_folder)
    assert rows[0].seeds == [1, 2]
    assert [len(r.failures) for r in rows] == [1, 0, 0]
    assert "damaged" in rows[0].failures[0]["reason"]


def test_a_torn_last_line_of_metrics_costs_nothing(study_folder: Path) -> None:
    run = load(study_folder).combinations[0].finished[0]
    with (study_folder / "runs" / run.name / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "st')
    assert [len(r.seeds) for r in aggregate(study_folder)] == [3, 3, 3]


def test_runs_of_another_study_in_the_folder_are_left_out(study_folder: Path) -> None:
    other = StudySpec.from_dict({"vary": {"norm": ["layernorm"]}, "seeds": 1}).runs()[0]
    write_run(StudyFolder(study_folder).run(other.hash), other, 2.0)
    data = load(study_folder)
    assert data.strangers == 1
    assert [c.name for c in data.combinations] == ["causal", "prefix", "encoder_decoder"]


def test_without_study_toml_the_runs_say_enough(study_folder: Path) -> None:
    before = {r.name: r.by_seed for r in aggregate(study_folder)}
    (study_folder / "study.toml").unlink()
    assert {r.name: r.by_seed for r in aggregate(study_folder)} == before


def test_a_folder_without_finished_runs_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        aggregate(tmp_path / "nothing")
    with pytest.raises(UserError, match="assay compare --out"):
        aggregate(tmp_path)
    write_study(tmp_path, StudySpec.from_dict({"vary": {"placement": ["pre"]}, "seeds": 1}), until=0.5)
    with pytest.raises(UserError, match=r"no run is finished \(1 unfinished\).*--resume"):
        aggregate(tmp_path)


def test_results_are_plain_json_that_reads_back(study_folder: Path) -> None:
    path = write_results(study_folder)
    read = StudyFolder(study_folder).results
    assert path.name == "results.json"
    assert read == results(study_folder)
    assert read["rows"][0]["labels"] == {"family": "causal"}
    assert len(read["differences"]) == 3


def test_differences_are_paired_by_seed() -> None:
    base = [2.0, 2.5, 3.0]
    (pair,) = differences(
        [row("b", [v + 0.1 + e for v, e in zip(base, (0, 0.001, -0.001), strict=True)]), row("a", base)]
    )
    assert (pair.first.name, pair.second.name) == ("a", "b")
    assert pair.difference.estimate == pytest.approx(-0.1)
    assert pair.apart  # far apart within each pair, though the seeds differ by far more
    (swapped,) = differences([row("a", base), row("b", [2.6, 3.1, 2.1])])
    assert not swapped.apart


def test_two_seeds_tell_nothing_apart() -> None:
    (pair,) = differences([row("a", [2.0, 2.0]), row("b", [3.0, 3.001])])
    assert not pair.apart and pair.verdict == "too few seeds (2)"


def test_seeds_that_one_side_lacks_are_left_out_of_the_pair() -> None:
    a, b = row("a", [2.0, 2.1, 2.2, 9.0]), row("b", [2.5, 2.6, 2.71])
    (pair,) = differences([a, b])
    assert pair.difference.n == 3
    assert abs(pair.difference.estimate) == pytest.approx(0.5, abs=0.01)


def test_many_pairs_ask_for_more_than_one_pair_does() -> None:
    shift = {"a": 0.0, "b": 0.1}
    noise = (0.0, 0.012, -0.012)
    pair_rows = [row(n, [2 + s + e * s * 10 for e in noise]) for n, s in shift.items()]
    assert named(differences(pair_rows))["a", "b"].verdict == "told apart"
    many = pair_rows + [row(f"c{i}", [2.05 + i / 50 + e * (-1) ** i for e in (0.03, -0.02, 0.01)]) for i in range(6)]
    pair = named(differences(many))["a", "b"]
    assert 0 not in pair.difference and pair.verdict == "only as a single pair"


def test_equal_runs_are_not_told_apart() -> None:
    (pair,) = differences([row("a", [2.0, 2.1, 2.2]), row("b", [2.0, 2.1, 2.2])])
    assert pair.p == 1 and not pair.apart


def test_effects_average_over_the_other_axes_within_a_seed() -> None:
    found = effects(grid())
    (placement,) = found["placement"]
    assert (placement.first.name, placement.second.name) == ("pre", "post")
    assert placement.first.by_seed == pytest.approx({0: 2.005, 1: 2.1, 2: 2.2})
    assert placement.apart and placement.difference.n == 3
    (norm,) = found["norm"]
    assert not norm.apart


def test_effects_use_settings_that_all_values_finished() -> None:
    rows = grid()
    rows[3].by_seed.clear()
    found = effects(rows)
    assert found["placement"][0].first.by_seed == rows[0].by_seed  # only layernorm has both placements


def test_one_axis_has_no_effects_besides_its_pairs(study_folder: Path) -> None:
    assert effects(aggregate(study_folder)) == {}
