"""The benchmark of seeds trained together: it compares equal runs before it times them, and its results say how."""

import math
from pathlib import Path
from typing import Any

import pytest
from benchmarks.together import APART, FIRST, OURS, STEPS, THEIRS, apart, compare, crews, picture, result_of, runs_of
from tests.training.conftest import sample_text

from assay.training.text import load_text

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = {"layers": 1, "batch": 2, "length": 16, "vocabulary": 256}


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "text.txt"
    path.write_text(sample_text(), encoding="utf-8")
    return str(path)


def test_both_sides_do_the_same_steps_and_the_result_says_how(source: str) -> None:
    found = compare(16, 2, 0.0, source=source, **SIZES)
    assert len(found["times"][OURS]) == len(found["times"][THEIRS]) >= 5 and found["missing"] == 0
    assert found["steps"] == FIRST + STEPS * (len(found["times"][OURS]) + 1)  # one warms up
    assert all(share < APART[name] for name, share in found["apart"].items()) and found["auto"]
    result = result_of(found, "tiny")
    assert [(row.who, row.kind) for row in result.rows] == [(OURS, "assay"), (THEIRS, "peer")]
    assert result.best_peer is result.rows[1] and all(check.passed for check in result.checks)
    assert [target.what for target in result.targets] == [f"times {THEIRS}"]
    drawn = [(row["series"], row["x"]) for row in picture([found, {**found, "width": 32}])["rows"]]
    assert drawn == [("2 seeds", 16), ("2 seeds", 32), ("as fast", 16), ("as fast", 32)]


def test_what_is_not_equal_or_not_done_does_not_pass() -> None:
    found: dict[str, Any] = {
        "width": 512, "members": 2, "times": {OURS: [1.0], THEIRS: [1.0]}, "steps": 9, "missing": 3,
        "apart": {"loss": math.nan, "grad_norm": 1.0}, "flops": 9e9, "auto": False,
    }  # fmt: skip
    result = result_of(found, "tiny")
    assert not any(check.passed for check in result.checks) and len(result.checks) == 3
    assert not result.targets and "leaves each run of this size alone" in result.notes[0]


def test_another_seeds_steps_are_seen(source: str) -> None:
    """The control: losses and gradients of one seed, held against the other's, are far outside of what passes."""
    runs = runs_of(16, 2, source=source, **SIZES)
    with crews(runs, load_text(runs[0].data)) as (_, alone, rows):
        for crew in alone:
            crew.step()
        own, other = apart(rows[2:], rows[2:]), apart(rows[2:], rows[:1:-1])
    assert not any(own.values())
    assert all(share > 4 * APART[name] for name, share in other.items())
    assert math.isnan(apart([{**rows[2], "loss": math.nan}], rows[2:3])["loss"])
