"""The benchmark of seeds trained together: it compares equal runs, and its rows say how."""

from pathlib import Path

import torch
from benchmarks.together import DRIFT, STEPS, compare, result_of
from tests.training.conftest import sample_text

SIZES = {"layers": 1, "batch": 2, "length": 16, "vocabulary": 256}


def test_both_sides_do_the_same_steps(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    (tmp_path / "text.txt").write_text(sample_text(), encoding="utf-8")
    found = compare(16, 2, 0.0, source=str(tmp_path / "text.txt"), **SIZES)
    assert len(found["times"]["together"]) == len(found["times"]["apart"]) >= 5
    assert found["steps"] == STEPS * (len(found["times"]["together"]) + 1)  # one warms up
    assert found["drift"] < DRIFT and found["flops"] > 0
    result = result_of([found], "tiny")
    assert [row.kind for row in result.rows] == ["assay", "other"]
    assert result.rows[1].ratio is not None and all(check.passed for check in result.checks)
    found["drift"] = 1.0
    assert not result_of([found], "tiny").checks[0].passed
