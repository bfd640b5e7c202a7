"""The suite: budgets, a failure that ends nothing, parts kept on resume, and the report of synthetic results."""

import json
from pathlib import Path

import pytest
from benchmarks.result import Check, Result, Row, Spread
from benchmarks.suite import JOBS, Job, load, perform, save

from benchmarks import __main__ as front
from benchmarks import page


def made(name: str = "made") -> Result:
    result = Result(name, f"Work {name}", "training", "tiny", "ms", rounds=3, limit="the best product")
    result.rows = [
        Row("assay", "assay", Spread(10, 9, 11), None, 0.8),
        Row("peer <b>", "peer", Spread(20, 19, 22), Spread(2, 1.9, 2.1), 0.4),
        Row("limit", "limit", Spread(8, 8, 8), None, 1.0),
        Row("Liger-Kernel", "peer", cannot="needs a GPU"),
    ]
    result.aim_at_best(1.5)
    result.aim_at_limit("assay", 0.9)
    result.checks = [Check("loss", 1e-7, 1e-5)]
    return result


def test_the_default_fits_fifteen_minutes() -> None:
    assert sum(job.budget for job in JOBS) <= 900
    assert len({job.name for job in JOBS}) == len(JOBS)


def test_a_benchmark_that_fails_becomes_a_result_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job("broken", "something broken", "benchmarks.no_such_module", 1, 1, (1, 1))
    (result,) = perform(job, 0.1, False)
    assert "no_such_module" in result.failed and result.facts["job"] == "broken"


def test_parts_are_kept_only_with_the_same_settings_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    assert not front.finished(path, {"seconds": 1.0})
    save(path, [made()], {"seconds": 1.0})
    assert front.finished(path, {"seconds": 1.0}) and not front.finished(path, {"seconds": 2.0})
    path.write_text("{", encoding="utf-8")
    assert not front.finished(path, {"seconds": 1.0})
    with pytest.raises(ValueError):
        load(path)


def test_ctrl_c_keeps_what_is_done_and_a_failed_part_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = JOBS[:3]

    def part(job: Job, path: Path, seconds: float, long: bool, most: float) -> None:
        if job is jobs[2]:
            raise KeyboardInterrupt
        failed = Result(job.name, job.title, "failed", "", "", failed="it broke")
        save(path, [failed if job is jobs[0] else made(job.name)], {"seconds": seconds, "long": long})

    monkeypatch.setattr(front, "part", part)
    names = ",".join(job.name for job in jobs)
    assert front.main(["--only", names, "--out", str(tmp_path)]) == 130
    data = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert [result["name"] for result in data["results"]] == [jobs[0].name, jobs[1].name]
    assert "--resume" in capsys.readouterr().err


def test_report_of_synthetic_results(tmp_path: Path) -> None:
    save(tmp_path / "results" / "training.json", [made()], {"seconds": 1.0, "long": False})
    text = page.write(tmp_path).read_text(encoding="utf-8")
    for said in ("1 of 2 targets", "Liger-Kernel", "needs a GPU", "peer &lt;b&gt;", "missed", "not run"):
        assert said in text, said
    assert "peer <b>" not in text
    assert "https://" not in text.replace("http://www.w3.org", "") or "src=" not in text


def test_numbers_that_are_not_equal_are_warned_of(tmp_path: Path) -> None:
    result = made()
    result.checks = [Check("loss", 1.0, 1e-5)]
    save(tmp_path / "results" / "training.json", [result], {})
    assert any("not equal: loss" in warning for warning in page.collect(tmp_path)[1])
